"""IdGenerator in the order of creation, even if the clock is set back."""

import threading
from collections.abc import Callable
from uuid import UUID

import uuid_utils.compat

from dspex.operations.domain import DOMAIN
from dspex.operations.framework.store import Query, Store


class IdGenerator:
    """Generates UUIDs of version 7, each greater than all before; thread-safe.

    An id contains the time in milliseconds while the clock goes forward. Otherwise ids count up
    from the greatest one: pages and cursors depend on their order, nothing on their time.
    """

    def __init__(
        self, *, after: UUID | None = None, source: Callable[[], UUID] = uuid_utils.compat.uuid7
    ) -> None:
        """Take the id that all new ones must exceed."""
        self._last = 0 if after is None else after.int
        self._source = source
        self._lock = threading.Lock()

    def __call__(self) -> UUID:
        """Return the next id."""
        with self._lock:
            new_id = self._source()
            number = new_id.int
            if number <= self._last:
                number = self._last + 1  # in the last 62 bits, which are random
                new_id = UUID(int=number)
            self._last = number
        return new_id


async def ids_after(store: Store) -> IdGenerator:
    """Return a generator whose ids are greater than those of the newest rows in `store`.

    Raises:
        StorageError: the database cannot be read.
    """
    newest = [
        await store.select(DOMAIN[name], Query(limit=1))
        for name in ("event", "execution", "audit_entry")
    ]
    return IdGenerator(after=max((rows[0].id for rows in newest if rows), default=None))
