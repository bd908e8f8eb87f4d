"""The base class of stores that wrap another store."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from dspex.operations.framework.resource import Resource
from dspex.operations.framework.store import Page, Query, Store

E = TypeVar("E")


class StoreWrapper:
    """A store that passes reads to the wrapped store; a subclass implements `write`."""

    def __init__(self, store: Store) -> None:
        """Take the store to wrap."""
        self._store = store

    def resource_of(self, entity: object) -> Resource[Any]:
        """Return the resource of which `entity` is a row."""
        return self._store.resource_of(entity)

    async def get(self, resource: Resource[E], **key: Any) -> E | None:
        """Return one row or None; see `Store.get`."""
        return await self._store.get(resource, **key)

    async def select(self, resource: Resource[E], query: Query) -> Sequence[E]:
        """Return rows; see `Store.select`."""
        return await self._store.select(resource, query)

    async def page(self, resource: Resource[E], query: Query, *, most: int) -> Page[E]:
        """Return the first rows; see `Store.page`."""
        return await self._store.page(resource, query, most=most)

    async def count(self, resource: Resource[Any], where: Mapping[str, Any]) -> int:
        """Return how many rows match; see `Store.count`."""
        return await self._store.count(resource, where)
