"""The tree of modules: which modules a module contains, and where."""

from collections.abc import Iterator
from typing import Protocol, Self, TypeVar

from dspex.language.programs import ROOT, ModulePath


class TreeNode(Protocol):
    """A node with parts of the same kind. Reading the parts changes nothing."""

    def children(self) -> Iterator[tuple[str, Self]]:
        """Yield (relative path, part)."""
        ...


N = TypeVar("N", bound=TreeNode)


def walk(root: N, path: ModulePath = ROOT) -> Iterator[tuple[ModulePath, N]]:
    """Yield (path, node) for the root, which is at `path`, and its descendants, each once."""
    visited: set[int] = set()

    def visit(path: ModulePath, node: N) -> Iterator[tuple[ModulePath, N]]:
        if id(node) in visited:
            return
        visited.add(id(node))
        yield path, node
        for name, child in node.children():
            yield from visit(path.child(name), child)

    yield from visit(path, root)


def parts_in(
    attribute: str, value: object, kind: type[N], *, above: tuple[int, ...] = ()
) -> Iterator[tuple[str, N]]:
    """Yield (relative path, part) for the parts in an attribute, or in lists and dicts there.

    `above` are the ids of the containers around `value`, because they may contain themselves.
    """
    if isinstance(value, kind):
        yield attribute, value
    elif isinstance(value, list | tuple | dict) and id(value) not in above:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            yield from parts_in(f"{attribute}[{key!r}]", item, kind, above=(*above, id(value)))
