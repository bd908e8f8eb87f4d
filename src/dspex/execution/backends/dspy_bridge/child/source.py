"""The source of one function as data: the bindings of its names, and its return statements."""

import ast
import inspect
import textwrap
from collections.abc import Iterator
from types import FunctionType
from typing import Any

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


class Element(ast.expr):
    """An element of an iterable (or a part of that element), as a loop binds it."""

    _fields = ("iterable",)

    def __init__(self, iterable: ast.expr, place: "int | None" = None) -> None:
        """Take the iterable, and the index of the part of its elements."""
        super().__init__()
        self.iterable = iterable
        self.place = place


class Source:
    """The statements of a function by name: bindings, appends, writes and removals."""

    def __init__(
        self, function: FunctionType, tree: "ast.FunctionDef | ast.AsyncFunctionDef"
    ) -> None:
        """Take the function and its syntax tree."""
        self.function = function
        self.tree = tree
        arguments = [*tree.args.posonlyargs, *tree.args.args]
        self.first_argument = arguments[0].arg if arguments else ""
        self.bindings: dict[str, list[ast.expr]] = {}
        self.appends: dict[str, list[ast.expr]] = {}
        self.writes: dict[str, set[str]] = {}
        self.removals: dict[str, set[str]] = {}
        self.returns: list[ast.Return] = []
        for node in _own_nodes(tree):
            self._read(node)
        self.sure_writes = {part for node in _always_run(tree.body) for part in _writes(node)}

    @classmethod
    def of(cls, function: Any) -> "Source | None":
        """Return the source of a function, None if it has no source."""
        function = inspect.unwrap(function)
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
        except (OSError, TypeError, SyntaxError, IndexError, ValueError):
            return None
        return (
            cls(function, tree)
            if isinstance(tree, FUNCTIONS) and isinstance(function, FunctionType)
            else None
        )

    def line(self, node: ast.AST) -> int:
        """Return the line of a node in its file."""
        return int(self.function.__code__.co_firstlineno + getattr(node, "lineno", 1) - 1)

    def _read(self, node: ast.AST) -> None:
        match node:
            case ast.Return():
                self.returns.append(node)
            case ast.Assign(targets=targets, value=value):
                for target in targets:
                    self._bind(target, value)
            case (
                ast.AnnAssign(target=target, value=ast.expr() as value)
                | ast.NamedExpr(target=target, value=value)
            ):
                self._bind(target, value)
            case ast.AugAssign(target=target):
                self._bind(target, ast.Constant(...))
            case ast.For() | ast.AsyncFor() | ast.comprehension():
                self._bind_loop(node.target, node.iter)
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id=name), attr=method), args=[first, *_]
            ):
                self._read_method_call(name, method, first)
            case ast.Delete(targets=targets):
                self._remove(targets)
        for name, part_name in _writes(node):
            self.writes.setdefault(name, set()).add(part_name)

    def _remove(self, targets: "list[ast.expr]") -> None:
        for part in filter(None, map(_part_of_name, targets)):
            self.removals.setdefault(part[0], set()).add(part[1])

    def _read_method_call(self, name: str, method: str, first: ast.expr) -> None:
        if method in {"append", "add"}:
            self.appends.setdefault(name, []).append(first)
        elif method == "pop" and isinstance(first, ast.Constant):
            self.removals.setdefault(name, set()).add(str(first.value))

    def _bind(self, target: ast.AST, value: ast.expr) -> None:
        if isinstance(target, ast.Name):
            self.bindings.setdefault(target.id, []).append(value)
        elif isinstance(target, ast.Tuple | ast.List):
            whole = value.elts if isinstance(value, ast.Tuple | ast.List) else []
            for number, part in enumerate(target.elts):
                self._bind(
                    part, whole[number] if len(whole) == len(target.elts) else ast.Constant(...)
                )

    def _bind_loop(self, target: ast.AST, iterable: ast.expr) -> None:
        if isinstance(target, ast.Tuple | ast.List):
            for number, part in enumerate(target.elts):
                self._bind(part, Element(iterable, number))
        else:
            self._bind(target, Element(iterable))


def _own_nodes(tree: ast.AST) -> "Iterator[ast.AST]":
    """Yield the nodes of a function, without nested functions and classes."""
    pending = list(ast.iter_child_nodes(tree))
    while pending:
        node = pending.pop(0)
        if isinstance(node, (*FUNCTIONS, ast.ClassDef, ast.Lambda)):
            continue
        yield node
        pending = [*ast.iter_child_nodes(node), *pending]


def _always_run(nodes: "list[ast.stmt]") -> "Iterator[ast.stmt]":
    """Yield the statements that always run."""
    for node in nodes:
        yield node
        if isinstance(node, ast.With | ast.AsyncWith):
            yield from _always_run(node.body)


def _writes(node: ast.AST) -> "list[tuple[str, str]]":
    """Return the (name, part) pairs that a statement assigns (`name.part`, `name["part"]`)."""
    targets = (
        node.targets
        if isinstance(node, ast.Assign)
        else [node.target]
        if isinstance(node, ast.AugAssign)
        else []
    )
    return [part for target in targets if (part := _part_of_name(target)) is not None]


def _part_of_name(target: ast.AST) -> "tuple[str, str] | None":
    match target:
        case ast.Attribute(value=ast.Name(id=name), attr=part):
            return name, part
        case ast.Subscript(value=ast.Name(id=name), slice=ast.Constant(value=str(part))):
            return name, part
    return None
