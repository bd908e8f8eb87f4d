"""Converts Python annotations to types, for the class form and for typed functions."""

import datetime
import decimal
import enum
import itertools
import types
import uuid
from collections.abc import Mapping, MutableMapping, MutableSequence, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from dspex.errors import SignatureError
from dspex.language.signatures.builtin import CLASSES
from dspex.language.signatures.types import Type, is_typed_dict, make, tagged, union

_BASIC: dict[Any, str] = {
    str: "str", int: "int", float: "float", bool: "bool", bytes: "binary", Any: "any",
    object: "any", None: "none",
    type(None): "none", list: "list", dict: "dict", tuple: "list", **CLASSES,
}  # fmt: skip
_TEXTUAL = {
    datetime.datetime: "date-time", datetime.date: "date", datetime.time: "time",
    datetime.timedelta: "duration",
    uuid.UUID: "uuid", decimal.Decimal: "decimal",
}  # fmt: skip
_LISTS = {list, Sequence, MutableSequence}
_DICTS = {dict, Mapping, MutableMapping}
_CONSTRAINTS = ("ge", "gt", "le", "lt", "multiple_of", "min_length", "max_length", "pattern")


def from_annotation(hint: Any) -> Type:
    """Return the type for `hint`: a Python annotation, the text of a type, or a `Type` itself.

    Raises:
        SignatureError: no type corresponds to the annotation; the message lists the accepted ones.
    """
    return AnnotationReader().read(hint)


class AnnotationReader:
    """Reads one annotation. Tracks the enclosing classes, so that recursive classes terminate."""

    def __init__(self) -> None:
        self.enclosing: list[tuple[type, str]] = []

    def read(self, hint: Any) -> Type:
        """Return the type for `hint`."""
        if isinstance(hint, Type):
            return hint
        if isinstance(hint, str):
            from dspex.language.signatures.grammar import parse_type

            return parse_type(hint)
        try:
            if hint in _BASIC:
                return make(_BASIC[hint])
            if hint in _TEXTUAL:
                return make("str", constraints={"format": _TEXTUAL[hint]}, python=hint)
        except TypeError:  # an unhashable annotation is not a basic type
            pass
        if (origin := get_origin(hint)) is not None:
            return self._generic(hint, origin)
        return self._class(hint)

    def _generic(self, hint: Any, origin: Any) -> Type:
        args = get_args(hint)
        if origin is Literal:
            return make("atom", constraints={"one_of": tuple(args)})
        if origin in {Union, types.UnionType}:
            return union(*(self.read(arg) for arg in args))
        if origin is Annotated:
            return self.with_metadata(args[0], args[1:])
        if origin in _LISTS:
            return make("list", *(self.read(arg) for arg in args))
        if origin in _DICTS:
            return make("dict", *(self.read(arg) for arg in args))
        if origin is tuple:
            return self._tuple(hint, args)
        if origin in {set, frozenset}:
            return make(
                "list", *(self.read(arg) for arg in args), constraints={"unique": True}, python=hint
            )
        return self._class(hint)

    def _tuple(self, hint: Any, args: tuple[Any, ...]) -> Type:
        if len(args) == 2 and args[1] is Ellipsis:
            return make("list", self.read(args[0]), python=hint)
        return make("tuple", *(self.read(arg) for arg in args))

    def with_metadata(self, hint: Any, metadata: tuple[Any, ...]) -> Type:
        """Read the constraints of `Annotated[T, Field(ge=0)]` and of annotated-types metadata."""
        inner = self.read(hint)
        rules: dict[str, Any] = {}
        # pydantic's FieldInfo keeps its metadata in `metadata`
        parts = [part for item in metadata for part in [item, *getattr(item, "metadata", ())]]
        for part, name in itertools.product(parts, _CONSTRAINTS):
            if (value := getattr(part, name, None)) is not None and isinstance(
                value, int | float | str
            ):
                rules[name] = value
        tags = [
            tag for item in metadata if isinstance(tag := getattr(item, "discriminator", None), str)
        ]
        type_ = with_rules(inner, rules)
        return tagged(type_, tags[0]) if tags and type_.kind == "union" else type_

    def _class(self, hint: Any) -> Type:
        from dspex.language.signatures.classes import class_type, is_model, type_from_schema

        if isinstance(hint, type) and issubclass(hint, enum.Enum):
            return _enumeration(hint)
        if is_model(hint) or is_typed_dict(hint):
            return class_type(hint, self)
        if hasattr(hint, "__supertype__"):  # a NewType
            return self.read(hint.__supertype__)
        if hasattr(hint, "__value__"):  # a `type X = ...` alias
            return self.read(hint.__value__)
        if isinstance(hint, type) or get_origin(hint) is not None:
            type_ = type_from_schema(hint)
            if type_ is not None:
                return type_
        raise SignatureError(
            f"no field type corresponds to the annotation {hint!r}; use str, int, float, bool, "
            "bytes, Literal, an Enum, list[T], dict[str, T], T | None, a union of these, Any, a "
            "pydantic model, a dataclass or a TypedDict"
        )


def with_rules(type_: Type, rules: dict[str, Any]) -> Type:
    """Return `type_` with `rules` added; an optional type gets them on its non-null type."""
    if not rules:
        return type_
    if type_.kind == "union" and rules.keys() <= {"tag", "required"}:
        return make("union", type_, constraints={**dict(type_.constraints), **rules})
    members = [arg for arg in type_.args if arg.kind != "none"]
    if type_.kind == "union" and not type_.constraints and len(members) == 1:
        return union(*(arg if arg.kind == "none" else with_rules(arg, rules) for arg in type_.args))
    suffix = {"list": "items", "dict": "size"}.get(type_.kind, "length")
    renamed = {
        name.replace("length", suffix) if name.endswith("_length") else name: rules[name]
        for name in rules
    }
    if type_.kind == "union":
        return (
            union(*type_.args, *())
            if not renamed
            else make("union", *type_.args, constraints=renamed)
        )
    python = None
    if type_.python is not None:
        from pydantic import Field

        python = Annotated[
            type_.python,
            Field(**{name: value for name, value in rules.items() if name in _CONSTRAINTS}),
        ]
    return make(
        type_.kind, *type_.args, constraints={**dict(type_.constraints), **renamed}, python=python
    )


def _enumeration(hint: type[enum.Enum]) -> Type:
    values = tuple(member.value for member in hint)
    if not values:
        raise SignatureError(f"the enumeration {hint.__name__} has no members")
    if not all(type(value) in {str, int, float, bool} for value in values):
        # JSON cannot represent these values
        raise SignatureError(
            f"the enumeration {hint.__name__} has values that JSON cannot represent "
            f"({values[0]!r}); use strings or numbers as its values"
        )
    return make("atom", constraints={"one_of": values}, python=hint)
