"""From a class body to a signature."""

import inspect
from typing import TYPE_CHECKING, Any

from dspex.errors import SignatureError
from dspex.language.signatures.annotations import from_annotation
from dspex.language.signatures.field import MISSING, Field, Mark
from dspex.language.signatures.types import Type, make, union

if TYPE_CHECKING:
    from dspex.language.signatures.signature import Signature


def compile_class(cls: "type[Signature]") -> "Signature":
    """Return the signature that the body of `cls` declares, after the fields of the signature that it extends.

    Raises:
        SignatureError: a field is declared wrongly; the message names class and field.
    """
    from dspex.language.signatures.signature import Signature

    parents = [Signature.of(base) for base in cls.__bases__ if "__signature_value__" in base.__dict__]
    fields = {field.name: field for parent in parents for field in parent.fields.values()}
    fields |= {field.name: field for field in _own_fields(cls)}
    instructions = cls.__dict__.get("__doc__") or (parents[0].instructions if parents else "")
    return Signature.from_fields(cls.__name__, fields.values(), instructions)


def _own_fields(cls: type) -> list[Field]:
    try:
        hints = inspect.get_annotations(cls, eval_str=True)
    except NameError as error:
        raise SignatureError(
            f"{cls.__name__}: the annotation {error.name!r} is not defined where the class is; define it above, at "
            "module level, or drop `from __future__ import annotations`"
        ) from None
    for name, value in list(vars(cls).items()):
        if isinstance(value, Mark) and name not in hints:
            raise SignatureError(f"{cls.__name__}.{name} has no type; write `{name}: str = ...`")
    found = []
    for name, hint in hints.items():
        mark = cls.__dict__.get(name, MISSING)
        if name in cls.__dict__:
            delattr(cls, name)
        found.append(_field(cls.__name__, name, hint=hint, mark=mark))
    return found


def _field(owner: str, name: str, *, hint: Any, mark: Any) -> Field:  # noqa: ANN401  # whatever the class body holds
    if not isinstance(mark, Mark):
        mark = Mark(role="input", desc="", default=mark, alias=None, constraints=())
    try:
        type_ = _constrained(from_annotation(hint), dict(mark.constraints))
    except SignatureError as error:
        raise SignatureError(f"{owner}.{name}: {error.message}") from None
    return Field(name=name, type=type_, role=mark.role, desc=mark.desc, default=mark.default, alias=mark.alias)


def _constrained(type_: Type, rules: dict[str, Any]) -> Type:
    """Add `rules`; those of an optional type belong to what it is when it is not None."""
    if not rules:
        return type_
    if type_.kind == "union" and type_.is_optional and len(type_.args) == 2:
        return union(*(arg if arg.kind == "none" else _constrained(arg, rules) for arg in type_.args))
    return make(type_.kind, *type_.args, constraints={**dict(type_.constraints), **rules})
