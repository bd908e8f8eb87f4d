"""The kinds of modules in stored programs, and how modules are built from nodes."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from dspex.errors import DefinitionError
from dspex.execution.modules.code import CodeRoot, with_code
from dspex.execution.modules.module import Module
from dspex.language.programs import Node, Program
from dspex.language.signatures import Signature

M = TypeVar("M", bound=Module)


def functions_in(*names: str) -> "Callable[[Node], Iterable[Mapping[str, Any]]]":
    """Return `ModuleKind.code` for nodes whose configurations `names` may be functions."""
    return lambda node: [
        node.config[name] for name in names if isinstance(node.config.get(name), Mapping)
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleKind:
    """One kind of module, with everything that builds, creates or describes it.

    - `name` is in stored nodes; `summary` is one line for people.
    - `build` returns the module of a node, None if this process cannot run the kind.
    - `create` returns a program of a signature, settings and a name, None if text is not enough;
      `needs` then says what is missing. `settings` are the names of its settings.
    - `backends` can run a node of this kind as a whole; `dspy_class` is its counterpart in dspy if
      it reads the states that dspy saves of that class.
    - `dspy_problem` returns what dspy's class lacks for a node, which then runs here, or "".
    - `replies_with_outputs`: the last reply of the model holds all outputs.
    - `code` yields the configurations of a node that name code, with its source hash.
    """

    name: str
    summary: str
    build: "Callable[[Node, NodeBuilder], Module] | None" = None
    create: Callable[[Signature, Mapping[str, Any], str], Program] | None = None
    needs: str = ""
    settings: tuple[str, ...] = ()
    backends: frozenset[str] = frozenset({"native"})
    dspy_class: str = ""
    dspy_problem: Callable[[Node], str] = lambda node: ""
    replies_with_outputs: bool = False
    code: Callable[[Node], Iterable[Mapping[str, Any]]] = lambda node: (node.config,)


@dataclass(frozen=True, slots=True)
class NodeBuilder:
    """Builds the modules of one stored program; `code` is needed to import modules."""

    kinds: Mapping[str, ModuleKind]
    code: CodeRoot | None = None

    def build(self, node: Node) -> Module:
        """Return the module of a node with its parts.

        Raises:
            DefinitionError: the kind is unknown, or does not run in this process.
        """
        kind = self.kinds.get(node.kind)
        if kind is None or kind.build is None:
            names = ", ".join(name for name, kind in self.kinds.items() if kind.build is not None)
            raise DefinitionError(f"unknown kind of module {node.kind!r}; kinds are: {names}")
        module = kind.build(node, self)
        return module if node.backend == "native" else module.on(node.backend)

    def child(self, node: Node, name: str, kind: type[M]) -> M:
        """Return the module of a child, which must be of a class.

        Raises:
            DefinitionError: the node does not have such a child.
        """
        child = node.children.get(name)
        module = self.build(child) if isinstance(child, Node) else None
        if not isinstance(module, kind):
            raise DefinitionError(
                f"the node {node.id!r} of kind {node.kind!r} has no {name!r} that is a "
                f"{kind.__name__}"
            )
        return module

    def children(self, node: Node, name: str) -> dict[str, Module]:
        """Return the modules of a mapping of children, empty if there is none."""
        children = node.children.get(name, {})
        if not isinstance(children, Mapping):
            return {}
        return {label: self.build(child) for label, child in children.items()}

    def sequence(self, node: Node, name: str) -> list[Module]:
        """Return the modules of a sequence of children, empty if there is none."""
        children = node.children.get(name, ())
        return [self.build(child) for child in children] if isinstance(children, tuple) else []

    def signature(self, node: Node) -> Signature:
        """Return the signature of a node, with checks that can run.

        Raises:
            DefinitionError: the node has no signature, or its checks cannot be loaded.
        """
        if node.signature is None:
            raise DefinitionError(f"the node {node.id!r} has no signature")
        return with_code(node.signature, self.code, node.config.get("checks"))
