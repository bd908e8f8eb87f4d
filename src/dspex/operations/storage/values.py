"""Conversion of values to a database and back.

`column_types` says which type uses which conversion.
"""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

import msgspec

Conversion = Callable[[Any], Any]
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


def json_text(value: object) -> str:
    """Return JSON that `json_value` turns into an equal value, with its keys in their order.

    Raises:
        TypeError: something in it has no JSON form.
        ValueError: a number in it is none (NaN), or it is nested too deeply.
    """
    try:
        text = _encode(value).decode()
    except (UnicodeEncodeError, OverflowError):
        # half of a surrogate pair; a number of more than 64 bits
        return json.dumps(value, separators=(",", ":"), allow_nan=False)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    return text


def json_value(text: str) -> Any:
    """Return the value that `json_text` was given."""
    try:
        return _decode(text)
    except (msgspec.DecodeError, RecursionError):
        return json.loads(text)


def moment(value: datetime) -> datetime:
    """Return a time in UTC.

    Raises:
        ValueError: it has no zone.
    """
    if value.tzinfo is UTC:
        return value
    if value.tzinfo is None:
        raise ValueError(f"a time without a zone cannot be stored: {value!r}")
    return value.astimezone(UTC)


def moment_text(value: datetime) -> str:
    """Return the text of a time, whose order is that of times."""
    return _text_of_moment(moment(value))


# the rows of one change share their times; only times in UTC come here, so equal ones are the same
@lru_cache(maxsize=1024)
def _text_of_moment(value: datetime) -> str:
    return value.isoformat(" ", "microseconds")[:26]


@lru_cache(maxsize=4096)  # rows of one page share many of their times and references
def moment_of_text(text: str) -> datetime:
    """Return the time of such a text."""
    return datetime.fromisoformat(text + "+00:00")


@lru_cache(maxsize=4096)
def uuid_of_text(text: str) -> UUID:
    """Return the UUID of its hexadecimal text."""
    return UUID(int=int(text, 16))


@lru_cache(maxsize=4096)
def uuid_of_driver(value: UUID) -> UUID:
    """Return a UUID of the standard library instead of asyncpg's own class."""
    return UUID(int=value.int)
