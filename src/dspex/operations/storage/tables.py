"""Tables, derived from the resources."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.types import TypeDecorator, TypeEngine

from dspex.operations.events.records import EVENT
from dspex.operations.framework.attribute_kinds import ATTRIBUTE_KINDS, StorageType
from dspex.operations.framework.domain import Domain
from dspex.operations.framework.resource import Resource
from dspex.operations.storage.chunk_tables import CHUNKS
from dspex.operations.storage.values import moment

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}


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


_TYPES: Final[Mapping[StorageType, TypeEngine[Any]]] = {
    "uuid": sa.Uuid(),
    "text": sa.Text(),
    "integer": sa.Integer(),
    "number": sa.Float(),
    "flag": sa.Boolean(),
    "time": UTCTime(),
    "json": sa.JSON(none_as_null=True),
}
ENTRIES = sa.Table(
    "journal_entries",
    sa.MetaData(naming_convention=NAMING),
    sa.Column("job_id", sa.Uuid(), primary_key=True),
    sa.Column("number", sa.Integer(), primary_key=True, autoincrement=False),
    sa.Column("entry", sa.Text(), nullable=False),
)
"""The journals of jobs, which are not a resource."""


def tables_of(domain: Domain) -> Mapping[str, sa.Table]:
    """Return one table for each resource of `domain`, by the resource's name."""
    tables = metadata_of(domain).tables
    return {name: tables[resource.plural] for name, resource in domain.items()}


@lru_cache(maxsize=8)  # every opened store needs them five times, and they take 50 ms
def metadata_of(domain: Domain) -> sa.MetaData:
    """Return all tables of a database with `domain`; they are shared, so do not change them."""
    metadata = sa.MetaData(naming_convention=NAMING)
    for resource in domain.values():
        _table(resource, domain, metadata)
    ENTRIES.to_metadata(metadata)
    if "document_version" in domain:
        CHUNKS.to_metadata(metadata)
    return metadata


def _table(resource: Resource[Any], domain: Domain, metadata: sa.MetaData) -> None:
    columns: list[Any] = []
    for attribute in resource.attributes:
        target = resource.references.get(attribute.name)
        foreign = [sa.ForeignKey(f"{domain[target].plural}.id")] if target else []
        kind = _TYPES[ATTRIBUTE_KINDS[attribute.kind].storage]
        is_id = attribute.name == "id"
        columns.append(
            sa.Column(
                attribute.name,
                kind,
                *foreign,
                primary_key=is_id,
                nullable=attribute.is_nullable and not is_id,
            )
        )
    if resource is EVENT:  # the database assigns the order of events; see `event_log`
        columns.append(
            sa.Column(
                "position", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
            )
        )
    rules: list[Any] = [sa.UniqueConstraint(*group) for group in resource.unique]
    rules += [sa.Index(None, *group) for group in resource.indexes]
    if resource is EVENT:
        rules.append(sa.Index(None, "workspace", "topic", "position", "id"))
    sa.Table(resource.plural, metadata, *columns, *rules)


def text_bytes(columns: Iterable[sa.Column[Any]], *, is_sqlite: bool) -> sa.ColumnElement[int]:
    """Return how many bytes some values of a row have together as text."""
    total: sa.ColumnElement[int] = sa.literal(0)
    for column in columns:
        text = sa.cast(column, sa.Text)
        length = (
            sa.func.length(sa.cast(text, sa.LargeBinary))
            if is_sqlite
            else sa.func.octet_length(text)
        )
        total += sa.func.coalesce(length, 0)
    return total
