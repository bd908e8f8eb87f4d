"""Examples, README and documentation import public names only."""

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import dspex

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLES = sorted((ROOT / "examples").rglob("*.py"))
BLOCK = re.compile(r"```python[^\n]*\n(.*?)```", re.DOTALL)
ROOMS = {"dspex", *(f"dspex.{room}" for room in dspex.ROOMS)}
# only shrinks: what has no public room yet
EXCEPTIONS = {
    "docs/executions.md": {"dspex.bootstrap", "dspex.settings"},
    "examples/own_resource/tickets.py": {"dspex.operations"},
}


def imports(code: str) -> Iterator[tuple[str, str]]:
    """Yield (module, name) for each import from dspex; the name is empty for a whole module."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield from ((node.module or "", alias.name) for alias in node.names)


def is_public(module: str, name: str) -> bool:
    """Whether a room lists the name; the modules of `dspex.testing` are public, too."""
    if module.partition(".")[0] != "dspex" or module.startswith("dspex.testing."):
        return True
    if module not in ROOMS:
        return False
    room = importlib.import_module(module)
    return not name or name in room.__all__ or f"{module}.{name}" in ROOMS


@pytest.mark.parametrize("file", [*PAGES, *EXAMPLES], ids=lambda file: str(file.relative_to(ROOT)))
def test_page_or_example_imports_public_names_only(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    blocks = BLOCK.findall(text) if file.suffix == ".md" else [text]
    hidden = {
        ".".join(module.split(".")[:2])
        for block in blocks
        for module, name in imports(block)
        if not is_public(module, name)
    }
    assert hidden == EXCEPTIONS.get(str(file.relative_to(ROOT)), set())
