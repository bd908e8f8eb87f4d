"""The tour of the server.

Every command runs against a started server, and prints what the page says.
"""

import tempfile
from pathlib import Path

import pytest

from tests.support.tour import printed, rewrite, steady

PAGE = Path(__file__).parents[2] / "docs" / "server.md"


@pytest.mark.full
def test_every_step_prints_what_the_page_says(tmp_path: Path) -> None:
    """After a deliberate change.

    Python -m tests.docs.test_server_page, in a shell without settings of dspex.
    """
    for step, output in printed(PAGE, tmp_path):
        assert step["output"] is None or steady(output) == steady(step["output"]), step["code"]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        rewrite(PAGE, list(printed(PAGE, Path(made))))
