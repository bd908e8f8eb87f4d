"""What the resolvers of one request share."""

import asyncio
from collections.abc import Collection, Sequence
from typing import Any, Final, Protocol, TypeVar
from uuid import UUID

from strawberry.dataloader import DataLoader

from dspex.errors import InvalidError, NotFoundError
from dspex.operations.framework.action import Action
from dspex.operations.framework.operations import Operations
from dspex.operations.framework.resource import Resource
from dspex.operations.framework.store import Page, Query

E = TypeVar("E")
MOST: Final = 16 * 1024 * 1024


class Performer(Protocol):
    """Carries out an action, and counts what came of it."""

    async def __call__(self, operations: Operations, action: Action, given: object) -> Any:
        """Return what the action gives; see `Operations.perform`."""
        ...


async def _plainly(operations: Operations, action: Action, given: object) -> Any:
    return await operations.perform(action, given)


class GraphQLContext:
    """The operations of who asks, and the rows read so far: each is read once, and together with others."""

    __slots__ = ("_left", "_loaders", "_most", "_perform", "_reading", "operations", "rows")

    def __init__(
        self, operations: Operations, perform: Performer = _plainly, *, most: int = MOST
    ) -> None:
        """Begin without any row; all rows of one request hold at most about `most` bytes."""
        self._most = self._left = most
        self._reading = asyncio.Lock()
        self._perform = perform
        self.operations = operations
        self.rows: dict[UUID, Any] = {}
        self._loaders: dict[str, DataLoader[UUID, Any]] = {}

    async def page(self, resource: Resource[E], query: Query) -> Page[E]:
        """Return the first rows that a query describes, as far as there is room for them in the answer; at least one.

        Raises:
            InvalidError: what was read before leaves no room.
        """
        async with self._reading:  # one after the other: each knows what the others left
            if self._left <= 0:
                raise self._too_large()
            page = await self.operations.page(resource, query, most=self._left)
            self._left -= page.size
        return page

    async def load(self, resource: Resource[Any], key: UUID) -> Any:
        """Return the row with this id.

        Raises:
            NotFoundError: there is none.
        """
        if resource.name not in self._loaders:
            self._loaders[resource.name] = DataLoader(
                load_fn=lambda keys: self._read(resource, keys)
            )
        found = await self._loaders[resource.name].load(key)
        if found is None:
            raise NotFoundError(f"there is no {resource.name} {str(key)!r}")
        return found

    async def load_all(self, resource: Resource[Any], keys: Collection[UUID]) -> Sequence[Any]:
        """Return the rows with these ids, as far as they exist, and keep them.

        Raises:
            InvalidError: they are larger than what is left of the room for the answer.
        """
        missing = tuple(key for key in keys if key not in self.rows)
        if missing:
            page = await self.page(resource, Query(where={"id": missing}, limit=len(missing)))
            if page.has_more:
                raise self._too_large()
            self.rows.update((row.id, row) for row in page.rows)
        return [self.rows[key] for key in keys if key in self.rows]

    async def perform(self, action: Action, given: object) -> Any:
        """Carry out an action; rows read before may be others now.

        Raises:
            ActionError: see `Operations.perform`.
        """
        self.forget()
        return await self._perform(self.operations, action, given)

    def _too_large(self) -> InvalidError:
        return InvalidError(
            f"the answer is larger than {self._most} bytes: ask for fewer rows or fields at once"
        )

    def renew(self) -> None:
        """Begin anew, for the next element of a subscription."""
        self.forget()
        self._left = self._most

    def forget(self) -> None:
        """Read every row again: they may be others now."""
        self.rows.clear()
        self._loaders.clear()

    async def _read(self, resource: Resource[Any], keys: list[UUID]) -> list[Any]:
        await self.load_all(resource, keys)
        return [self.rows.get(key) for key in keys]
