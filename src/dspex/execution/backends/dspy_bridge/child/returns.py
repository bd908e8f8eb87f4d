"""The outputs of a `forward`, read from the return statements in its source.

Nothing is run; what name lookup cannot resolve is unknown.
"""

import ast
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FunctionType
from typing import Any

import dspy

from .lookup import Lookup
from .source import Element, Source

Shape = dict[str, Any]
"""Names of outputs, each with the predictor's field that it comes from, or None if unknown."""
ModuleShape = Callable[[Any], "Shape | None"]
_DEPTH = 6
_PICKS = frozenset({"max", "min", "next", "sorted", "list", "tuple", "reversed", "iter"})


@dataclass(frozen=True)
class Outputs:
    """The outputs that are always there, possible outputs, and the reason if nothing is certain."""

    sure: Shape
    perhaps: Shape = field(default_factory=dict)
    why: str = ""


def forward_of(program: Any) -> Any:
    """Return the function behind a call: `forward`, or `aforward` if the module has only that."""
    cls = type(program)
    return inspect.unwrap(cls.forward if hasattr(cls, "forward") else cls.aforward)


def outputs_of(program: Any, of_module: ModuleShape) -> Outputs:
    """Return the outputs of a user's module; `of_module` returns those of inner modules."""
    function = forward_of(program)
    reader = Returns.of(function, program, of_module=of_module)
    if reader is None:
        return Outputs(sure={}, why=f"the source of {function.__qualname__} cannot be read")
    return reader.outputs()


def passed_inputs(program: Any, name: str) -> "tuple[list[tuple[Any, set[str]]], dict[str, Any]]":
    """Return the modules that get `**name` with their other keywords, and the keys read from it.

    A key that is read with a default maps to `(default,)`, a required key to None.
    """
    source = Source.of(forward_of(program))
    if source is None:
        return [], {}
    lookup = Lookup(source, program)
    receivers: list[tuple[Any, set[str]]] = []
    keys: dict[str, Any] = {}
    for node in ast.walk(source.tree):
        match node:
            case ast.Subscript(value=ast.Name(id=whole), slice=ast.Constant(value=str(key))) if (
                whole == name
            ):
                keys[key] = None
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id=whole), attr="get" | "pop" as how),
                args=[ast.Constant(value=str(key)), *rest],
            ) if whole == name:
                keys[key] = None if how == "pop" and not rest else _literal(rest)
            case ast.Call(keywords=keywords) if any(
                _is_rest(keyword, name) for keyword in keywords
            ):
                explicit = {keyword.arg for keyword in keywords if keyword.arg is not None}
                receivers += [(module, explicit) for module in lookup.called_modules(node)]
    return receivers, keys


def _is_rest(keyword: ast.keyword, name: str) -> bool:
    return keyword.arg is None and isinstance(keyword.value, ast.Name) and keyword.value.id == name


def _literal(nodes: "list[ast.expr]") -> "tuple[Any]":
    try:
        return (ast.literal_eval(nodes[0]) if nodes else None,)
    except ValueError:
        return (None,)


