"""Which programs one worker holds: the last ones that were asked for, and no more than a limit."""

from collections.abc import Iterator
from contextlib import contextmanager


class LoadedPrograms:
    """Handles in the order of their use. One that is in use is never given up."""

    __slots__ = ("_calls", "_handles", "_limit")

    def __init__(self, limit: int) -> None:
        """Take how many handles are kept."""
        self._limit = limit
        self._handles: dict[str, None] = {}
        self._calls: dict[str, int] = {}

    def __contains__(self, handle: str) -> bool:
        return handle in self._handles

    def __len__(self) -> int:
        return len(self._handles)

    @contextmanager
    def use(self, handle: str) -> Iterator[None]:
        """Hold a handle for one call, whether its program is loaded yet or not."""
        self._calls[handle] = self._calls.get(handle, 0) + 1
        try:
            yield
        finally:
            self._calls[handle] -= 1
            if not self._calls[handle]:
                del self._calls[handle]
            if handle in self._handles:
                self.add(handle)

    def add(self, handle: str) -> None:
        """Note that the worker has a program; it counts as the last one used."""
        self._handles.pop(handle, None)
        self._handles[handle] = None

    def discard(self, handle: str) -> None:
        """Note that it has not."""
        self._handles.pop(handle, None)

    def take_surplus(self) -> list[str]:
        """Remove and return those that are beyond the limit, the longest unused first."""
        idle = [handle for handle in self._handles if handle not in self._calls]
        surplus = idle[: max(0, len(self._handles) - self._limit)]
        for handle in surplus:
            del self._handles[handle]
        return surplus
