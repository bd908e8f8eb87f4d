"""The only bridge between synchronous code and the asynchronous core.

Without a running loop, a coroutine runs on a loop that belongs to the thread. In a thread that
`in_thread` started (a synchronous `forward` or tool), it runs on the loop that waits for the thread
and owns the pools and queues of the run. With a running loop (a notebook), it runs on a shared
daemon thread. On a loop of dspex a blocking call would never end, so it is an error.
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
_MOST_INTERRUPTIONS = 8


async def unbroken(work: Coroutine[Any, Any, T]) -> T:
    """Finish `work` even if the caller is cancelled; the cancellation is raised afterwards.

    Database drivers lose their connection when they are cancelled during a query.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise


def wake(future: "asyncio.Future[None]") -> None:
    """End the wait for `future`, unless it has ended; call it on the future's loop."""
    if not future.done():
        future.set_result(None)


class _ThreadLoop:
    """A loop that lives as long as its thread, so that later calls reuse pooled connections."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        weakref.finalize(self, _close, self.loop)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        task = self.loop.create_task(coroutine)
        try:
            return self.loop.run_until_complete(task)
        except KeyboardInterrupt:
            task.cancel()
            self._end(task)
            raise

    def _end(self, task: "asyncio.Task[Any]") -> None:
        """Let a cancelled task clean up.

        An interruption inside a task ends the loop, and does so again in each task that waits for
        this one. An impatient user interrupts the cleanup, too.
        """
        for _ in range(_MOST_INTERRUPTIONS):
            with contextlib.suppress(KeyboardInterrupt):
                self.loop.run_until_complete(asyncio.wait({task}))
            if task.done():
                if not task.cancelled():
                    task.exception()  # which is the interruption
                return


def _close(loop: asyncio.AbstractEventLoop) -> None:
    """Shut down the loop's generators (and so pooled sessions) and executor, then close it."""
    if not loop.is_closed() and not loop.is_running():
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


class _LoopPerThread(threading.local):
    """One loop for each thread, created at its first call."""

    def __init__(self) -> None:
        self.loop: _ThreadLoop | None = None

    def get(self) -> _ThreadLoop:
        if self.loop is None:
            self.loop = _ThreadLoop()
        return self.loop


class _DaemonLoop:
    """A loop on a daemon thread, for callers whose thread already runs a loop."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.loop: asyncio.AbstractEventLoop | None = None

    def get(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self.loop is None:
                self.loop = asyncio.new_event_loop()
                threading.Thread(
                    target=self.loop.run_forever, name="dspex-loop", daemon=True
                ).start()
            return self.loop

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        context = contextvars.copy_context()
        context.run(_blocked.set, (*_blocked.get(), asyncio.get_running_loop()))
        future = context.run(asyncio.run_coroutine_threadsafe, coroutine, self.get())
        try:
            return future.result()
        except KeyboardInterrupt:  # interrupting a notebook cell cancels its calls
            future.cancel()
            raise


def _copy(task: asyncio.Task[T], future: "concurrent.futures.Future[T]") -> None:
    if task.cancelled():
        future.cancel()
    elif error := task.exception():
        future.set_exception(error)
    else:
        future.set_result(task.result())


class _Host:
    """The loop that waits for a thread of `in_thread`, and the calls of this thread on it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lock = threading.Lock()
        self._pending: dict[concurrent.futures.Future[Any], Coroutine[Any, Any, Any]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._is_cancelled = False
        self.is_open = True

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a call from the thread; raise CancelledError if the caller was cancelled."""
        future = concurrent.futures.Future[T]()
        with self._lock:
            if self._is_cancelled:
                coroutine.close()
                raise asyncio.CancelledError
            self._pending[future] = coroutine
            self._loop.call_soon_threadsafe(self._start, future, context=contextvars.copy_context())
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            # an ordinary exception, which user code might catch
            raise asyncio.CancelledError from None

    def _start(self, future: "concurrent.futures.Future[Any]") -> None:
        with self._lock:
            coroutine = self._pending.pop(future, None)
        if coroutine is not None:
            task = self._loop.create_task(coroutine)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            task.add_done_callback(lambda done: _copy(done, future))

    async def cancel(self) -> None:
        """Cancel the running calls, and refuse later calls of the thread."""
        with self._lock:
            self._is_cancelled = True
            pending, self._pending = self._pending, {}
        for future, coroutine in pending.items():
            coroutine.close()
            future.cancel()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(set(self._tasks))


_thread_loops = _LoopPerThread()
_daemon = _DaemonLoop()
_host: "contextvars.ContextVar[_Host | None]" = contextvars.ContextVar("dspex_host", default=None)
_blocked: "contextvars.ContextVar[tuple[asyncio.AbstractEventLoop, ...]]" = contextvars.ContextVar(
    "dspex_blocked", default=()
)


def is_running() -> bool:
    """Whether this thread runs an event loop, as in a coroutine or a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run `coroutine` from synchronous code and return its result.

    The coroutine sees the caller's context variables.

    Raises:
        ConfigurationError: called on a loop of dspex, where blocking would never end.
    """
    try:
        running = asyncio.get_running_loop()
    except RuntimeError:
        host = _host.get()
        return (
            host.run(coroutine)
            if host is not None and host.is_open
            else _thread_loops.get().run(coroutine)
        )
    if running is _daemon.loop or (
        _thread_loops.loop is not None and running is _thread_loops.loop.loop
    ):
        coroutine.close()
        raise ConfigurationError(
            "a synchronous call inside dspex's own event loop would never end: write `await "
            "program.acall(...)` (or `await` the function) here instead"
        )
    return _daemon.run(coroutine)


async def in_thread(work: Callable[..., T], /, **arguments: Any) -> T:
    """Call blocking `work` in a new thread; its calls with `run` execute on this loop.

    Cancellation cancels those calls and raises at once. The thread itself cannot be stopped, but
    its further calls raise `asyncio.CancelledError`. Threads are not pooled: a thread that waits
    for another thread of a full pool would never end.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[tuple[T | None, BaseException | None]] = loop.create_future()
    host, context = _Host(loop), contextvars.copy_context()
    context.run(_host.set, host)

    def settle(value: T | None, error: BaseException | None) -> None:
        if not future.done():
            future.set_result((value, error))

    def call() -> None:
        value, error = None, None
        try:
            value = context.run(work, **arguments)
        except BaseException as raised_error:  # noqa: BLE001  # raised where the result is awaited
            error = raised_error
        with contextlib.suppress(RuntimeError):  # the loop is closed: the caller is gone
            loop.call_soon_threadsafe(settle, value, error)

    threading.Thread(target=call, name="dspex-work", daemon=True).start()
    try:
        value, error = await future
    except asyncio.CancelledError:
        await host.cancel()
        raise
    host.is_open = False  # threads that `work` started and left use other loops
    if error is not None:
        raise error
    return cast("T", value)


async def on_loop(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> T:
    """Await `work` on `loop`, which owns its resources and may not be the running loop.

    Raises:
        ConfigurationError: `loop` is blocked by the synchronous call that this is part of.
    """
    if asyncio.get_running_loop() is loop:
        return await work
    if loop in _blocked.get():
        work.close()
        raise ConfigurationError(
            "a synchronous call blocks the event loop that it needs: in async code, write `await "
            "module.acall(...)` instead of `module(...)`, or `await store.aload(...)`"
        )
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, loop))
