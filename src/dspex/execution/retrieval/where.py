"""Conditions on the metadata of documents."""

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, get_args

import msgspec

from dspex.error_text import shorten, suggest
from dspex.errors import FieldError, InputError

Operator = Literal["eq", "ne", "in", "gt", "gte", "lt", "lte", "exists", "contains"]
Scalar = str | int | float | bool | None
OPERATORS: Final[tuple[Operator, ...]] = get_args(Operator)
MAX_CONDITIONS: Final = 20
MAX_MEMBERS: Final = 100
MAX_TEXT: Final = 1000  # characters of a name or a value


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """A condition on one value of the metadata.

    A number is compared with numbers and a text with texts; metadata of another type, or without
    the name, does not meet the condition ("ne" and "exists": false are met without it).
    "contains" asks for a member of a list; "in" has a tuple of values.
    """

    name: str
    operator: Operator
    value: Scalar | tuple[Scalar, ...]

    def is_met_by(self, metadata: Mapping[str, Any]) -> bool:
        """Return whether the metadata meets the condition."""
        return self.accepts(metadata.get(self.name))

    def accepts(self, value: object) -> bool:
        """Return whether a value of the metadata meets the condition; None: there is none."""
        if self.operator == "exists":
            return (value is not None) == self.value
        return _TESTS[self.operator](value, self.value)


class Where(msgspec.Struct, frozen=True):
    """Conditions that all have to be met."""

    conditions: tuple[Condition, ...] = ()

    @classmethod
    def parse(cls, conditions: "Where | Mapping[str, Any] | None") -> "Where":
        """Return conditions from their JSON form.

        The form is an object from the name to a value, which has to be equal, or to operators:
        `{"language": "en", "year": {"gte": 2020, "lt": 2025}, "team": {"in": ["a", "b"]}}`.

        Raises:
            InputError: an operator or a value is invalid; each error names the place.
        """
        if isinstance(conditions, Where):
            return conditions
        if conditions is None:
            return cls()
        if not isinstance(conditions, Mapping):
            raise _invalid("where", conditions, "an object from name to value or operators")
        parsed: list[Condition] = []
        for name, value in conditions.items():
            if not isinstance(name, str) or not 0 < len(name) <= MAX_TEXT:
                raise _invalid("where", name, f"names of 1 to {MAX_TEXT} characters")
            operators = value if isinstance(value, Mapping) else {"eq": value}
            parsed += [_condition(name, word, operand) for word, operand in operators.items()]
        if len(parsed) > MAX_CONDITIONS:
            raise _invalid("where", len(parsed), f"at most {MAX_CONDITIONS} conditions")
        return cls(tuple(parsed))

    def is_met_by(self, metadata: Mapping[str, Any]) -> bool:
        """Return whether the metadata meets every condition."""
        return all(condition.is_met_by(metadata) for condition in self.conditions)

    def __bool__(self) -> bool:
        """Return whether there is any condition."""
        return bool(self.conditions)


def _condition(name: str, operator: object, value: Any) -> Condition:
    path = f"where.{name}"
    if operator not in OPERATORS:
        hint = suggest(operator, OPERATORS) if isinstance(operator, str) else ""
        expected = f"one of: {', '.join(OPERATORS)}"
        raise _invalid(f"{path}.{operator}", operator, expected, hint=hint)
    if operator == "in":
        if not isinstance(value, list | tuple) or not 0 < len(value) <= MAX_MEMBERS:
            raise _invalid(f"{path}.in", value, f"a list of 1 to {MAX_MEMBERS} values")
        members = tuple(_scalar(f"{path}.in[{i}]", member) for i, member in enumerate(value))
        return Condition(name=name, operator="in", value=members)
    if operator == "exists" and not isinstance(value, bool):
        raise _invalid(f"{path}.exists", value, "true or false")
    scalar = _scalar(f"{path}.{operator}", value)
    if operator in _ORDERED and (isinstance(scalar, bool) or scalar is None):
        raise _invalid(f"{path}.{operator}", value, "a number or a text")
    return Condition(name=name, operator=operator, value=scalar)


def _scalar(path: str, value: Any) -> Scalar:
    if isinstance(value, str) and len(value) > MAX_TEXT:
        raise _invalid(path, value, f"a text of at most {MAX_TEXT} characters")
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float) and value - value == 0:  # neither infinite nor NaN
        return value
    raise _invalid(path, value, "a text, a number, true, false or null")


def _invalid(path: str, value: object, expected: str, *, hint: str = "") -> InputError:
    message = f"{path}: expected {expected}, got {shorten(value)}{hint and f'.{hint}'}"
    return InputError(
        message,
        errors=[
            FieldError(
                field="where",
                path=path,
                value=value,
                message=message,
                constraint="where",
                expected=expected,
            )
        ],
    )


def _kind(value: object) -> type | None:
    if isinstance(value, bool) or value is None:
        return bool if value is not None else None
    return float if isinstance(value, int | float) else type(value)


def _is_equal(value: object, operand: object) -> bool:
    return _kind(value) is _kind(operand) and value == operand


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    return lambda value, operand: _kind(value) is _kind(operand) and compare(value, operand)


_ORDERED: Final = ("gt", "gte", "lt", "lte")
_TESTS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "eq": _is_equal,
    "ne": lambda value, operand: not _is_equal(value, operand),
    "in": lambda value, operand: any(_is_equal(value, member) for member in operand),
    "gt": _ordered(lambda value, operand: value > operand),
    "gte": _ordered(lambda value, operand: value >= operand),
    "lt": _ordered(lambda value, operand: value < operand),
    "lte": _ordered(lambda value, operand: value <= operand),
    "contains": lambda value, operand: (
        isinstance(value, list | tuple) and any(_is_equal(member, operand) for member in value)
    ),
}
