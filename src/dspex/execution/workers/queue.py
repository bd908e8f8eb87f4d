"""A FIFO queue of calls that wait for a worker, with a limit and deadlines."""

import asyncio
from collections import deque
from collections.abc import Callable
from copy import copy

from dspex.error_text import quantity
from dspex.errors import DspexError, PoolExhaustedError
from dspex.execution.workers.worker import PoolWorker


class Queue:
    """Waiting calls in order. A call that gets a worker has a slot reserved on it."""

    def __init__(self, name: str, limit: int) -> None:
        """Allow at most `limit` waiting calls; error messages name the pool `name`."""
        self._name = name
        self._limit = limit
        self._waiters: deque[tuple[str, asyncio.Future[PoolWorker]]] = deque()

    def __len__(self) -> int:
        return len(self._waiters)

    async def wait(self, handle: str, deadline: float | None) -> PoolWorker:
        """Wait for a worker until `deadline`, in the time of the event loop.

        Raises:
            PoolExhaustedError: the queue is full, or the deadline has passed.
        """
        if len(self._waiters) >= self._limit:
            raise PoolExhaustedError(
                f"pool {self._name!r} has no free worker and {quantity(self._limit, 'call')} "
                "already waiting; call again later, or raise its maximum or its queue_limit"
            )
        waiter: asyncio.Future[PoolWorker] = asyncio.get_running_loop().create_future()
        entry = (handle, waiter)
        self._waiters.append(entry)
        try:
            async with asyncio.timeout_at(deadline):
                return await waiter
        except BaseException as error:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                waiter.result().release()
            if isinstance(error, TimeoutError):
                raise PoolExhaustedError(
                    f"no worker of pool {self._name!r} was free by the deadline"
                ) from None
            raise
        finally:
            if entry in self._waiters:
                self._waiters.remove(entry)

    def serve(self, choose: Callable[[str], PoolWorker | None]) -> None:
        """Assign workers to waiting calls while there are both."""
        while self._waiters:
            handle, waiter = self._waiters[0]
            if not waiter.done():
                worker = choose(handle)
                if worker is None:
                    return
                worker.reserve()
                waiter.set_result(worker)
            self._waiters.popleft()

    def fail(self, error: DspexError) -> None:
        """Fail every waiting call."""
        waiters, self._waiters = self._waiters, deque()
        for _, waiter in waiters:
            if not waiter.done():
                waiter.set_exception(copy(error))
