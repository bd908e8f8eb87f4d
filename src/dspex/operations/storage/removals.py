"""The port `Removals`: a row is deleted together with the rows that belong to it."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from dspex.errors import ConflictError, NotFoundError
from dspex.operations.framework.attribute_kinds import ATTRIBUTE_KINDS
from dspex.operations.framework.audit import AUDIT_ENTRY, AuditEntry
from dspex.operations.framework.domain import Domain
from dspex.operations.framework.resource import Resource
from dspex.operations.framework.store import Pruned
from dspex.operations.storage.database import Database
from dspex.operations.storage.tables import tables_of, text_bytes
from dspex.sync import unbroken


class SQLRemovals:
    """Deletes in one transaction; see `Removals` for the promises."""

    def __init__(self, database: Database, domain: Domain) -> None:
        """Take the database, which its owner closes, and its domain."""
        self._database = database
        self._domain = domain
        self._tables = tables_of(domain)

    async def remove(
        self, resource: Resource[Any], key: UUID, *, busy: Sequence[str], entry: AuditEntry
    ) -> Mapping[str, Pruned]:
        """Delete a row and what belongs to it; see `Removals.remove`."""
        return await unbroken(self._remove(resource, key, busy=busy, entry=entry))

    async def _remove(
        self, resource: Resource[Any], key: UUID, *, busy: Sequence[str], entry: AuditEntry
    ) -> Mapping[str, Pruned]:
        table = self._tables[resource.name]
        # a resource refers to none that comes later in the domain, so the last ones go first
        parts = {
            part.name: self._tables[part.name].c[part.owner] == key
            for part in reversed([*self._domain.values()])
            if part.owner is not None and part.owned_by == resource.name
        }
        async with self._database.writing() as connection:
            row = sa.select(table.c.id).where(table.c.id == key).with_for_update()
            if (await connection.execute(row)).first() is None:
                raise NotFoundError(f"there is no {resource.name} {str(key)!r}")
            for name, rule in parts.items():
                await self._check_idle(connection, name, rule, busy=busy)
            every = {**parts, resource.name: table.c.id == key}
            await self._check_references(connection, every)
            await self._clear_pointers(connection, every)
            removed = {
                name: await self._delete(connection, name, rule) for name, rule in every.items()
            }
            values = {part.name: getattr(entry, part.name) for part in fields(entry)}
            await connection.execute(self._tables[AUDIT_ENTRY.name].insert().values(**values))
        return removed

    async def _check_idle(
        self,
        connection: AsyncConnection,
        name: str,
        rule: sa.ColumnElement[bool],
        *,
        busy: Sequence[str],
    ) -> None:
        table = self._tables[name]
        if "status" not in table.c:
            return
        query = sa.select(table.c.id, table.c.status).where(rule, table.c.status.in_(busy))
        row = (await connection.execute(query.limit(1))).first()
        if row is not None:
            noun = name.replace("_", " ")
            raise ConflictError(f"the {noun} {row.id} is {row.status}: cancel it first")

    async def _check_references(
        self, connection: AsyncConnection, every: Mapping[str, sa.ColumnElement[bool]]
    ) -> None:
        """Raise if a row that stays refers to one that goes."""
        for name, resource in self._domain.items():
            for attribute, target in resource.references.items():
                if target not in every or name in every:
                    continue
                column = self._tables[name].c[attribute]
                query = sa.select(self._tables[name].c.id).where(
                    column.in_(self._ids(target, every))
                )
                if (row := (await connection.execute(query.limit(1))).first()) is not None:
                    noun = name.replace("_", " ")
                    raise ConflictError(
                        f"the {noun} {row.id} refers to it by {attribute}: delete or change that "
                        f"{noun} first"
                    )

    async def _clear_pointers(
        self, connection: AsyncConnection, every: Mapping[str, sa.ColumnElement[bool]]
    ) -> None:
        """Empty the pointers of rows that stay to rows that go."""
        for name, resource in self._domain.items():
            for attribute, target in resource.pointers.items():
                if target not in every:
                    continue
                table = self._tables[name]
                stays = [sa.not_(every[name])] if name in every else []
                rule = table.c[attribute].in_(self._ids(target, every))
                await connection.execute(
                    table.update().where(rule, *stays).values({attribute: None})
                )

    def _ids(
        self, name: str, every: Mapping[str, sa.ColumnElement[bool]]
    ) -> sa.Select[tuple[UUID]]:
        # not correlated, because the statement around it may be about the same table
        return sa.select(self._tables[name].c.id).where(every[name]).correlate(None)

    async def _delete(
        self, connection: AsyncConnection, name: str, rule: sa.ColumnElement[bool]
    ) -> Pruned:
        table = self._tables[name]
        documents = [
            table.c[part.name]
            for part in self._domain[name].attributes
            if ATTRIBUTE_KINDS[part.kind].is_document
        ]
        size = text_bytes(documents, is_sqlite=self._database.is_sqlite)
        query = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(size), 0)).where(rule)
        rows, total = (await connection.execute(query)).one()
        await connection.execute(table.delete().where(rule))
        return Pruned(int(rows), int(total))
