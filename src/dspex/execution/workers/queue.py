"""Calls that wait for a worker: first come, first served, with a limit and deadlines."""

import asyncio
from collections import deque
from collections.abc import Callable

from dspex.errors import DspexError, PoolExhaustedError
from dspex.execution.workers.connection import again
from dspex.execution.workers.worker import Worker


class Queue:
    """Waiters in order. A worker that is handed to one has a slot reserved for it."""

    def __init__(self, name: str, limit: int) -> None:
        """Refuse more than `limit` waiters; `name` is the pool's, for errors."""
        self._name = name
        self._limit = limit
        self._waiters: deque[tuple[str, asyncio.Future[Worker]]] = deque()

    def __len__(self) -> int:
        return len(self._waiters)

    async def wait(self, handle: str, ends: float | None) -> Worker:
        """Wait for a worker until the loop's time `ends`.

        Raises:
            PoolExhaustedError: the queue is full, or the time is over.
        """
        if len(self._waiters) >= self._limit:
            raise PoolExhaustedError(
                f"pool {self._name!r} has no free worker and {self._limit} calls wait already; call again later, or "
                "raise its maximum or its queue_limit"
            )
        waiter: asyncio.Future[Worker] = asyncio.get_running_loop().create_future()
        entry = (handle, waiter)
        self._waiters.append(entry)
        try:
            async with asyncio.timeout_at(ends):
                return await waiter
        except BaseException as error:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                waiter.result().release()
            if isinstance(error, TimeoutError):
                raise PoolExhaustedError(f"no worker of pool {self._name!r} was free by the deadline") from None
            raise
        finally:
            if entry in self._waiters:
                self._waiters.remove(entry)

    def serve(self, choose: Callable[[str], Worker | None]) -> None:
        """Hand workers to waiters while there are both."""
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
        """Fail every waiter."""
        waiters, self._waiters = self._waiters, deque()
        for _, waiter in waiters:
            if not waiter.done():
                waiter.set_exception(again(error))
