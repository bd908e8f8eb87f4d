"""One module of a program, as data."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Union

from dspex.error_text import shorten
from dspex.errors import DefinitionError
from dspex.language.signatures import Signature

Children = Union["Node", tuple["Node", ...], Mapping[str, "Node"]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One module: its kind, signature and configuration, and its children by attribute.

    `kind` is a registered name ("predict"), or "python" for a module class that is imported, with
    `config` = {target, init, source_hash}. `backend` is where the node runs; `id` is its path in
    the program.
    """

    id: str
    kind: str
    signature: Signature | None = None
    backend: str = "native"
    config: Mapping[str, Any] = field(default_factory=dict)
    children: Mapping[str, Children] = field(default_factory=dict)

    def walk(self) -> Iterator["Node"]:
        """Yield this node and its descendants, parents first."""
        yield self
        for child in self.children.values():
            for node in _each(child):
                yield from node.walk()

    def to_dict(self) -> dict[str, Any]:
        """Return the node as JSON-ready data without empty parts."""
        data: dict[str, Any] = {"id": self.id, "kind": self.kind, "backend": self.backend}
        if self.signature is not None:
            data["signature"] = self.signature.to_dict()
        if self.config:
            data["config"] = dict(self.config)
        if self.children:
            data["children"] = {
                name: _child_to_data(child) for name, child in self.children.items()
            }
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Node":
        """Read what `to_dict` wrote.

        Raises:
            DefinitionError: `data` was not written by it.
        """
        if not isinstance(data, Mapping) or "kind" not in data or "id" not in data:
            raise DefinitionError(f"a node needs 'id' and 'kind', but is {shorten(data)}")
        signature = data.get("signature")
        return cls(
            id=data["id"],
            kind=data["kind"],
            backend=data.get("backend", "native"),
            signature=None if signature is None else Signature.from_dict(signature),
            config=data.get("config", {}),
            children={
                name: _child_from_data(child) for name, child in data.get("children", {}).items()
            },
        )


def with_backends(node: Node, backends: Mapping[str, str]) -> Node:
    """Return the tree of `node` with the backends of `backends`, a mapping by path."""
    children = {
        name: _child_with_backends(child, backends) for name, child in node.children.items()
    }
    return replace(node, backend=backends.get(node.id, node.backend), children=children)


def _child_with_backends(child: Children, backends: Mapping[str, str]) -> Children:
    if isinstance(child, Node):
        return with_backends(child, backends)
    if isinstance(child, Mapping):
        return {key: with_backends(node, backends) for key, node in child.items()}
    return tuple(with_backends(node, backends) for node in child)


def _each(child: Children) -> tuple["Node", ...]:
    if isinstance(child, Node):
        return (child,)
    return tuple(child.values()) if isinstance(child, Mapping) else child


def _child_to_data(child: Children) -> Any:
    if isinstance(child, Node):
        return child.to_dict()
    if isinstance(child, Mapping):
        return {"nodes": {key: node.to_dict() for key, node in child.items()}}
    return [node.to_dict() for node in child]


def _child_from_data(data: Any) -> Children:
    if isinstance(data, list):
        return tuple(Node.from_dict(item) for item in data)
    if isinstance(data, Mapping) and "nodes" in data:
        return {key: Node.from_dict(item) for key, item in data["nodes"].items()}
    return Node.from_dict(data)
