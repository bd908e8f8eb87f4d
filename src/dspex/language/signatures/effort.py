"""Estimates the cost of validating values before validation starts."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from dspex.errors import FieldError, InputError, SignatureError
from dspex.language.signatures.alternatives import can_be_picked
from dspex.language.signatures.builtin import expand
from dspex.language.signatures.field import Field
from dspex.language.signatures.patterns import pattern_states
from dspex.language.signatures.types import Type

QUICK_MICROSECONDS: Final = 3_000  # how long validation may block an event loop


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """The cost of one value: the alternatives tried for it, and the states of its patterns.

    `parts` is the number of types inside the type, which determines the cost of compiling it.
    """

    alternatives: int
    states: int
    parts: int = 1


def effort_of(type_: Type) -> Effort:
    """Return the maximum cost of one value inside a value of `type_`."""
    inner = expand(type_)
    parts = [effort_of(part) for part in [*inner.args, *(member.type for member in inner.members)]]
    states = max((part.states for part in parts), default=0)
    schema = inner.constraint("schema")
    if schema is not None:
        return _effort_of_schema(schema)
    pattern = inner.constraint("pattern")
    if pattern is not None:
        states = max(states, pattern_states(pattern))
    alternatives = max((part.alternatives for part in parts), default=1)
    if (
        inner.kind == "union"
        and inner.constraint("tag") is None
        and not can_be_picked(list(inner.args))
    ):
        alternatives = sum(part.alternatives for part in parts)
    return Effort(
        alternatives=alternatives, states=states, parts=1 + sum(part.parts for part in parts)
    )


def _effort_of_schema(schema: Mapping[str, Any]) -> Effort:
    """Return the effort of a JSON Schema; a microsecond is 100 steps or 2.5 patterns."""
    from dspex.language.signatures.schema_check import schema_check

    check = schema_check(schema)
    each = 1 + check.steps_each // 100 + len(check.patterns) * 2 // 5
    return Effort(alternatives=each, states=sum(map(_states_of, check.patterns)))


def _states_of(pattern: str) -> int:
    try:
        return pattern_states(pattern)
    except SignatureError:  # in the notation of JSON Schema, which Python cannot parse
        return 10 * len(pattern)


class WorkAmount(NamedTuple):
    """The number of values to check, and the estimated time in microseconds."""

    values: int
    microseconds: int

    @property
    def is_quick(self) -> bool:
        """Whether checking may hold an event loop for so long."""
        return self.microseconds <= QUICK_MICROSECONDS


def amount_of(values: Mapping[str, Any], efforts: Mapping[str, Effort]) -> WorkAmount:
    """Return the cost of checking `values`; `efforts` are those of the fields by name."""
    count = total = 0
    for name, value in values.items():
        effort = efforts.get(name, _PLAIN_EFFORT)
        inside, characters = _size(value)
        count += inside
        total += inside * effort.alternatives + characters * effort.states // 3000
    return WorkAmount(values=count, microseconds=total)


def efforts_of(fields: Iterable[Field]) -> dict[str, Effort]:
    """Return the effort of each field, by name and by alias."""
    efforts: dict[str, Effort] = {}
    for field in fields:
        efforts[field.name] = efforts[field.wire_name] = effort_of(field.type)
    return efforts


_PLAIN_EFFORT: Final = Effort(alternatives=1, states=0)


def size_of(value: Any) -> int:
    """Return the number of values in a JSON value, including itself."""
    return _size(value)[0]


def _size(value: Any) -> tuple[int, int]:
    """Return the number of values in `value`, including itself, and the characters in its texts."""
    if type(value) is str:
        return 1, len(value)
    if not isinstance(value, dict | list):
        return 1, 0
    count, characters = 1, 0
    pending: list[Any] = [value]
    while pending:
        part = pending.pop()
        count += len(part)
        for child in part.values() if isinstance(part, dict) else part:
            if type(child) is str:
                characters += len(child)
            elif isinstance(child, dict | list):
                pending.append(child)
    return count, characters


def too_much(name: str, reason: str) -> InputError:
    """Return the error for inputs that exceed the limit of one call."""
    message = f"this is too much for one call: {reason}"
    error = FieldError(
        field=name, path=name, value=None, message=message, constraint="work", expected="less"
    )
    return InputError(f"{name}: {message}", errors=[error])
