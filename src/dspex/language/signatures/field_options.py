"""Creates and changes single fields, for the operations of signatures."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypedDict, cast

from dspex.language.signatures.annotations import from_annotation, with_rules
from dspex.language.signatures.conditions import Conditions, FieldCheck, field_checks
from dspex.language.signatures.field import Field, Role
from dspex.language.signatures.string_form import type_text
from dspex.language.signatures.types import MISSING


class FieldOptions(TypedDict, total=False):
    """The options of a field that is added or changed, besides its name and type."""

    role: Role
    desc: str
    default: Any
    alias: str | None
    constraints: Mapping[str, Any]
    check: Conditions | None
    suggest: Conditions | None


def create_field(name: str, type_: Any, options: FieldOptions) -> Field:
    """Return a new field; `type_` is an annotation or the text of a type."""
    field_type = with_rules(from_annotation(type_), dict(options.get("constraints", {})))
    return Field(
        name=name,
        type=field_type,
        role=options.get("role", "output"),
        desc=options.get("desc", ""),
        default=options.get("default", MISSING),
        alias=options.get("alias"),
        checks=_checks(options, ()),
    )


def update_field(field: Field, type_: Any, options: FieldOptions) -> Field:
    """Return `field` with `type_`, unless it is None, and `options` applied."""
    field_type = field.type if type_ is None else from_annotation(type_)
    changes: dict[str, Any] = {
        key: options[key] for key in ("role", "desc", "default", "alias") if key in options
    }
    rules = dict(options.get("constraints", {}))
    return replace(
        field, type=with_rules(field_type, rules), checks=_checks(options, field.checks), **changes
    )


def _checks(options: FieldOptions, current: tuple[FieldCheck, ...]) -> tuple[FieldCheck, ...]:
    """Return the checks in `options`, and the current ones of each kind that `options` omit."""
    checks: tuple[FieldCheck, ...] = ()
    for name, is_required in (("check", True), ("suggest", False)):
        if name in options:
            checks += field_checks(
                cast("Conditions | None", options.get(name)), is_required=is_required
            )
        else:
            checks += tuple(check for check in current if check.is_required is is_required)
    return checks


def field_summary(field: Field) -> str:
    """Return a phrase with a field's role and type."""
    return f"an {field.role} of type {type_text(field.type)}"
