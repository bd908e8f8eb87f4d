"""The files of the package and their syntax trees, each parsed once."""

import ast
from functools import cache
from pathlib import Path

import dspex

SOURCE = Path(dspex.__file__).parent
TESTS = Path(__file__).resolve().parents[1]
FILES = sorted(
    file
    for file in SOURCE.rglob("*.py")
    if "templates" not in file.parts  # projects of users
)


@cache
def tree_of(file: Path) -> ast.Module:
    """Return the syntax tree of `file`."""
    return ast.parse(file.read_text(encoding="utf-8"))


@cache
def nodes_of(file: Path) -> tuple[ast.AST, ...]:
    """Return all nodes of the syntax tree of `file`."""
    return tuple(ast.walk(tree_of(file)))
