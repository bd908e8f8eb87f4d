"""How operations make and change single fields."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypedDict

from dspex.language.signatures.annotations import from_annotation, with_rules
from dspex.language.signatures.field import Field, Role
from dspex.language.signatures.rendering import type_text
from dspex.language.signatures.types import MISSING


class FieldOptions(TypedDict, total=False):
    """What may be said of a field that is added or changed, besides its name and type."""

    role: Role
    desc: str
    default: Any
    alias: str | None
    constraints: Mapping[str, Any]


def made_field(name: str, type_: Any, options: FieldOptions) -> Field:  # noqa: ANN401
    """Return a new field of the type that an annotation or a text names."""
    made = with_rules(from_annotation(type_), dict(options.get("constraints", {})))
    return Field(
        name=name,
        type=made,
        role=options.get("role", "output"),
        desc=options.get("desc", ""),
        default=options.get("default", MISSING),
        alias=options.get("alias"),
    )


def updated_field(field: Field, type_: Any, options: FieldOptions) -> Field:  # noqa: ANN401
    """Return `field` with another type, where one is given, and what `options` say."""
    made = field.type if type_ is None else from_annotation(type_)
    given: dict[str, Any] = {key: value for key, value in options.items() if key != "constraints"}
    return replace(field, type=with_rules(made, dict(options.get("constraints", {}))), **given)


def field_said(field: Field) -> str:
    """Return a field's role and type in words."""
    return f"an {field.role} of type {type_text(field.type)}"
