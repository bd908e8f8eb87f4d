import re
from pathlib import Path

from dspex.language.signatures.kinds import FORMATS, KINDS
from dspex.language.signatures.schema_reader import FOREIGN_TYPES

PAGE = Path(__file__).parents[2] / "docs" / "signatures.md"


def test_every_block_of_the_page_runs_in_order(capsys):
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) > 8
    space = {"__name__": "signatures_page"}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), space)  # noqa: S102  # the page is ours
    message = "Did you mean 'max_length'?"
    assert message in capsys.readouterr().out


def test_the_page_lists_every_type_constraint_format_and_foreign_word():
    rows = {}
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if len(cells) == 5 and cells[0] in {"Basic", "ML", "Composite", "Media"}:
            rows[cells[1].strip("`")] = (cells[3], re.findall(r"`(\w+)`", cells[4]))
    forms = {
        "list": "list[T]",
        "dict": "dict[K, V]",
        "union": "A \\| B",
        "object": "Name{member: T}",
        "tuple": "tuple[A, B]",
    }
    expected = {
        forms.get(kind, kind): (row.text, list(row.constraints))
        for kind, row in KINDS.items()
        if kind != "ref"
    }
    assert rows == expected
    text = PAGE.read_text()
    assert all(f"`{word}`" in text for word in [*FORMATS, *filter(None, FOREIGN_TYPES)])
