"""The types of columns: how each database keeps them, and how the kinds of attributes use them.

Nothing here imports SQLAlchemy: a command that only lists rows does not need it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

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


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnType:
    """How values of one type are stored.

    `postgres` is the name of the type in a statement. `sqlite` and `asyncpg` encode a value for
    the driver and decode it; None: the driver takes it as it is.
    """

    postgres: str
    sqlite: tuple[Conversion | None, Conversion | None] = (None, None)
    asyncpg: tuple[Conversion | None, Conversion | None] = (None, None)
    is_long: bool = False


_COLUMN_TYPES: Final[Mapping[StorageType, ColumnType]] = {
    "uuid": ColumnType(
        postgres="uuid",
        sqlite=(lambda value: value.hex, uuid_of_text),
        asyncpg=(None, uuid_of_driver),
    ),
    "text": ColumnType(postgres="text", is_long=True),
    "integer": ColumnType(postgres="integer"),
    "number": ColumnType(postgres="double precision"),
    "flag": ColumnType(postgres="boolean", sqlite=(None, bool)),
    "time": ColumnType(
        postgres="timestamptz",
        sqlite=(moment_text, moment_of_text),
        asyncpg=(moment, None),
    ),
    "json": ColumnType(
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
