"""The port `Store` on any database that has a `Driver`."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from dspex.errors import InternalError
from dspex.operations.framework.domain import Domain
from dspex.operations.framework.resource import Resource
from dspex.operations.framework.store import Change, Insert, Page, Query
from dspex.operations.storage.database import Database
from dspex.operations.storage.statements import Statements
from dspex.operations.storage.write_groups import Step

E = TypeVar("E")
_AT_ONCE = 2 * 1024 * 1024  # characters that are decoded without a pause


class SQLStore:
    """Rows in the tables of a domain; see `Store` for the promises.

    All stores of one database share its writes.
    """

    def __init__(self, database: Database, domain: Domain) -> None:
        """Take the database, which its owner closes, and the domain whose tables it has."""
        self._database = database
        self._driver = database.driver
        self._resources = {resource.entity: resource for resource in domain.values()}
        self._statements = {
            resource.name: Statements(resource, self._driver.dialect)
            for resource in domain.values()
        }

    def resource_of(self, entity: object) -> Resource[Any]:
        """Return the resource of which `entity` is a row."""
        resource = self._resources.get(type(entity))
        if resource is None:
            raise InternalError(f"{type(entity).__name__} is not an entity of this store's domain")
        return resource

    async def get(self, resource: Resource[E], **key: Any) -> E | None:
        """Return one row or None; see `Store.get`."""
        statements = self._of(resource)
        rows = await self._driver.rows(statements.get(key))
        return statements.entity(rows[0]) if rows else None

    async def select(self, resource: Resource[E], query: Query) -> Sequence[E]:
        """Return rows; see `Store.select`."""
        statements = self._of(resource)
        return [statements.entity(row) for row in await self._driver.rows(statements.select(query))]

    async def page(self, resource: Resource[E], query: Query, *, most: int) -> Page[E]:
        """Return the first rows; see `Store.page`."""
        statements = self._of(resource)
        portion = await self._driver.portion(
            statements, replace(query, limit=query.limit + 1), most=most
        )
        rows, pending = [], 0
        for row in portion.rows[: query.limit]:
            pending += statements.size(row)
            if pending > _AT_ONCE:
                pending = 0
                await asyncio.sleep(0)  # others get their turn between the large rows
            rows.append(statements.entity(row))
        return Page(
            rows=rows, has_more=portion.is_cut or len(portion.rows) > query.limit, size=portion.size
        )

    async def count(self, resource: Resource[Any], where: Mapping[str, Any]) -> int:
        """Return how many rows match; see `Store.count`."""
        rows = await self._driver.rows(self._of(resource).count(where))
        return int(rows[0][0])

    async def write(self, *changes: Change) -> None:
        """Make all changes in one transaction; see `Store.write`."""
        await self._database.writes.write(
            [
                Step(
                    self._of(
                        self.resource_of(change.entity)
                        if isinstance(change, Insert)
                        else change.resource
                    ),
                    change,
                )
                for change in changes
            ]
        )

    def _of(self, resource: Resource[E]) -> Statements[E]:
        return self._statements[resource.name]
