"""Stored collections by id or name."""

from uuid import UUID

from dspex.errors import InvalidError, NotFoundError
from dspex.operations.collections.records import COLLECTION, CollectionRecord
from dspex.operations.framework.store import Query, Store


async def find_collection(
    store: Store, workspace: str, *, collection_id: UUID | None, name: str | None
) -> CollectionRecord:
    """Return a collection of a workspace by id or name.

    Raises:
        InvalidError: neither or both are given.
        NotFoundError: the workspace has no such collection.
    """
    if (collection_id is None) == (name is None):
        raise InvalidError("give either the collection's id or its name")
    key = {"name": name} if collection_id is None else {"id": collection_id}
    rows = await store.select(COLLECTION, Query(where={"workspace": workspace, **key}, limit=1))
    if not rows:
        raise NotFoundError(
            f"there is no collection {str(collection_id or name)!r}; `dspex collection list` "
            "lists them"
        )
    return rows[0]
