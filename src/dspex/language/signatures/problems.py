"""Turns validation errors of pydantic-core into messages that people can act on."""

import reprlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from dspex.error_text import quantity, suggest
from dspex.errors import FieldError, InputError
from dspex.language.signatures.alternatives import ALL
from dspex.language.signatures.builtin import expand
from dspex.language.signatures.field import Field
from dspex.language.signatures.kinds import KINDS
from dspex.language.signatures.limits import LIMITS, MAX_ERRORS
from dspex.language.signatures.types import Type

_SUGGESTIONS = 10
_NAMES = 50
_TEXT = 1000
_CONSTRAINTS = {
    "greater_than_equal": "ge", "greater_than": "gt", "less_than_equal": "le", "less_than": "lt",
    "multiple_of": "multiple_of", "string_too_short": "min_length", "string_too_long": "max_length",
    "string_pattern_mismatch": "pattern", "literal_error": "one_of", "finite_number": "finite",
    "union_tag_invalid": "tag", "union_tag_not_found": "tag", "recursion_loop": "depth",
    "recursion_depth_exceeded": "depth",
}  # fmt: skip
_SIZES = {"list": ("min_items", "max_items"), "dict": ("min_size", "max_size")}
_MESSAGES = {
    "ge": "must be at least {ge}", "gt": "must be greater than {gt}", "le": "must be at most {le}",
    "lt": "must be less than {lt}", "multiple_of": "must be a multiple of {multiple_of}",
    "pattern": "must match the pattern {pattern!r}", "one_of": "must be {expected}",
    "finite": "must be finite: JSON has no NaN or infinity",
    "depth": "is nested too deeply, or contains itself",
}  # fmt: skip
_PARTS = {"length": "character", "items": "item", "size": "key"}
_SIZE_RULES = {"too_short", "too_long", "string_too_short", "string_too_long"}


@dataclass(frozen=True, slots=True)
class _Location:
    """The location of one error: its path, its type, and the paths of the enclosing unions."""

    path: str
    type: Type | None
    unions: tuple[str, ...] = ()
    is_branch_itself: bool = False


def invalid_error(
    error: ValueError, what: str, *, fields: Mapping[str, Field], count: int | None = None
) -> InputError:
    """Return an error with the problems that pydantic-core found, up to `MAX_ERRORS`.

    Args:
        error: the error of pydantic-core.
        what: the beginning of the message.
        fields: the validated fields, by name.
        count: the number of errors, if `error` holds only some of them.

    Raises:
        ValueError: `error` itself, if it is not an error of pydantic-core.
    """
    from pydantic_core import ValidationError

    if not isinstance(error, ValidationError):
        raise error
    items = error.errors(include_url=False)
    places = [_locate(item["loc"], fields) for item in items]
    deeper = {path for place in places for path in place.unions if path != place.path}
    errors: dict[tuple[str, str], FieldError] = {}
    omitted = 0
    for at, (item, place) in enumerate(zip(items, places, strict=True)):
        if place.is_branch_itself and place.path in deeper and not _is_scalar(item["input"]):
            continue  # another member matched further, and reports the problem inside
        if len(errors) == MAX_ERRORS:
            omitted = (count or len(items)) - at
            break
        field_error = _field_error(item, place, fields, suggests=len(errors) < _SUGGESTIONS)
        errors.setdefault((field_error.path, field_error.message), field_error)
    lines = "".join(
        f"\n  {field_error.path}: {field_error.message}" for field_error in errors.values()
    )
    more = f"\n  and {omitted} more" if omitted else ""
    return InputError(
        f"{what} do not fit:{lines}{more}",
        errors=list(errors.values()),
        error_count=len(errors) + omitted,
    )


def _is_scalar(value: object) -> bool:
    return value is None or isinstance(value, str | int | float | bool)


