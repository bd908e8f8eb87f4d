"""The kinds of attributes: tables, statements, API types, parsing and filters follow from them.

A new kind is its entry in `ATTRIBUTE_KINDS`, and its Python type if it has one of its own.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, Literal, NewType
from uuid import UUID

Comparison = Literal[
    "eq", "in", "gte", "lte", "after", "before", "contains", "starts_with", "is_null"
]
StorageType = Literal["uuid", "text", "integer", "number", "flag", "time", "json"]
"""The types of columns; `storage.column_types` says how each database keeps them."""
Count = NewType("Count", int)
"""A whole number that may grow beyond what an integer of both databases holds."""
Probability = NewType("Probability", float)
"""A number from 0 to 1."""
Embedding = NewType("Embedding", list[float])
"""A vector of finite numbers; its length is that of the field."""
LONGEST_EMBEDDING: Final = 65_536
_LARGEST = 2**31 - 1  # the largest integer of both databases
_LARGEST_COUNT: Final = 2**53  # up to here every whole number is exact in JSON and as a float
_TIME = "a time with its zone, such as 2030-01-31T12:00:00Z"
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(-?[0-9a-fA-F]{4}){3}-?[0-9a-fA-F]{12}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scalar:
    """A GraphQL scalar: its name and description, and what an invalid value should have been."""

    name: str
    description: str
    expected: str
    serialize: Callable[[Any], Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttributeKind:
    """What storage and surfaces need to know of one kind of attribute.

    Args:
        hints: the annotations of its attributes; the first is also its type in GraphQL.
        storage: the type of its column.
        schema: its JSON Schema.
        from_json: reads a JSON value; raises TypeError or ValueError.
        comparisons: the filters of lists.
        is_sortable: whether lists can be sorted by it.
        is_document: whether it is a document rather than a cell of a table: lists on a terminal
            leave it out, and its size counts against the quota of storage.
        parse: reads the text of a query string; raises ValueError, OverflowError or KeyError.
        expected: what a text that `parse` rejects should have been.
        check: returns a value that every database can compare with; raises ValueError with what
            the value should have been.
        scalar: its GraphQL scalar; None if GraphQL has it.
        encode: turns a value into one of the type of its column; None: it is one.
        decode: undoes `encode`.
    """

    hints: tuple[Any, ...]
    storage: StorageType
    schema: Mapping[str, Any]
    from_json: Callable[[Any], Any]
    comparisons: tuple[Comparison, ...] = ()
    is_sortable: bool = True
    is_document: bool = False
    parse: Callable[[str], Any] = str
    expected: str = "a text"
    check: Callable[[Any], Any] = field(default=lambda value: value)
    scalar: Scalar | None = None
    encode: Callable[[Any], Any] | None = None
    decode: Callable[[Any], Any] | None = None


def _uuid(value: Any) -> UUID:
    if not isinstance(value, str) or not _UUID.fullmatch(value):
        raise TypeError("not an id")
    return UUID(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    value.encode()  # an unpaired surrogate cannot have been stored
    return value


def _integer(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError("not a whole number")
    return value


def _count(value: Any) -> int:
    if not 0 <= _integer(value) <= _LARGEST_COUNT:
        raise ValueError("not from 0 to 2^53")
    return int(value)


def _number(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise TypeError("not a finite number")
    return float(value)


def _probability(value: Any) -> float:
    if not 0 <= (number := _number(value)) <= 1:
        raise ValueError("not from 0 to 1")
    return number


def _embedding(value: Any) -> list[float]:
    if not isinstance(value, list) or not 1 <= len(value) <= LONGEST_EMBEDDING:
        raise TypeError("not a vector")
    return list(map(_number, value))


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError("not true or false")
    return value


def _time(value: Any) -> datetime:
    time = datetime.fromisoformat(value)
    if time.utcoffset() is None:
        raise ValueError("a time without a zone")
    return time


@lru_cache(maxsize=4096)  # many rows of a page have the same times
def _format_time(value: datetime) -> str:
    return value.isoformat()


def _check_text(value: str) -> str:
    if "\0" in value:
        raise ValueError("a text without the character U+0000")
    return value


def _check_integer(value: int) -> int:
    if not -_LARGEST - 1 <= value <= _LARGEST:
        raise ValueError(f"a number from {-_LARGEST - 1} to {_LARGEST}")
    return value


def _check_count(value: int) -> int:
    if not -_LARGEST_COUNT <= value <= _LARGEST_COUNT:
        raise ValueError(f"a whole number from {-_LARGEST_COUNT} to {_LARGEST_COUNT}")
    return value


def _check_number(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError("a finite number")
    return value


def _check_time(value: datetime) -> datetime:
    try:
        if value.tzinfo is not None:
            return value.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise ValueError(_TIME)


ATTRIBUTE_KINDS: Final[Mapping[str, AttributeKind]] = {
    "uuid": AttributeKind(
        hints=(UUID,),
        storage="uuid",
        schema={"type": "string", "format": "uuid"},
        from_json=_uuid,
        comparisons=("eq", "in"),
        is_sortable=False,
        parse=UUID,
        expected="an id",
        scalar=Scalar(
            name="UUID",
            description="The id of a row elsewhere in the answer or the database.",
            expected="a UUID such as 01a204e7-d265-770f-a3da-97f8004ff7a9",
            serialize=str,
        ),
    ),
    "text": AttributeKind(
        hints=(str,),
        storage="text",
        schema={"type": "string"},
        from_json=_text,
        comparisons=("eq", "in", "contains", "starts_with"),
        check=_check_text,
    ),
    "integer": AttributeKind(
        hints=(int,),
        storage="integer",
        schema={"type": "integer"},
        from_json=_integer,
        comparisons=("eq", "gte", "lte"),
        parse=int,
        expected="a whole number",
        check=_check_integer,
    ),
    "number": AttributeKind(
        hints=(float,),
        storage="number",
        schema={"type": "number"},
        from_json=_number,
        comparisons=("gte", "lte"),
        parse=float,
        expected="a number",
        check=_check_number,
    ),
    "count": AttributeKind(
        hints=(Count,),
        storage="number",
        schema={"type": "integer", "minimum": 0, "maximum": _LARGEST_COUNT},
        from_json=_count,
        comparisons=("gte", "lte"),
        parse=int,
        expected="a whole number",
        check=_check_count,
        scalar=Scalar(
            name="Count",
            description="A whole number from 0 to 2^53.",
            expected="a whole number from 0 to 2^53",
        ),
        encode=float,
        decode=int,
    ),
    "flag": AttributeKind(
        hints=(bool,),
        storage="flag",
        schema={"type": "boolean"},
        from_json=_flag,
        comparisons=("eq",),
        parse=lambda text: {"true": True, "false": False}[text],
        expected="true or false",
    ),
    "time": AttributeKind(
        hints=(datetime,),
        storage="time",
        schema={"type": "string", "format": "date-time"},
        from_json=_time,
        comparisons=("after", "before"),
        # a query string decodes plus as a space
        parse=lambda text: datetime.fromisoformat(text.replace(" ", "+")),
        expected=_TIME,
        check=_check_time,
        scalar=Scalar(
            name="DateTime",
            description="A moment with its zone (ISO 8601).",
            expected=_TIME,
            serialize=_format_time,
        ),
    ),
    "json": AttributeKind(
        hints=(dict, list),
        storage="json",
        schema={},
        from_json=lambda value: value,
        is_sortable=False,
        is_document=True,
    ),
    "probability": AttributeKind(
        hints=(Probability,),
        storage="number",
        schema={"type": "number", "minimum": 0, "maximum": 1},
        from_json=_probability,
        comparisons=("gte", "lte"),
        parse=float,
        expected="a number",
        check=_check_number,
        scalar=Scalar(
            name="Probability",
            description="A number from 0 to 1.",
            expected="a number from 0 to 1",
        ),
    ),
    "embedding": AttributeKind(
        hints=(Embedding,),
        storage="json",
        schema={"type": "array", "items": {"type": "number"}},
        from_json=_embedding,
        is_sortable=False,
        is_document=True,
        scalar=Scalar(
            name="Embedding",
            description="A vector: a list of finite numbers, as long as its field says.",
            expected=f"a list of 1 to {LONGEST_EMBEDDING} finite numbers",
        ),
    ),
}
_KIND_OF_HINT: Final = {hint: name for name, kind in ATTRIBUTE_KINDS.items() for hint in kind.hints}


def kind_of(hint: Any) -> str | None:
    """Return the kind of the attributes that are annotated like this, or None."""
    return _KIND_OF_HINT.get(hint)
