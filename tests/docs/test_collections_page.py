"""The page on stored collections: its commands print what it says."""

from pathlib import Path

import pytest

from tests.support.tour import printed, steady

PAGE = Path(__file__).parents[2] / "docs" / "collections.md"


@pytest.mark.full
def test_every_step_prints_what_the_page_says(tmp_path: Path) -> None:
    steps = list(printed(PAGE, tmp_path))
    assert len(steps) == 1
    for step, output in steps:
        assert steady(output) == steady(step["output"])