def _locate(location: Sequence[str | int], fields: Mapping[str, Field]) -> _Location:
    """Follow `location` through the types, without the steps into union members."""
    if not location:
        return _Location("", None)
    name = str(location[0])
    field = fields.get(name) or next(
        (field for field in fields.values() if field.alias == name), None
    )
    return _Walk(field.name if field else _clip(name), field.type if field else None).to(
        location[1:]
    )


class _Walk:
    """Walks down a type along a location."""

    def __init__(self, path: str, type_: Type | None) -> None:
        self.path = path
        self.type = type_
        self.enclosing: list[Type] = []
        self.unions: tuple[str, ...] = ()
        self.is_branch_itself = False

    def to(self, location: Sequence[str | int]) -> _Location:
        for part in location:
            self._step(part)
        return _Location(self.path, self.type, self.unions, self.is_branch_itself)

    def _step(self, part: str | int) -> None:
        type_ = self._current_type()
        self.is_branch_itself = False
        if type_ is None:
            self._extend(part)
        elif type_.kind == "union":
            self._enter_union(type_, part)
        elif type_.kind == "object":
            self.enclosing.append(type_)
            self._extend(part)
            self.type = next((member.type for member in type_.members if member.name == part), None)
        elif type_.kind in {"list", "tuple"} and isinstance(part, int):
            self._extend(part)
            at = 0 if type_.kind == "list" else part
            self.type = type_.args[at] if at < len(type_.args) else None
        elif type_.kind == "dict" and part != "[key]":
            self._extend(part)
            self.type = type_.args[1] if type_.args else None
        elif part != "[key]":  # a step inside a schema of pydantic-core, such as a function's
            self.type = None

    def _current_type(self) -> Type | None:
        type_ = expand(self.type) if self.type else None
        if type_ is not None and type_.kind == "ref":
            while self.enclosing and self.enclosing[-1].title != type_.title:
                self.enclosing.pop()
            return self.enclosing.pop() if self.enclosing else None
        if type_ is not None and type_.kind == "union":
            parts = [arg for arg in type_.args if arg.kind != "none"]
            if len(parts) == 1:
                self.type = parts[0]
                return self._current_type()
        return type_

    def _enter_union(self, type_: Type, part: str | int) -> None:
        parts = [arg for arg in type_.args if arg.kind != "none"]
        label = str(part)
        if label == ALL:  # a step to the union of all members
            return
        if type_.constraint("tag") is not None:
            from dspex.language.signatures.types import tag_values

            tag = type_.constraint("tag")
            self.type = next((arg for arg in parts if label in tag_values(arg, tag)), None)
            return
        is_ours = label.isdecimal() and int(label) < len(parts)  # labels of pydantic-core are names
        self.type = (
            parts[int(label)]
            if is_ours
            else next((part for part in parts if label in {part.title, part.kind}), None)
        )
        self.unions = (*self.unions, self.path)
        self.is_branch_itself = True

    def _extend(self, part: str | int) -> None:
        part = _clip(part) if isinstance(part, str) else part
        self.path += (
            f"[{part}]"
            if isinstance(part, int)
            else f".{part}"
            if str(part).isidentifier()
            else f"[{part!r}]"
        )


def _field_error(
    item: Mapping[str, Any], place: _Location, fields: Mapping[str, Field], *, suggests: bool
) -> FieldError:
    name = str(item["loc"][0]) if item["loc"] else ""
    field = fields.get(name) or next(
        (field for field in fields.values() if field.alias == name), None
    )
    field_name = field.name if field else _clip(name)
    rule, value = item["type"], item["input"]
    expected = _expected(
        field.type if field and place.is_branch_itself else place.type, fields, name=field_name
    )
    if rule == "missing":
        return FieldError(
            field=field_name,
            path=place.path,
            value=None,
            message=f"required, but missing. Give {expected}",
            constraint="missing",
            expected=expected,
        )
    if rule == "extra_forbidden":
        message = _unknown_name(item["loc"], fields, suggests=suggests)
        return FieldError(
            field=field_name,
            path=place.path,
            value=value,
            message=message,
            constraint=rule,
            expected="no such field",
        )
    if not item["loc"]:
        expected = f"a mapping with the fields {_names(fields)}"
    constraint, message = _constraint_and_message(item, place, expected)
    return FieldError(
        field=field_name,
        path=place.path or "the whole",
        value=value,
        message=f"{message}, but got {brief(value)}",
        constraint=constraint,
        expected=expected,
    )


