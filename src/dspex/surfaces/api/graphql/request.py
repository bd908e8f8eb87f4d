"""What the resolvers of one request share."""

from collections.abc import Collection, Sequence
from typing import Any, Protocol
from uuid import UUID

from strawberry.dataloader import DataLoader

from dspex.errors import NotFoundError
from dspex.operations.resources import Action, Operations, Query, Resource


class Performer(Protocol):
    """Carries out an action, and counts what came of it."""

    async def __call__(self, operations: Operations, action: Action, given: object) -> Any:  # noqa: ANN401
        """Return what the action gives; see `Operations.perform`."""
        ...


async def _plainly(operations: Operations, action: Action, given: object) -> Any:  # noqa: ANN401
    return await operations.perform(action, given)


class Request:
    """The operations of who asks, and the rows read so far: each is read once, and together with others."""

    __slots__ = ("_loaders", "_perform", "operations", "rows")

    def __init__(self, operations: Operations, perform: Performer = _plainly) -> None:
        """Begin without any row."""
        self._perform = perform
        self.operations = operations
        self.rows: dict[UUID, Any] = {}
        self._loaders: dict[str, DataLoader[UUID, Any]] = {}

    async def load(self, resource: Resource[Any], key: UUID) -> Any:  # noqa: ANN401  # a row of any resource
        """Return the row with this id.

        Raises:
            NotFoundError: there is none.
        """
        if resource.name not in self._loaders:
            self._loaders[resource.name] = DataLoader(load_fn=lambda keys: self._read(resource, keys))
        found = await self._loaders[resource.name].load(key)
        if found is None:
            raise NotFoundError(f"there is no {resource.name} {str(key)!r}")
        return found

    async def load_all(self, resource: Resource[Any], keys: Collection[UUID]) -> Sequence[Any]:
        """Return the rows with these ids, as far as they exist, and keep them."""
        missing = tuple(key for key in keys if key not in self.rows)
        if missing:
            rows = await self.operations.list(resource, Query(where={"id": missing}, limit=len(missing)))
            self.rows.update((row.id, row) for row in rows)
        return [self.rows[key] for key in keys if key in self.rows]

    async def perform(self, action: Action, given: object) -> Any:  # noqa: ANN401
        """Carry out an action; rows read before may be others now.

        Raises:
            ActionError: see `Operations.perform`.
        """
        self.forget()
        return await self._perform(self.operations, action, given)

    def forget(self) -> None:
        """Read every row again: the next element of a subscription shows what is true then."""
        self.rows.clear()
        self._loaders.clear()

    async def _read(self, resource: Resource[Any], keys: list[UUID]) -> list[Any]:
        await self.load_all(resource, keys)
        return [self.rows.get(key) for key in keys]
