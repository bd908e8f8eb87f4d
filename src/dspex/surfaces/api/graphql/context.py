"""The context that the resolvers of one request share."""

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
MAX_BYTES: Final = 16 * 1024 * 1024


class Performer(Protocol):
    """Performs an action and counts executions."""

    async def __call__(
        self, operations: Operations, action: Action[Any, Any], input: object
    ) -> Any:
        """Return the result of the action; see `Operations.perform`."""
        ...


async def _perform(operations: Operations, action: Action[Any, Any], input: object) -> Any:
    return await operations.perform(action, input)


class GraphQLContext:
    """The operations of the caller, and the rows read so far; each row is read once, in batches."""

    __slots__ = ("_bytes_left", "_loaders", "_lock", "_max_bytes", "_perform", "operations", "rows")

    def __init__(
        self, operations: Operations, perform: Performer = _perform, *, max_bytes: int = MAX_BYTES
    ) -> None:
        """Start without rows; all rows of one request have at most about `max_bytes`."""
        self._max_bytes = self._bytes_left = max_bytes
        self._lock = asyncio.Lock()
        self._perform = perform
        self.operations = operations
        self.rows: dict[UUID, Any] = {}
        self._loaders: dict[str, DataLoader[UUID, Any]] = {}

    async def page(self, resource: Resource[E], query: Query) -> Page[E]:
        """Return the first rows of a query, at least one, as many as the size limit allows.

        Raises:
            InvalidError: the rows that were read before have reached the limit.
        """
        async with self._lock:  # one page at a time: each needs the size of those before it
            if self._bytes_left <= 0:
                raise self._too_large()
            page = await self.operations.page(resource, query, most=self._bytes_left)
            self._bytes_left -= page.size
        return page

    async def load(self, resource: Resource[Any], key: UUID) -> Any:
        """Return the row with this id.

        Raises:
            NotFoundError: it does not exist.
        """
        if resource.name not in self._loaders:
            self._loaders[resource.name] = DataLoader(
                load_fn=lambda keys: self._read(resource, keys)
            )
        row = await self._loaders[resource.name].load(key)
        if row is None:
            raise NotFoundError(f"there is no {resource.name} {str(key)!r}")
        return row

    async def load_all(self, resource: Resource[Any], keys: Collection[UUID]) -> Sequence[Any]:
        """Return the existing rows with these ids, and cache them.

        Raises:
            InvalidError: all rows of the request together exceed the size limit.
        """
        missing = tuple(key for key in keys if key not in self.rows)
        if missing:
            page = await self.page(resource, Query(where={"id": missing}, limit=len(missing)))
            if page.has_more:
                raise self._too_large()
            self.rows.update((row.id, row) for row in page.rows)
        return [self.rows[key] for key in keys if key in self.rows]

    async def perform(self, action: Action[Any, Any], input: object) -> Any:
        """Perform an action, which may change rows: those read before are read again after it.

        Raises:
            ActionError: see `Operations.perform`.
        """
        self.forget()
        return await self._perform(self.operations, action, input)

    def _too_large(self) -> InvalidError:
        return InvalidError(
            f"the answer is larger than {self._max_bytes} bytes: ask for fewer rows or fields at "
            "once"
        )

    def renew(self) -> None:
        """Start over for the next event of a subscription."""
        self.forget()
        self._bytes_left = self._max_bytes

    def forget(self) -> None:
        """Forget the rows, because they may have changed."""
        self.rows.clear()
        self._loaders.clear()

    async def _read(self, resource: Resource[Any], keys: list[UUID]) -> list[Any]:
        await self.load_all(resource, keys)
        return [self.rows.get(key) for key in keys]