def _constraint_and_message(
    item: Mapping[str, Any], place: _Location, expected: str
) -> tuple[str, str]:
    """Return the violated constraint and the message about it."""
    rule, context = item["type"], item.get("ctx", {})
    if rule in {"too_short", "too_long"}:
        sizes = _SIZES.get(
            expand(place.type).kind if place.type else "", ("min_items", "max_items")
        )
        constraint = sizes[rule == "too_long"]
    else:
        constraint = _CONSTRAINTS.get(rule, rule)
    if place.type is None and item["loc"]:  # inside a user's class
        return constraint, str(item["msg"]).removeprefix("Value error, ")
    bound, _, part = constraint.partition("_")
    if rule in _SIZE_RULES and not place.is_branch_itself:
        most = f"at {'least' if bound == 'min' else 'most'}"
        return constraint, f"must have {most} {quantity(context[f'{bound}_length'], _PARTS[part])}"
    if constraint in _MESSAGES and not place.is_branch_itself:
        return constraint, _MESSAGES[constraint].format(**context)
    if constraint == "tag":
        return (
            constraint,
            f"must have a member {context['discriminator']} that selects one of the objects",
        )
    if place.is_branch_itself or _is_type_error(rule):
        return "type", f"must be {expected}"
    return constraint, str(item["msg"]).removeprefix("Value error, ")


def _is_type_error(rule: str) -> bool:
    return (
        rule.endswith(("_type", "_parsing", "_from_float", "_size", "_attributes_type"))
        or rule == "is_instance_of"
    )


def _unknown_name(
    location: Sequence[str | int], fields: Mapping[str, Field], *, suggests: bool
) -> str:
    if len(location) == 1:
        names, what = list(fields), "field"
    else:
        walk = _locate(location[:-1], fields)
        names, what = (
            [member.name for member in expand(walk.type).members] if walk.type else [],
            "member",
        )
    hint = suggest(str(location[-1]), names) if suggests else ""
    return f"unknown {what}.{hint} {what.capitalize()}s are: {_names(names)}"


def _clip(name: str) -> str:
    return name if len(name) <= LIMITS["name"].most else f"{name[:100]}... ({len(name)} characters)"


def _names(names: Collection[str]) -> str:
    more = f" and {len(names) - _NAMES} more" if len(names) > _NAMES else ""
    return ", ".join(islice(names, _NAMES)) + more if names else "none"


def _expected(type_: Type | None, fields: Mapping[str, Field], *, name: str) -> str:
    from dspex.language.signatures.string_form import type_text

    if type_ is None:
        return f"one of: {_names(fields)}" if name not in fields else "a value of its type"
    text = type_text(type_)
    text = text if len(text) <= _TEXT else f"{text[:_TEXT]}..."
    return f"{text} ({KINDS[type_.kind].text})"


class _ShortRepr(reprlib.Repr):
    """`repr` with limits on depth and length, so that any value can be shown in an error."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxother, self.maxlong = 4, 80, 80, 60

    def repr_int(self, x: int, level: int) -> str:
        if x.bit_length() > 4000:  # more than Python converts to digits
            return f"a whole number of {x.bit_length()} bits"
        return super().repr_int(x, level)


def brief(value: object) -> str:
    """Return the `repr` of any value, shortened if it is long or deep."""
    return _ShortRepr().repr(value)
