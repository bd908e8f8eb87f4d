"""Resolves expressions in a function to objects by looking up names, without running code."""

import ast
import inspect
from types import ModuleType
from typing import Any

import dspy

from .source import Element, Source

_CALLS = frozenset({"acall", "forward", "aforward", "__call__"})


class Lookup:
    """Looks up the names of one function: in its owner, its local names and its globals."""

    def __init__(self, source: Source, owner: Any) -> None:
        """Take the function and its owner, the object whose method it is."""
        self._source = source
        self._busy: set[str] = set()
        self.owner = owner
        self.self_name = source.first_argument if owner is not None else ""

    def parents(self, name: str) -> "list[Any]":
        """Return the method of this name that `super()` resolves to."""
        mro = type(self.owner).__mro__
        at = next(
            (
                n
                for n, cls in enumerate(mro)
                if self._source.function in map(_plain_function, vars(cls).values())
            ),
            0,
        )
        for cls in mro[at + 1 :]:
            if name in vars(cls):
                return [_plain_function(vars(cls)[name])]
        return []

    def called_modules(self, node: ast.Call) -> "list[Any]":
        """Return the dspy modules that a call may run."""
        function = node.func
        if isinstance(function, ast.Attribute) and function.attr in _CALLS:
            modules = [
                item for item in self.resolve(function.value) if isinstance(item, dspy.Module)
            ]
            modules = [item for item in modules if item is not self.owner]
            if modules:
                return modules
        return [item for item in self.resolve(function) if isinstance(item, dspy.Module)]

    def resolve(self, node: ast.expr) -> "list[Any]":
        """Return the objects that an expression may evaluate to."""
        match node:
            case ast.Name(id=name) if name == self.self_name:
                return [self.owner]
            case ast.Name(id=name) if name in self._source.bindings:
                return self._resolve_local(name)
            case ast.Name(id=name):
                return (
                    [self._source.function.__globals__[name]]
                    if name in self._source.function.__globals__
                    else []
                )
            case ast.Attribute(value=whole, attr=name):
                return [item for base in self.resolve(whole) for item in _attribute(base, name)]
            case ast.Subscript(value=whole, slice=key):
                return [item for base in self.resolve(whole) for item in _items(base, key)]
            case Element():
                return self._resolve_element(node)
            case ast.IfExp(body=then, orelse=otherwise):
                return [*self.resolve(then), *self.resolve(otherwise)]
            case ast.Call(
                func=ast.Name(id="getattr"), args=[whole, ast.Constant(value=str(name)), *_]
            ):
                return [item for base in self.resolve(whole) for item in _attribute(base, name)]
            case ast.Call(args=[first, *_]):
                return self._constructed_predictors(node, first)
        return []

    def _resolve_local(self, name: str) -> "list[Any]":
        if name in self._busy:
            return []
        self._busy.add(name)
        try:
            return [item for value in self._source.bindings[name] for item in self.resolve(value)]
        finally:
            self._busy.discard(name)

    def _resolve_element(self, node: Element) -> "list[Any]":
        whole = node.iterable
        match whole:
            case ast.Call(func=ast.Name(id="enumerate"), args=[inner, *_]):
                return self.resolve(Element(inner)) if node.place == 1 else []
            case ast.Call(func=ast.Name(id="zip"), args=parts) if (
                node.place is not None and node.place < len(parts)
            ):
                return self.resolve(Element(parts[node.place]))
            case ast.Call(func=ast.Name(id="reversed" | "list" | "tuple"), args=[inner]):
                return self.resolve(Element(inner, node.place))
            case ast.Call(func=ast.Attribute(value=inner, attr="items")):
                values = [item for base in self.resolve(inner) for item in _items(base, None)]
                return values if node.place == 1 else []
            case ast.Call(func=ast.Attribute(value=inner, attr="values")):
                return [item for base in self.resolve(inner) for item in _items(base, None)]
            case ast.List(elts=elements) | ast.Tuple(elts=elements):
                return [item for element in elements for item in self.resolve(element)]
        if node.place is not None:
            return []
        return [
            item
            for base in self.resolve(whole)
            if not isinstance(base, dict)
            for item in _items(base, None)
        ]

    def _constructed_predictors(self, node: ast.Call, first: ast.expr) -> "list[Any]":
        """Return the predictor that `dspy.Predict("a -> b")` creates inside a `forward`."""
        makers = [
            item
            for item in self.resolve(node.func)
            if item is dspy.Predict or item is dspy.ChainOfThought
        ]
        signatures = [first.value] if isinstance(first, ast.Constant) else self.resolve(first)
        fit = [item for item in signatures if isinstance(item, str) or _is_signature(item)]
        try:
            return [maker(item) for maker in makers for item in fit]
        except Exception:  # noqa: BLE001  # an invalid signature fails when it runs
            return []


def _is_signature(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, dspy.Signature)


def _plain_function(value: Any) -> Any:
    value = value.__func__ if isinstance(value, staticmethod | classmethod) else value
    return inspect.unwrap(value) if callable(value) else value


def _attribute(base: Any, name: str) -> "list[Any]":
    """Return an attribute without running code such as properties or `__getattr__`."""
    if isinstance(base, ModuleType):
        namespace = vars(base)
        if name in namespace:
            return [namespace[name]]
        return [getattr(dspy, name)] if base is dspy and hasattr(dspy, name) else []
    namespace = getattr(base, "__dict__", {})
    if name in namespace:
        return [_plain_function(namespace[name])] if isinstance(base, type) else [namespace[name]]
    for cls in type(base).__mro__:
        if name in vars(cls):
            value = vars(cls)[name]
            return [] if isinstance(value, property) else [_plain_function(value)]
    return []


def _items(base: Any, key: "ast.expr | None") -> "list[Any]":
    """Return the item of a list or dict under a constant key, or else all items."""
    if not isinstance(base, list | tuple | dict):
        return []
    if isinstance(key, ast.Constant):
        try:
            return [base[key.value]]  # type: ignore[index]  # a key of the wrong type raises
        except (LookupError, TypeError):
            return []
    return list(base.values()) if isinstance(base, dict) else list(base)
