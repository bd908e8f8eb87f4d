"""The single bridge from synchronous callers to the asynchronous core.

No running loop in this thread: the coroutine runs on a loop that the thread keeps. A running loop (a notebook):
it runs on one shared daemon thread. On dspex's own loops a blocking call could never end, so it is an error.
"""

import asyncio
import atexit
import concurrent.futures
import contextvars
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from dspex.errors import ConfigurationError

T = TypeVar("T")


async def unbroken(work: Coroutine[Any, Any, T]) -> T:
    """Do `work` to its end, also when the caller is cancelled: the cancellation is raised after it.

    A driver of a database loses its connection when it is cancelled in the middle of a query.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise


class _KeptLoop:
    """A loop that outlives single calls, so that pooled connections do too. Owned by one thread."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.get_ident()
        atexit.register(self.close)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        task = self.loop.create_task(coroutine)
        try:
            return self.loop.run_until_complete(task)
        except KeyboardInterrupt:
            task.cancel()
            self.loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
            raise

    def close(self) -> None:
        """Let what lives on the loop end itself (`shutdown_asyncgens` closes pooled sessions), then close it."""
        atexit.unregister(self.close)
        if not self.loop.is_closed() and not self.loop.is_running():
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.run_until_complete(self.loop.shutdown_default_executor())
            self.loop.close()


class _Keeper(threading.local):
    """One kept loop for each thread; it is closed when its thread ends."""

    def __init__(self) -> None:
        self.kept: _KeptLoop | None = None

    def get(self) -> _KeptLoop:
        if self.kept is None:
            self.kept = _KeptLoop()
        return self.kept

    def __del__(self) -> None:
        if self.kept is not None:
            self.kept.close()


class _DaemonLoop:
    """One loop on a daemon thread, for callers whose own thread already runs one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.loop: asyncio.AbstractEventLoop | None = None

    def get(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self.loop is None:
                self.loop = asyncio.new_event_loop()
                threading.Thread(target=self.loop.run_forever, name="dspex-loop", daemon=True).start()
            return self.loop

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        loop, answer = self.get(), concurrent.futures.Future[T]()

        def start() -> None:
            task = loop.create_task(coroutine)
            task.add_done_callback(lambda done: _copy(done, answer))

        loop.call_soon_threadsafe(start, context=contextvars.copy_context())
        return answer.result()


def _copy(task: asyncio.Task[T], answer: "concurrent.futures.Future[T]") -> None:
    if task.cancelled():
        answer.cancel()
    elif error := task.exception():
        answer.set_exception(error)
    else:
        answer.set_result(task.result())


_keeper = _Keeper()
_daemon = _DaemonLoop()


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run `coroutine` to its end from synchronous code and return its result.

    The caller's context variables are seen inside.

    Raises:
        ConfigurationError: called on one of dspex's own loops, where blocking would never end.
    """
    try:
        running = asyncio.get_running_loop()
    except RuntimeError:
        return _keeper.get().run(coroutine)
    if running is _daemon.loop or (_keeper.kept is not None and running is _keeper.kept.loop):
        coroutine.close()
        raise ConfigurationError(
            "a synchronous call inside dspex's own event loop would never end: write `await program.acall(...)` "
            "(or `await` the function) here instead"
        )
    return _daemon.run(coroutine)
