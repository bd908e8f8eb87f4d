"""Attributes as a database keeps them."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

import msgspec

from dspex.operations.resources.resource import AttributeKind

Conversion = Callable[[Any], Any]
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


@dataclass(frozen=True, slots=True)
class Codec:
    """How values go in and come out, by kind; a kind that is absent passes as it is. None never comes here."""

    encode: dict[AttributeKind, Conversion]
    decode: dict[AttributeKind, Conversion]


def json_text(value: object) -> str:
    """Return JSON that `json_value` turns into an equal value, with its keys in their order.

    Raises:
        TypeError: something in it has no JSON form.
        ValueError: a number in it is none (NaN), or it is nested too deeply.
    """
    try:
        text = _encode(value).decode()
    except (UnicodeEncodeError, OverflowError):  # half of a surrogate pair; a number of more than 64 bits
        return json.dumps(value, separators=(",", ":"), allow_nan=False)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    return text


def json_value(text: str) -> Any:  # noqa: ANN401  # any JSON value
    """Return the value that `json_text` was given."""
    try:
        return _decode(text)
    except (msgspec.DecodeError, RecursionError):
        return json.loads(text)


def _moment(value: datetime) -> datetime:
    if value.tzinfo is UTC:
        return value
    if value.tzinfo is None:
        raise ValueError(f"a time without a zone cannot be stored: {value!r}")
    return value.astimezone(UTC)


def _moment_text(value: datetime) -> str:
    return _moment(value).isoformat(" ", "microseconds")[:26]


@lru_cache(maxsize=4096)  # rows of one page share many of their times and references
def _moment_of_text(text: str) -> datetime:
    return datetime.fromisoformat(text + "+00:00")


@lru_cache(maxsize=4096)
def _uuid_of_text(text: str) -> UUID:
    return UUID(int=int(text, 16))


@lru_cache(maxsize=4096)
def _uuid_of_driver(value: UUID) -> UUID:
    """Return a UUID of the standard library: asyncpg has a class of its own."""
    return UUID(int=value.int)


SQLITE = Codec(
    encode={"uuid": lambda value: value.hex, "time": _moment_text, "json": json_text, "embedding": json_text},
    decode={
        "uuid": _uuid_of_text,
        "time": _moment_of_text,
        "json": json_value,
        "embedding": json_value,
        "flag": bool,
    },
)
POSTGRES = Codec(
    encode={"time": _moment, "json": json_text, "embedding": json_text},
    decode={"uuid": _uuid_of_driver, "json": json_value, "embedding": json_value},
)
