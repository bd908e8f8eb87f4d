"""The single bridge between synchronous code and the asynchronous core.

No running loop in this thread: the coroutine runs on a loop that the thread keeps. A thread that `in_thread` started
(a synchronous `forward` or tool): on the loop that waits for it, which owns the run's pools and queues. A running loop
(a notebook): on one shared daemon thread. On dspex's own loops a blocking call could never end, so it is an error.
"""

import asyncio
import concurrent.futures
import contextlib
import contextvars
import threading
import weakref
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, cast

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
    """A loop that outlives single calls, so that pooled connections do too; it ends with its thread, or the process."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        weakref.finalize(self, _close, self.loop)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        task = self.loop.create_task(coroutine)
        try:
            return self.loop.run_until_complete(task)
        except KeyboardInterrupt:
            task.cancel()
            self.loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
            raise


def _close(loop: asyncio.AbstractEventLoop) -> None:
    """Let what lives on the loop end itself (`shutdown_asyncgens` closes pooled sessions), then close it."""
    if not loop.is_closed() and not loop.is_running():
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


class _Keeper(threading.local):
    """One kept loop for each thread, made at its first call."""

    def __init__(self) -> None:
        self.kept: _KeptLoop | None = None

    def get(self) -> _KeptLoop:
        if self.kept is None:
            self.kept = _KeptLoop()
        return self.kept


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
        context = contextvars.copy_context()
        context.run(_blocked.set, (*_blocked.get(), asyncio.get_running_loop()))
        answer = context.run(asyncio.run_coroutine_threadsafe, coroutine, self.get())
        try:
            return answer.result()
        except KeyboardInterrupt:  # whoever interrupts a cell means the calls that it makes
            answer.cancel()
            raise


def _copy(task: asyncio.Task[T], answer: "concurrent.futures.Future[T]") -> None:
    if task.cancelled():
        answer.cancel()
    elif error := task.exception():
        answer.set_exception(error)
    else:
        answer.set_result(task.result())


class _Host:
    """The loop that waits for one thread of `in_thread`, and the calls that this thread makes on it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lock = threading.Lock()
        self._coming: dict[concurrent.futures.Future[Any], Coroutine[Any, Any, Any]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._is_cancelled = False
        self.is_open = True

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Make one call from the thread; once nobody waits for the thread any more, it is refused."""
        answer = concurrent.futures.Future[T]()
        with self._lock:
            if self._is_cancelled:
                coroutine.close()
                raise asyncio.CancelledError
            self._coming[answer] = coroutine
            self._loop.call_soon_threadsafe(self._start, answer, context=contextvars.copy_context())
        try:
            return answer.result()
        except concurrent.futures.CancelledError:  # an ordinary exception, which user code would swallow
            raise asyncio.CancelledError from None

    def _start(self, answer: "concurrent.futures.Future[Any]") -> None:
        with self._lock:
            coroutine = self._coming.pop(answer, None)
        if coroutine is not None:
            task = self._loop.create_task(coroutine)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            task.add_done_callback(lambda done: _copy(done, answer))

    async def cancel(self) -> None:
        """End the calls under way, and refuse those that the thread would make after."""
        with self._lock:
            self._is_cancelled = True
            coming, self._coming = self._coming, {}
        for answer, coroutine in coming.items():
            coroutine.close()
            answer.cancel()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(set(self._tasks))


_keeper = _Keeper()
_daemon = _DaemonLoop()
_host: "contextvars.ContextVar[_Host | None]" = contextvars.ContextVar("dspex_host", default=None)
_blocked: "contextvars.ContextVar[tuple[asyncio.AbstractEventLoop, ...]]" = contextvars.ContextVar(
    "dspex_blocked", default=()
)


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run `coroutine` to its end from synchronous code and return its result.

    The caller's context variables are seen inside.

    Raises:
        ConfigurationError: called on one of dspex's own loops, where blocking would never end.
    """
    try:
        running = asyncio.get_running_loop()
    except RuntimeError:
        host = _host.get()
        return host.run(coroutine) if host is not None and host.is_open else _keeper.get().run(coroutine)
    if running is _daemon.loop or (_keeper.kept is not None and running is _keeper.kept.loop):
        coroutine.close()
        raise ConfigurationError(
            "a synchronous call inside dspex's own event loop would never end: write `await program.acall(...)` "
            "(or `await` the function) here instead"
        )
    return _daemon.run(coroutine)


async def in_thread(work: Callable[..., T], /, **given: Any) -> T:  # noqa: ANN401
    """Call blocking `work` in a thread of its own; the calls that it makes with `run` are made on this loop.

    Cancelled, it ends those calls and raises at once; the thread itself cannot be stopped, but each further call in it
    raises `asyncio.CancelledError`. Threads are not pooled: one that waits for another in a full pool never ends.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[tuple[T | None, BaseException | None]] = loop.create_future()
    host, context = _Host(loop), contextvars.copy_context()
    context.run(_host.set, host)

    def settle(value: T | None, error: BaseException | None) -> None:
        if not answer.done():
            answer.set_result((value, error))

    def call() -> None:
        value, error = None, None
        try:
            value = context.run(work, **given)
        except BaseException as raised:  # noqa: BLE001  # it is raised where the answer is awaited
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(settle, value, error)

    threading.Thread(target=call, name="dspex-work", daemon=True).start()
    try:
        value, error = await answer
    except asyncio.CancelledError:
        await host.cancel()
        raise
    host.is_open = False  # what `work` left behind in threads of its own makes its calls there
    if error is not None:
        raise error
    return cast("T", value)


async def on_loop(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> T:
    """Await `work` on `loop`, which owns what it needs and may be another than this one.

    Raises:
        ConfigurationError: that loop is blocked by the synchronous call that this is part of.
    """
    if asyncio.get_running_loop() is loop:
        return await work
    if loop in _blocked.get():
        work.close()
        raise ConfigurationError(
            "a synchronous call blocks the event loop that it needs: write `await module.acall(...)` in async code"
        )
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, loop))
