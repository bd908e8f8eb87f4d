"""The cache of programs by handle that backends share."""

import itertools
from collections.abc import Sequence
from typing import Generic, TypeVar

from dspex.errors import NotFoundError
from dspex.execution.backends.backend import Handle

T = TypeVar("T")
LIMIT = 256  # programs; a search or a server may use any number of them


class HandleCache(Generic[T]):
    """Values by handle. Evicts the least recently used value above the limit.

    A running execution keeps the value that it got and is not affected by an eviction.
    """

    __slots__ = ("_count", "_entries", "_limit")

    def __init__(self, limit: int = LIMIT) -> None:
        """Take the maximum number of values."""
        self._limit = limit
        self._count = itertools.count()
        self._entries: dict[Handle, tuple[int, T]] = {}

    def put(self, handle: Handle, value: T) -> Handle:
        """Store `value` and return its handle."""
        before = self._entries.pop(handle, None)
        self._entries[handle] = (next(self._count) if before is None else before[0], value)
        if len(self._entries) > self._limit:
            del self._entries[next(iter(self._entries))]
        return handle

    def touch(self, handle: Handle) -> bool:
        """Return whether there is a value for `handle`, and mark it as used."""
        entry = self._entries.pop(handle, None)
        if entry is None:
            return False
        self._entries[handle] = entry
        return True

    def get(self, handle: Handle) -> T:
        """Return the value for `handle`.

        Raises:
            NotFoundError: there is none.
        """
        if not self.touch(handle):
            raise NotFoundError(f"this backend holds no program {handle!r}; create it first")
        return self._entries[handle][1]

    def delete(self, handle: Handle) -> None:
        """Remove the value for `handle`.

        Raises:
            NotFoundError: there is none.
        """
        self.get(handle)
        del self._entries[handle]

    def handles(self) -> Sequence[Handle]:
        """Return all handles, in the order of their creation."""
        return sorted(self._entries, key=lambda handle: self._entries[handle][0])
