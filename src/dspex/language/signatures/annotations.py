"""From Python annotations to types: what the class form and typed functions are read with."""

import enum
import itertools
import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from dspex.errors import SignatureError
from dspex.language.signatures.types import Member, Type, make, union

_BASIC = {
    str: "str",
    int: "int",
    float: "float",
    bool: "bool",
    Any: "any",
    object: "any",
    None: "none",
    type(None): "none",
}


_MARKS = ("ge", "gt", "le", "lt", "multiple_of", "min_length", "max_length", "pattern")


def from_annotation(hint: Any) -> Type:  # noqa: ANN401  # an annotation is any object
    """Return the type that `hint` means.

    Raises:
        SignatureError: the annotation has no counterpart; the message lists what has.
    """
    if isinstance(hint, Type):
        return hint
    if isinstance(hint, str):
        from dspex.language.signatures.grammar import parse_type

        return parse_type(hint)
    try:
        if hint in _BASIC:
            return make(_BASIC[hint])
    except TypeError:  # an unhashable annotation is no basic type
        pass
    if (origin := get_origin(hint)) is not None:
        return _generic(hint, origin)
    if hint in {list, dict}:
        return make(hint.__name__)
    if isinstance(hint, type):
        return _class(hint)
    raise _unknown(hint)


def _generic(hint: Any, origin: Any) -> Type:  # noqa: ANN401
    args = get_args(hint)
    if origin is Literal:
        return Type("atom", constraints=(("one_of", tuple(args)),))
    if origin in {Union, types.UnionType}:
        return union(*(from_annotation(arg) for arg in args))
    if origin is Annotated:
        return _annotated(args[0], args[1:])
    if origin in {list, dict}:
        return make(origin.__name__, *(from_annotation(arg) for arg in args))
    raise _unknown(hint)


def _annotated(hint: Any, marks: tuple[Any, ...]) -> Type:  # noqa: ANN401
    """Read the constraints of `Annotated[T, Field(ge=0)]` and of the annotated-types marks inside it."""
    inner = from_annotation(hint)
    rules: dict[str, Any] = dict(inner.constraints)
    # pydantic's FieldInfo keeps its marks in `metadata`
    parts = [part for mark in marks for part in getattr(mark, "metadata", (mark,))]
    for part, name in itertools.product(parts, _MARKS):
        if (value := getattr(part, name, None)) is not None:
            rules[_constraint_name(inner.kind, name)] = value
    return make(inner.kind, *inner.args, constraints=rules) if rules else inner


def _constraint_name(kind: str, name: str) -> str:
    suffix = {"list": "items", "dict": "size"}.get(kind)
    return name.replace("length", suffix) if suffix and name.endswith("length") else name


def _class(hint: type) -> Type:
    if issubclass(hint, enum.Enum):
        return Type("atom", constraints=(("one_of", tuple(member.value for member in hint)),), python=hint)
    from pydantic import BaseModel

    if issubclass(hint, BaseModel):
        return _model(hint)
    raise _unknown(hint)


def _model(model: Any) -> Type:  # noqa: ANN401
    members = []
    for name, info in model.model_fields.items():
        inner = _annotated(info.annotation, tuple(info.metadata))
        required = info.is_required()
        default = None if required else info.get_default(call_default_factory=True, validated_data={})
        members.append(Member(name, inner, info.description or "", required, default))
    return Type("object", title=model.__name__, members=tuple(members), python=model)


def _unknown(hint: object) -> SignatureError:
    return SignatureError(
        f"no field type corresponds to the annotation {hint!r}; use str, int, float, bool, Literal, an Enum, list[T], "
        "dict[str, T], T | None, a union of these, Any, or a pydantic model"
    )
