"""Ids whose order is that of creation, also where the clock is set back."""

import threading
from collections.abc import Callable
from uuid import UUID

import uuid_utils.compat

from dspex.operations.resources import DOMAIN, Query, Store


class Ids:
    """Gives UUIDs of version 7, each greater than all before; safe to use from several threads.

    An id tells the time to the millisecond as long as the clock goes forward. While it does not, ids count on from the
    greatest one: pages and cursors rest on their order, and nothing rests on their time.
    """

    def __init__(self, *, after: UUID | None = None, source: Callable[[], UUID] = uuid_utils.compat.uuid7) -> None:
        """Take the id that all others have to be greater than."""
        self._last = 0 if after is None else after.int
        self._source = source
        self._lock = threading.Lock()

    def __call__(self) -> UUID:
        """Return the next id."""
        with self._lock:
            made = self._source()
            number = made.int
            if number <= self._last:
                number = self._last + 1  # in the 62 bits at the end, which begin at random
                made = UUID(int=number)
            self._last = number
        return made


async def ids_after(store: Store) -> Ids:
    """Return ids that are greater than those of the newest rows in `store`.

    Raises:
        StorageError: the database cannot be read.
    """
    newest = [await store.select(DOMAIN[name], Query(limit=1)) for name in ("event", "execution", "audit_entry")]
    return Ids(after=max((rows[0].id for rows in newest if rows), default=None))
