"""What the backends share: programs by handle, the last ones that were asked for."""

import itertools
from collections.abc import Sequence
from typing import Generic, TypeVar

from dspex.errors import NotFoundError
from dspex.execution.backends.backend import Handle

T = TypeVar("T")
LIMIT = 256  # programs; a search or a server goes through any number of them


class Held(Generic[T]):
    """Things by handle. Beyond the limit, the one that nobody has asked for the longest is forgotten.

    A run that is under way has what `get` returned, and ends undisturbed.
    """

    __slots__ = ("_count", "_limit", "_things")

    def __init__(self, limit: int = LIMIT) -> None:
        """Take how many things are held."""
        self._limit = limit
        self._count = itertools.count()
        self._things: dict[Handle, tuple[int, T]] = {}

    def put(self, handle: Handle, thing: T) -> Handle:
        """Keep `thing`, and return its handle."""
        before = self._things.pop(handle, None)
        self._things[handle] = (next(self._count) if before is None else before[0], thing)
        if len(self._things) > self._limit:
            del self._things[next(iter(self._things))]
        return handle

    def touch(self, handle: Handle) -> bool:
        """Return whether something is behind `handle`, which counts as asking for it."""
        entry = self._things.pop(handle, None)
        if entry is None:
            return False
        self._things[handle] = entry
        return True

    def get(self, handle: Handle) -> T:
        """Return what is behind `handle`.

        Raises:
            NotFoundError: nothing is.
        """
        entry = self._things.pop(handle, None)
        if entry is None:
            raise NotFoundError(f"this backend holds no program {handle!r}; create it first")
        self._things[handle] = entry
        return entry[1]

    def delete(self, handle: Handle) -> None:
        """Forget what is behind `handle`.

        Raises:
            NotFoundError: nothing is.
        """
        self.get(handle)
        del self._things[handle]

    def handles(self) -> Sequence[Handle]:
        """Return all handles, in the order of their creation."""
        return sorted(self._things, key=lambda handle: self._things[handle][0])
