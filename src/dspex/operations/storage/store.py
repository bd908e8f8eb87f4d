"""The port `Store` on any database that SQLAlchemy Core speaks."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from dspex.errors import ConflictError, NotFoundError
from dspex.operations.resources import DOMAIN, Insert, Query, Resource, Update
from dspex.operations.resources.ports import Change
from dspex.operations.storage.database import Database
from dspex.operations.storage.tables import TABLES

E = TypeVar("E")


class SQLStore:
    """Rows in the tables of the domain; see `Store` for the promises."""

    def __init__(self, database: Database) -> None:
        """Take the database, which its owner closes."""
        self._database = database

    def resource_of(self, entity: object) -> Resource[Any]:
        """Return the resource of which `entity` is a row."""
        return DOMAIN.of(type(entity))

    async def get(self, resource: Resource[E], **key: Any) -> E | None:  # noqa: ANN401
        """Return one row or None; see `Store.get`."""
        table = TABLES[resource.name]
        async with self._database.reading() as connection:
            row = (await connection.execute(_matching(table, key).limit(1))).mappings().first()
        return None if row is None else resource.entity(**row)

    async def select(self, resource: Resource[E], query: Query) -> Sequence[E]:
        """Return rows; see `Store.select`."""
        table = TABLES[resource.name]
        # Ids are UUIDs of version 7: their order is that of creation, and they are their own cursor.
        wanted = _matching(table, query.where).limit(query.limit)
        wanted = wanted.order_by(table.c.id if query.oldest_first else table.c.id.desc())
        if query.after is not None:
            wanted = wanted.where(table.c.id > query.after if query.oldest_first else table.c.id < query.after)
        async with self._database.reading() as connection:
            rows = (await connection.execute(wanted)).mappings().all()
        return [resource.entity(**row) for row in rows]

    async def count(self, resource: Resource[Any], where: Mapping[str, Any]) -> int:
        """Return how many rows match; see `Store.count`."""
        table = TABLES[resource.name]
        wanted = _matching(table, where).with_only_columns(sa.func.count(table.c.id))
        async with self._database.reading() as connection:
            return int((await connection.execute(wanted)).scalar_one())

    async def write(self, *changes: Change) -> None:
        """Make all changes in one transaction; see `Store.write`."""
        async with self._database.writing() as connection:
            for change in changes:
                if isinstance(change, Insert):
                    await connection.execute(*_insert(change))
                else:
                    await _update(connection, change)


def _matching(table: sa.Table, where: Mapping[str, Any]) -> sa.Select[Any]:
    wanted = sa.select(table)
    for name, value in where.items():
        column = table.c[name]
        wanted = wanted.where(column.in_(value) if isinstance(value, tuple) else column == value)
    return wanted


def _insert(change: Insert) -> tuple[sa.Insert, dict[str, Any]]:
    resource = DOMAIN.of(type(change.entity))
    names = _names(resource.name)
    return TABLES[resource.name].insert(), {name: getattr(change.entity, name) for name in names}


@lru_cache(maxsize=64)
def _names(resource: str) -> tuple[str, ...]:
    return tuple(attribute.name for attribute in DOMAIN[resource].attributes)


async def _update(connection: AsyncConnection, change: Update) -> None:
    table = TABLES[change.resource.name]
    values: dict[str, Any] = {**change.values, "lock_version": table.c.lock_version + 1}
    values |= {name: table.c[name] + step for name, step in change.increments.items()}
    wanted = table.update().where(table.c.id == change.id).values(**values)
    if change.statuses:
        wanted = wanted.where(table.c.status.in_(change.statuses))
    for name, value in change.expected.items():
        wanted = wanted.where(table.c[name] == value)
    if (await connection.execute(wanted)).rowcount:
        return
    status = table.c.status if "status" in table.c else sa.literal("there")
    found = (await connection.execute(sa.select(status).where(table.c.id == change.id))).scalar()
    if found is None:
        raise NotFoundError(f"there is no {change.resource.name} {str(change.id)!r}")
    if found in change.statuses or not change.statuses:
        raise ConflictError(f"the {change.resource.name} {str(change.id)!r} has changed meanwhile")
    needed = " or ".join(change.statuses)
    raise ConflictError(f"the {change.resource.name} {str(change.id)!r} is {found}: this needs it to be {needed}")