class Returns:
    """Reads the outputs of the predictions that one function returns."""

    def __init__(
        self, source: Source, lookup: Lookup, *, of_module: ModuleShape, depth: int
    ) -> None:
        """Take the function; `depth` counts the functions that lead to it."""
        self._source = source
        self._lookup = lookup
        self._of_module = of_module
        self._depth = depth
        self._busy: set[str] = set()

    @classmethod
    def of(
        cls,
        function: Any,
        owner: Any,
        *,
        of_module: ModuleShape,
        depth: int = 0,
    ) -> "Returns | None":
        """Return the reader of a function, None if it has no source."""
        source = Source.of(function)
        return (
            None
            if source is None
            else cls(source, Lookup(source, owner), of_module=of_module, depth=depth)
        )

    def outputs(self) -> Outputs:
        """Return the outputs that all return statements share, and further outputs of some."""
        shapes: list[Shape] = []
        why = ""
        for node in self._source.returns:
            if node.value is None or (
                isinstance(node.value, ast.Constant) and node.value.value is None
            ):
                continue
            # a recursive call returns what the other statements return
            if self._is_own_call(node.value):
                continue
            shape = self.shape(node.value)
            if shape is None:
                line = self._source.line(node)
                why = (
                    why
                    or f"line {line} returns {ast.unparse(node.value)[:80]}, which cannot be "
                    "read without running"
                )
            else:
                shapes.append(shape)
        perhaps: Shape = {}
        for shape in shapes:
            perhaps |= {name: None for name in shape if name not in perhaps}
        if why or not shapes:
            return Outputs(
                sure={},
                perhaps=perhaps,
                why=why or f"{self._source.function.__qualname__} returns nothing",
            )
        return Outputs(
            sure=_common(shapes), perhaps=perhaps, why="no output is in every return statement"
        )

    def _is_own_call(self, node: ast.expr) -> bool:
        call = node.value if isinstance(node, ast.Await) else node
        if self._lookup.owner is None or not isinstance(call, ast.Call):
            return False
        targets = self._lookup.resolve(call.func)
        return any(
            target is self._lookup.owner or target is self._source.function for target in targets
        )

    def shape(self, node: "ast.expr | None") -> "Shape | None":
        """Return the outputs of the prediction that an expression evaluates to, None if unknown."""
        match node:
            case ast.Await(value=inner) | ast.NamedExpr(value=inner):
                return self.shape(inner)
            case ast.IfExp(body=then, orelse=otherwise):
                return self._merge([then, otherwise])
            case ast.BoolOp(values=values):
                return self._merge(values)
            case ast.Name(id=name):
                return self._shape_of_name(name)
            case ast.Subscript(value=whole):
                return self._element_shape(whole)
            case Element(iterable=whole, place=None):
                return self._element_shape(whole)
            case ast.Dict() | ast.Call(func=ast.Name(id="dict")):
                return self._shape_of_mapping(node)
            case ast.Call():
                return self._shape_of_call(node)
        return None

    def _merge(self, nodes: "list[ast.expr]") -> "Shape | None":
        shapes = [
            self.shape(node)
            for node in nodes
            if not (isinstance(node, ast.Constant) and node.value is None)
        ]
        resolved = [shape for shape in shapes if shape is not None]
        return _common(resolved) if resolved and len(resolved) == len(shapes) else None

    def _shape_of_name(self, name: str) -> "Shape | None":
        if name in self._busy or name not in self._source.bindings:
            return None
        self._busy.add(name)
        try:
            shape = self._merge(self._source.bindings[name])
        finally:
            self._busy.discard(name)
        if shape is None:
            return None
        for part in self._source.writes.get(name, ()):
            if part in shape or (name, part) in self._source.sure_writes:
                shape = {**shape, part: None}
        return {
            part: value
            for part, value in shape.items()
            if part not in self._source.removals.get(name, ())
        }

    def _element_shape(self, node: ast.expr) -> "Shape | None":
        """Return the outputs of the elements of a list of predictions."""
        match node:
            case ast.ListComp(elt=element) | ast.GeneratorExp(elt=element):
                return self.shape(element)
            case ast.List(elts=elements) | ast.Tuple(elts=elements) if elements:
                return self._merge(elements)
            case ast.Call(func=ast.Name(id=name), args=[first, *_]) if name in _PICKS:
                return self._element_shape(first)
            case ast.Name(id=name) if name not in self._busy:
                self._busy.add(name)
                try:
                    values = [
                        value
                        for value in self._source.bindings.get(name, ())
                        if not _is_empty_list(value)
                    ]
                    shapes = [self._element_shape(value) for value in values]
                    shapes += [self.shape(value) for value in self._source.appends.get(name, ())]
                finally:
                    self._busy.discard(name)
                resolved = [shape for shape in shapes if shape is not None]
                return _common(resolved) if resolved and len(resolved) == len(shapes) else None
        return None

    def _shape_of_call(self, node: ast.Call) -> "Shape | None":
        function = node.func
        if isinstance(function, ast.Attribute) and function.attr in {"copy", "without"}:
            return self._shape_of_copy(node, function)
        targets = self._lookup.resolve(function)
        if any(isinstance(target, type) and issubclass(target, dspy.Example) for target in targets):
            return self._shape_of_prediction(node)
        if modules := self._lookup.called_modules(node):
            shapes = [self._of_module(module) for module in modules]
            resolved = [shape for shape in shapes if shape is not None]
            return _common(resolved) if len(resolved) == len(shapes) else None
        if isinstance(function, ast.Name) and function.id in _PICKS and node.args:
            return self._element_shape(node.args[0])
        if any(target is dspy.majority for target in targets) and node.args:
            return self._element_shape(node.args[0]) or self.shape(node.args[0])
        if self._depth < _DEPTH:
            return self._shape_of_functions(function, targets)
        return None

    def _shape_of_copy(self, node: ast.Call, function: ast.Attribute) -> "Shape | None":
        """Return the outputs of `prediction.copy(more=...)` and `prediction.without("one")`."""
        shape = self.shape(function.value)
        if shape is None:
            return None
        names = {str(item.value) for item in node.args if isinstance(item, ast.Constant)}
        more = {
            item.arg: self._field_of(item.value) for item in node.keywords if item.arg is not None
        }
        if function.attr == "without":
            return {name: value for name, value in shape.items() if name not in names}
        return {**shape, **more}

    def _shape_of_prediction(self, node: ast.Call) -> Shape:
        """Return the outputs of `dspy.Prediction(a=..., **more)`, as far as they are known."""
        shape: Shape = {}
        for whole in node.args:
            shape |= self._shape_of_mapping(whole)
        for keyword in node.keywords:
            if keyword.arg is None:
                shape |= self._shape_of_mapping(keyword.value)
            else:
                shape[keyword.arg] = self._field_of(keyword.value)
        return shape

    def _shape_of_mapping(self, node: ast.expr) -> Shape:
        match node:
            case ast.Dict(keys=keys, values=values):
                shape: Shape = {}
                for key, value in zip(keys, values, strict=True):
                    if key is None:
                        shape |= self._shape_of_mapping(value)
                    elif isinstance(key, ast.Constant):
                        shape[str(key.value)] = self._field_of(value)
                return shape
            case ast.Call(func=ast.Name(id="dict"), args=args, keywords=keywords):
                shapes = [self._shape_of_mapping(item) for item in args]
                keyword_shape = {
                    item.arg: self._field_of(item.value)
                    for item in keywords
                    if item.arg is not None
                }
                return {
                    name: value
                    for shape in [*shapes, keyword_shape]
                    for name, value in shape.items()
                }
            case ast.Call(func=ast.Attribute(value=inner, attr="toDict" | "items" | "copy")):
                return self.shape(inner) or {}
            case ast.Name(id=name) if (
                len(self._source.bindings.get(name, ())) == 1 and name not in self._source.removals
            ):
                value = self._source.bindings[name][0]
                parts = {part: None for where, part in self._source.sure_writes if where == name}
                base_shape = (
                    self._shape_of_mapping(value)
                    if isinstance(value, ast.Dict)
                    else self.shape(node)
                )
                return {**(base_shape or {}), **parts}
        return self.shape(node) or {}

    def _field_of(self, node: ast.expr) -> Any:
        """Return the field behind `prediction.name` or `prediction["name"]`, else None."""
        match node:
            case ast.Attribute(value=whole, attr=name):
                return (self.shape(whole) or {}).get(name)
            case ast.Subscript(value=whole, slice=ast.Constant(value=str(name))):
                return (self.shape(whole) or {}).get(name)
            case ast.Name(id=name) if (
                len(self._source.bindings.get(name, ())) == 1 and name not in self._source.appends
            ):
                value = self._source.bindings[name][0]
                return (
                    self._field_of(value)
                    if isinstance(value, ast.Attribute | ast.Subscript)
                    else None
                )
        return None

    def _shape_of_functions(self, node: ast.expr, targets: "list[Any]") -> "Shape | None":
        """Return the outputs of a method, a function, or the `forward` of a parent class."""
        owner: Any = None
        match node:
            case ast.Attribute(value=ast.Call(func=ast.Name(id="super"), args=[]), attr=name):
                owner, targets = self._lookup.owner, self._lookup.parents(name)
            case ast.Attribute(value=ast.Name(id=name)) if name == self._lookup.self_name:
                owner = self._lookup.owner
        functions = [target for target in targets if isinstance(target, FunctionType)]
        readers = [
            Returns.of(function, owner, of_module=self._of_module, depth=self._depth + 1)
            for function in functions
        ]
        shapes = [None if reader is None else reader.outputs().sure or None for reader in readers]
        resolved = [shape for shape in shapes if shape is not None]
        return _common(resolved) if resolved and len(resolved) == len(shapes) else None


def _common(shapes: "list[Shape]") -> Shape:
    first, *rest = shapes
    return {
        name: value if all(_is_same(value, shape[name]) for shape in rest) else None
        for name, value in first.items()
        if all(name in shape for shape in rest)
    }


def _is_same(first: Any, second: Any) -> bool:
    return first is second or (
        first is not None and second is not None and repr(first) == repr(second)
    )


def _is_empty_list(node: ast.expr) -> bool:
    return isinstance(node, ast.List) and not node.elts
