"""Limits how many tasks of one kind run in each round of the event loop."""

import asyncio
from collections import deque
from typing import Final

AT_ONCE: Final = 10


class Turns:
    """Lets `at_once` tasks continue per round of the loop, in FIFO order. Owned by one event loop.

    Otherwise a thousand followers of one event would all run in the same round, and an execution,
    which needs a dozen rounds, would wait for all of them every time.
    """

    def __init__(self, at_once: int = AT_ONCE) -> None:
        """Start without waiting tasks."""
        self._at_once = at_once
        self._left = at_once
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._is_running = False

    async def take(self) -> None:
        """Wait for the caller's turn."""
        loop = asyncio.get_running_loop()
        if not self._is_running:
            self._is_running = True
            self._left = self._at_once
            loop.call_soon(self._next_round, loop)
        if self._left and not self._waiting:
            self._left -= 1
            return
        turn = loop.create_future()
        self._waiting.append(turn)
        await turn

    def _next_round(self, loop: asyncio.AbstractEventLoop) -> None:
        self._left = self._at_once
        while self._waiting and self._left:
            turn = self._waiting.popleft()
            if not turn.done():  # skip cancelled tasks
                turn.set_result(None)
                self._left -= 1
        self._is_running = bool(self._waiting)
        if self._is_running:
            loop.call_soon(self._next_round, loop)
