"""Notice when the client of a request disconnects, and cancel what runs for it."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from starlette.types import Receive

WATCH_AFTER_S: Final = 0.05  # most responses are sent by then and need no watching task


class ClientDisconnected(Exception):  # noqa: N818  # an end, not a fault
    """The client disconnected, and its operation was cancelled."""


class ConnectionWatch:
    """Cancels the operation in `task` when its client disconnects. Owned by one event loop.

    A block inside `shield` is finished first, because the client may ask for its result again.
    """

    __slots__ = ("_has_cancelled", "_shields", "is_disconnected", "task")

    def __init__(self, task: "asyncio.Task[None] | None" = None) -> None:
        """Take the task of the operation; it may be set later."""
        self.task = task
        self.is_disconnected = False
        self._has_cancelled = False
        self._shields = 0

    def disconnect(self) -> None:
        """Cancel the operation, now or at the end of the shielded block."""
        self.is_disconnected = True
        if not self._shields and self.task is not None:
            self._has_cancelled = self.task.cancel()

    @contextmanager
    def shield(self) -> Iterator[None]:
        """Finish the block even if the client disconnects; the task is cancelled after it."""
        self._shields += 1
        try:
            yield
        finally:
            self._shields -= 1
        if self.is_disconnected and not self._shields:
            raise asyncio.CancelledError

    def take_cancellation(self) -> bool:
        """Return whether only this watch cancelled the task; if so, take that back."""
        if self._has_cancelled and self.task is not None:
            return not self.task.uncancel()
        return self.is_disconnected and self.task is not None and not self.task.cancelling()


@contextmanager
def watch_client(receive: Receive) -> Iterator[ConnectionWatch]:
    """Cancel the block when the client of an HTTP request, whose body was read, disconnects.

    Raises:
        ClientDisconnected: the block was cancelled.
    """
    watch = ConnectionWatch(asyncio.current_task())
    loop, watchers = asyncio.get_running_loop(), list[asyncio.Task[None]]()
    timer = loop.call_later(
        WATCH_AFTER_S,
        lambda: watchers.append(loop.create_task(_disconnect_at_end(receive, watch))),
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


async def wait_for_disconnect(receive: Receive) -> None:
    """Return when the client of an HTTP request disconnects."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _disconnect_at_end(receive: Receive, watch: ConnectionWatch) -> None:
    await wait_for_disconnect(receive)
    watch.disconnect()
