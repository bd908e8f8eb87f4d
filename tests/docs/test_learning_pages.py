import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", ["variables", "evaluate", "optimize", "custom-optimizer"])
def test_every_block_of_the_page_runs_in_order(name):
    if name == "optimize":
        pytest.importorskip("optuna")
    page = DOCS / f"{name}.md"
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    assert len(blocks) >= 4
    space = {"__name__": f"{name}_page"}
    for block in blocks:
        exec(compile(block, str(page), "exec"), space)  # noqa: S102  # the page is ours
