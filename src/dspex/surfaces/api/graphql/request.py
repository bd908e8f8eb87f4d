"""What the resolvers of one request share."""

from collections import defaultdict
from typing import Any
from uuid import UUID

from strawberry.dataloader import DataLoader

from dspex.errors import NotFoundError
from dspex.operations.resources import Operations, Query, Resource


class Request:
    """The services, and a loader for each resource: rows asked for one by one are read together, each once."""

    def __init__(self, operations: Operations) -> None:
        """Begin without any row."""
        self.operations = operations
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

    async def _read(self, resource: Resource[Any], keys: list[UUID]) -> list[Any]:
        rows = await self.operations.list(resource, Query(where={"id": tuple(keys)}, limit=len(keys)))
        by_id: dict[UUID, Any] = defaultdict(lambda: None, {row.id: row for row in rows})
        return [by_id[key] for key in keys]
