"""The programs that one worker has loaded, in order of use and up to a limit."""

from collections.abc import Iterator
from contextlib import contextmanager


class LoadedPrograms:
    """Handles in the order of their use. A program in use is never unloaded."""

    __slots__ = ("_calls", "_handles", "_limit")

    def __init__(self, limit: int) -> None:
        """Take the number of handles to keep."""
        self._limit = limit
        self._handles: dict[str, None] = {}
        self._calls: dict[str, int] = {}

    def __contains__(self, handle: str) -> bool:
        return handle in self._handles

    def __len__(self) -> int:
        return len(self._handles)

    @contextmanager
    def use(self, handle: str) -> Iterator[None]:
        """Protect a handle during one call, even before its program is loaded."""
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
        """Add a program that the worker has loaded, as the most recently used one."""
        self._handles.pop(handle, None)
        self._handles[handle] = None

    def discard(self, handle: str) -> None:
        """Remove a program that the worker no longer has."""
        self._handles.pop(handle, None)

    def take_surplus(self) -> list[str]:
        """Remove and return the handles above the limit, least recently used first."""
        idle = [handle for handle in self._handles if handle not in self._calls]
        surplus = idle[: max(0, len(self._handles) - self._limit)]
        for handle in surplus:
            del self._handles[handle]
        return surplus
