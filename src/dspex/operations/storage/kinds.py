"""The kinds of attributes as databases keep them: one row for each, from which tables, statements and codecs follow."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.types import TypeDecorator, TypeEngine

from dspex.operations.framework.resource import AttributeKind
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
class StoredKind:
    """How one kind of attribute is stored.

    `column` makes the type of its column, `postgres` is the name of that type in a statement.
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


_JSON = StoredKind(
    column=_json,
    postgres="json",
    sqlite=(json_text, json_value),
    asyncpg=(json_text, json_value),
    is_long=True,
)
_NUMBER = StoredKind(column=sa.Float, postgres="double precision")
STORED_KINDS: Final[Mapping[AttributeKind, StoredKind]] = {
    "uuid": StoredKind(
        column=sa.Uuid,
        postgres="uuid",
        sqlite=(lambda value: value.hex, uuid_of_text),
        asyncpg=(None, uuid_of_driver),
    ),
    "text": StoredKind(column=sa.Text, postgres="text", is_long=True),
    "integer": StoredKind(column=sa.Integer, postgres="integer"),
    "number": _NUMBER,
    "flag": StoredKind(column=sa.Boolean, postgres="boolean", sqlite=(None, bool)),
    "time": StoredKind(
        column=UTCTime,
        postgres="timestamptz",
        sqlite=(moment_text, moment_of_text),
        asyncpg=(moment, None),
    ),
    "json": _JSON,
    "probability": _NUMBER,
    "embedding": _JSON,
}


@dataclass(frozen=True, slots=True)
class Codec:
    """How values go in and come out, by kind; a kind that is absent passes as it is. None never comes here."""

    encode: Mapping[AttributeKind, Conversion]
    decode: Mapping[AttributeKind, Conversion]


SQLITE: Final = Codec(
    {
        kind: stored.sqlite[0]
        for kind, stored in STORED_KINDS.items()
        if stored.sqlite[0] is not None
    },
    {
        kind: stored.sqlite[1]
        for kind, stored in STORED_KINDS.items()
        if stored.sqlite[1] is not None
    },
)
POSTGRES: Final = Codec(
    {
        kind: stored.asyncpg[0]
        for kind, stored in STORED_KINDS.items()
        if stored.asyncpg[0] is not None
    },
    {
        kind: stored.asyncpg[1]
        for kind, stored in STORED_KINDS.items()
        if stored.asyncpg[1] is not None
    },
)
