"""Two attempts of one call: the first to answer, or to stream a chunk, is used."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from dspex.clock import Clock
from dspex.errors import DspexError
from dspex.execution.clients.language_model import Emit, Response

Attempt = Callable[[Emit | None], Awaitable[Response]]


class HedgedCall:
    """Runs an attempt, and another one if it is late. `winner` is 0, 1 or None (nobody answered).

    The loser is cancelled. An attempt that fails leaves the race to the other one.
    """

    def __init__(self, emit: Emit | None) -> None:
        """Take the listener, if the reply is streamed."""
        self.winner: int | None = None
        self.errors: dict[int, DspexError] = {}
        self._emit = emit
        self._tasks: list[asyncio.Task[Response]] = []
        self._has_chunk = asyncio.Event()

    @property
    def has_second(self) -> bool:
        """Whether the second attempt has begun."""
        return len(self._tasks) == 2

    async def run(
        self,
        attempts: Sequence[Attempt],
        *,
        after: float,
        clock: Clock,
        may_begin: Callable[[], bool],
    ) -> Response:
        """Return the reply of the winner.

        The second of `attempts` begins `after` seconds after the first one, if `may_begin()`.

        Raises:
            DspexError: that of the first attempt, if none has answered.
        """
        timer = asyncio.create_task(clock.sleep(after))
        waiters = [timer]
        try:
            self._begin(attempts[0])
            if self._emit is not None:
                waiters.append(asyncio.create_task(_wait_for(self._has_chunk)))
            await asyncio.wait([*self._tasks, *waiters], return_when=asyncio.FIRST_COMPLETED)
            is_late = not self._tasks[0].done() and not self._has_chunk.is_set()
            if is_late and may_begin():
                self._begin(attempts[1])
            return await self._first_answer()
        finally:
            await _cancel([*self._tasks, *waiters])

    def _begin(self, attempt: Attempt) -> None:
        number = len(self._tasks)
        self._tasks.append(asyncio.ensure_future(attempt(self._listener(number))))

    async def _first_answer(self) -> Response:
        running = {*self._tasks}
        while running:
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in sorted(done, key=self._tasks.index):
                if (response := self._reply(task)) is not None:
                    return response
        raise self.errors.get(0) or self.errors.get(1) or asyncio.CancelledError

    def _reply(self, task: asyncio.Task[Response]) -> Response | None:
        """Return the reply of an ended attempt, None if the race goes on without it."""
        number = self._tasks.index(task)
        if task.cancelled():
            return None
        error = task.exception()
        if isinstance(error, DspexError) and self.winner != number:
            self.errors[number] = error
            return None
        if self.winner is None:
            self.winner = number
        return task.result() if self.winner == number else None

    def _listener(self, number: int) -> Emit | None:
        emit = self._emit
        if emit is None:
            return None

        async def take(text: str) -> None:
            if self.winner is None:
                self.winner = number
                self._has_chunk.set()
                for rival in self._tasks:
                    if rival is not self._tasks[number]:
                        rival.cancel()
            if self.winner != number:
                raise asyncio.CancelledError
            await emit(text)

        return take


async def _wait_for(event: asyncio.Event) -> None:
    await event.wait()


async def _cancel(tasks: Sequence[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
