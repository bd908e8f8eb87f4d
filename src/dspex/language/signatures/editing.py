"""How operations make and change single fields."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypedDict, cast

from dspex.language.signatures.annotations import from_annotation, with_rules
from dspex.language.signatures.conditions import Conditions, FieldCheck, field_checks
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
    check: Conditions | None
    suggest: Conditions | None


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
        checks=_checks(options, ()),
    )


def updated_field(field: Field, type_: Any, options: FieldOptions) -> Field:  # noqa: ANN401
    """Return `field` with another type, where one is given, and what `options` say."""
    made = field.type if type_ is None else from_annotation(type_)
    given: dict[str, Any] = {key: options[key] for key in ("role", "desc", "default", "alias") if key in options}
    rules = dict(options.get("constraints", {}))
    return replace(field, type=with_rules(made, rules), checks=_checks(options, field.checks), **given)


def _checks(options: FieldOptions, own: tuple[FieldCheck, ...]) -> tuple[FieldCheck, ...]:
    """Return the checks that `options` name; of a kind that they do not name, a field's own."""
    made: tuple[FieldCheck, ...] = ()
    for name, is_required in (("check", True), ("suggest", False)):
        if name in options:
            made += field_checks(cast("Conditions | None", options.get(name)), is_required=is_required)
        else:
            made += tuple(check for check in own if check.is_required is is_required)
    return made


def field_said(field: Field) -> str:
    """Return a field's role and type in words."""
    return f"an {field.role} of type {type_text(field.type)}"
