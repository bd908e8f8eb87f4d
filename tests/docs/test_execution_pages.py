"""The pages on modules, agents and clients: every block runs, in order."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.mark.parametrize("page", ["modules.md", "agents.md", "clients.md", "models-and-routing.md"])
def test_every_block_of_the_page_runs_in_order(page):
    blocks = re.findall(
        r"```python\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL
    )
    assert len(blocks) >= 3
    names: dict[str, object] = {"__name__": "a_page"}
    for block in blocks:
        exec(compile(block, page, "exec"), names)  # noqa: S102  # a page of ours
