"""The types of columns: how each database keeps them, and how the kinds of attributes use them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.types import TypeDecorator, TypeEngine

from dspex.operations.framework.attribute_kinds import ATTRIBUTE_KINDS, StorageType
from dspex.operations.storage.values import (
    Conversion,
    json_text,
    json_value,
    moment,
    moment_of_text,
    moment_text,
    uuid_of_driver,
    uuid_of_text,
)


class UTCTime(TypeDecorator[datetime]):
    """A moment in UTC, also where the database keeps no time zone (SQLite)."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: object) -> datetime | None:
        """Refuse a naive time instead of guessing its zone."""
        return value if value is None else moment(value)

    def process_result_value(self, value: datetime | None, dialect: object) -> datetime | None:
        """Return the moment with its zone."""
        return value if value is None or value.tzinfo is not None else value.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnType:
    """How values of one type are stored.

    `column` creates the type of a column, `postgres` is the name of that type in a statement.
    `sqlite` and `asyncpg` encode a value for the driver and decode it; None: the driver takes it as
    it is.
    """

    column: Callable[[], TypeEngine[Any]]
    postgres: str
    sqlite: tuple[Conversion | None, Conversion | None] = (None, None)
    asyncpg: tuple[Conversion | None, Conversion | None] = (None, None)
    is_long: bool = False


def _json() -> TypeEngine[Any]:
    return sa.JSON(none_as_null=True)


_COLUMN_TYPES: Final[Mapping[StorageType, ColumnType]] = {
    "uuid": ColumnType(
        column=sa.Uuid,
        postgres="uuid",
        sqlite=(lambda value: value.hex, uuid_of_text),
        asyncpg=(None, uuid_of_driver),
    ),
    "text": ColumnType(column=sa.Text, postgres="text", is_long=True),
    "integer": ColumnType(column=sa.Integer, postgres="integer"),
    "number": ColumnType(column=sa.Float, postgres="double precision"),
    "flag": ColumnType(column=sa.Boolean, postgres="boolean", sqlite=(None, bool)),
    "time": ColumnType(
        column=UTCTime,
        postgres="timestamptz",
        sqlite=(moment_text, moment_of_text),
        asyncpg=(moment, None),
    ),
    "json": ColumnType(
        column=_json,
        postgres="json",
        sqlite=(json_text, json_value),
        asyncpg=(json_text, json_value),
        is_long=True,
    ),
}


def column_type(kind: str) -> ColumnType:
    """Return the type of the columns for a kind of attribute."""
    return _COLUMN_TYPES[ATTRIBUTE_KINDS[kind].storage]


@dataclass(frozen=True, slots=True)
class Codec:
    """Conversions to and from a driver by kind; None and values of other kinds pass unchanged."""

    encode: Mapping[str, Conversion]
    decode: Mapping[str, Conversion]


def _codec(
    conversions: Callable[[ColumnType], tuple[Conversion | None, Conversion | None]],
) -> Codec:
    encode, decode = {}, {}
    for name, kind in ATTRIBUTE_KINDS.items():
        to_driver, from_driver = conversions(column_type(name))
        if conversion := _chain(kind.encode, to_driver):
            encode[name] = conversion
        if conversion := _chain(from_driver, kind.decode):
            decode[name] = conversion
    return Codec(encode, decode)


def _chain(first: Conversion | None, second: Conversion | None) -> Conversion | None:
    if first is None or second is None:
        return first or second
    return lambda value: second(first(value))


SQLITE: Final = _codec(lambda stored: stored.sqlite)
POSTGRES: Final = _codec(lambda stored: stored.asyncpg)
