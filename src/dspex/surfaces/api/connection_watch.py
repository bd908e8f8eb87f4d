"""Whether the caller of an operation still waits for what comes of it."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from starlette.types import Receive

LOOK_AFTER_S: Final = 0.05  # most answers are given by then, and cost no task that looks


class ClientDisconnected(Exception):  # noqa: N818  # an end, not a fault
    """The caller went away, and what was done for it was cancelled."""


class ConnectionWatch:
    """One caller of one operation, which runs in `task`. Owned by one event loop.

    Where the caller leaves, the operation is cancelled; what runs inside `kept` is finished first,
    because the caller can ask for it again.
    """

    __slots__ = ("_has_cancelled", "_kept", "is_gone", "task")

    def __init__(self, task: "asyncio.Task[None] | None" = None) -> None:
        """Begin with one who waits."""
        self.task = task
        self.is_gone = False
        self._has_cancelled = False
        self._kept = 0

    def leave(self) -> None:
        """End the operation."""
        self.is_gone = True
        if not self._kept and self.task is not None:
            self._has_cancelled = self.task.cancel()

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Let what runs in the block end, whoever leaves meanwhile."""
        self._kept += 1
        try:
            yield
        finally:
            self._kept -= 1
        if self.is_gone and not self._kept:
            raise asyncio.CancelledError

    def take_cancellation(self) -> bool:
        """Return whether the cancellation that just arrived is because the caller left, and no other one's too."""
        if self._has_cancelled and self.task is not None:
            return not self.task.uncancel()
        return self.is_gone and self.task is not None and not self.task.cancelling()


@contextmanager
def watch_client(receive: Receive) -> Iterator[ConnectionWatch]:
    """Look whether the client of an HTTP request, whose body was read, is still there while the block lasts.

    Raises:
        ClientDisconnected: it is not, and the block was cancelled.
    """
    watch = ConnectionWatch(asyncio.current_task())
    loop, watchers = asyncio.get_running_loop(), list[asyncio.Task[None]]()
    timer = loop.call_later(
        LOOK_AFTER_S, lambda: watchers.append(loop.create_task(_watch(receive, watch)))
    )
    try:
        yield watch
    except asyncio.CancelledError:
        if watch.take_cancellation():
            raise ClientDisconnected from None
        raise
    finally:
        timer.cancel()
        for watcher in watchers:
            watcher.cancel()


async def _watch(receive: Receive, watch: ConnectionWatch) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    watch.leave()
