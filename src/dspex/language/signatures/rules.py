"""Checks the values of constraints."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from dspex.error_text import shorten, suggest
from dspex.errors import SignatureError
from dspex.language.signatures.kinds import FORMATS, ConstraintKind
from dspex.language.signatures.limits import check_limit
from dspex.language.signatures.patterns import check_pattern

_LARGEST_COUNT = 2**31


def check_rule(kind: str, name: str, *, rule: ConstraintKind, value: Any) -> Any:
    """Check and return `value` for constraint `name` of `kind`.

    Raises:
        SignatureError: the constraint does not accept the value.
    """
    expected, accepts, convert = _RULES[rule]
    if kind == "int" and rule in {"number", "step"} and not isinstance(value, int):
        expected, accepts = "a whole number", lambda _: False
    if not accepts(value):
        raise SignatureError(
            f"constraint {name!r} of type {kind!r} takes {expected}, not "
            f"{shorten(value)}.{_hint(rule, value)}",
            constraint=name,
        )
    try:
        return convert(value) if convert else value
    except SignatureError as error:
        raise error.with_message(
            f"constraint {name!r} of type {kind!r}: {error.message}.{_hint(rule, value)}",
            constraint=name,
        ) from None


def check_together(kind: str, rules: Mapping[str, Any]) -> None:
    """Raise if no value can satisfy the constraints together."""
    for low, high in _PAIRS:
        if low in rules and high in rules:
            open_ended = low == "gt" or high == "lt"
            if rules[low] > rules[high] or (open_ended and rules[low] == rules[high]):
                raise SignatureError(
                    f"type {kind!r}: {low}={rules[low]!r} and {high}={rules[high]!r} leave no "
                    "value",
                    constraint=high,
                )
    if kind == "atom" and len(rules) > 1:
        constraint = next(name for name in rules if name != "one_of")
        message = f"choices cannot be combined with {constraint}: the choices are already exact"
        raise SignatureError(message, constraint=constraint)


_PAIRS = [
    ("ge", "le"), ("ge", "lt"), ("gt", "le"), ("gt", "lt"), ("min_length", "max_length"),
    ("min_items", "max_items"), ("min_size", "max_size"), ("min_value", "max_value"),
]  # fmt: skip


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _LARGEST_COUNT


def _is_number(value: object) -> bool:
    if isinstance(value, bool):
        return False
    return isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))


def _linear_pattern(pattern: str) -> str:
    check_pattern(pattern)
    return pattern


def _is_choice(value: object) -> bool:
    return (
        value is None
        or type(value) in {str, int, bool}
        or (type(value) is float and math.isfinite(value))
    )


def _are_choices(value: object) -> bool:
    return (
        isinstance(value, list | tuple) and bool(value) and all(_is_choice(item) for item in value)
    )


def _are_names(value: object) -> bool:
    return (
        isinstance(value, list | tuple)
        and bool(value)
        and all(isinstance(item, str) for item in value)
    )


def _compiled_schema(value: Any) -> Any:
    """Return a schema in its normalized form, after checking that it compiles."""
    from dspex.language.signatures.schema_check import schema_check
    from dspex.language.signatures.schema_document import SchemaDocument

    document = SchemaDocument(value)
    schema = document.standalone(document.root)
    schema_check(schema)
    return schema


def _unique(values: Any) -> tuple[Any, ...]:
    check_limit("choices", len(values), "choices")
    return tuple({(type(value), value): value for value in values}.values())


def _hint(rule: ConstraintKind, value: object) -> str:
    if rule == "format" and isinstance(value, str):
        return suggest(value, list(FORMATS))
    if rule == "regex" and isinstance(value, str):
        return " Write it as Python's re module does; double each backslash inside a quoted text."
    return ""


_RULES: dict[ConstraintKind, tuple[str, Callable[[Any], bool], Callable[[Any], Any] | None]] = {
    "count": ("a whole number, 0 or more", _is_count, None),
    "size": ("a whole number, 1 or more", lambda value: _is_count(value) and value > 0, None),
    "number": ("a finite number", _is_number, None),
    "step": ("a number greater than 0", lambda value: _is_number(value) and value > 0, None),
    "regex": ("a regular expression", lambda value: isinstance(value, str), _linear_pattern),
    "format": (
        f"one of {', '.join(map(repr, FORMATS))}",
        lambda value: isinstance(value, str) and value in FORMATS,
        None,
    ),
    "choices": ("a list of texts, numbers, true, false or null", _are_choices, _unique),
    "flag": ("true or false", lambda value: isinstance(value, bool), None),
    "names": ("a list of texts", _are_names, _unique),
    "name": ("the name of a member", lambda value: isinstance(value, str) and bool(value), None),
    "schema": ("a JSON Schema, an object", lambda value: isinstance(value, dict), _compiled_schema),
    "extra": ("'allow' or 'forbid'", lambda value: value in ("allow", "forbid"), None),
}
