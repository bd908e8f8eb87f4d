"""Turns on an event loop: many who have something to do leave room for others between them."""

import asyncio
from collections import deque
from typing import Final

AT_ONCE: Final = 10


class Turns:
    """Lets so many go on in each round of the loop, in the order in which they came. Owned by one event loop.

    A thousand followers of one event would otherwise all run in the same round, and an execution, which needs a dozen
    rounds, would wait for all of them each time.
    """

    def __init__(self, at_once: int = AT_ONCE) -> None:
        """Begin with nobody."""
        self._at_once = at_once
        self._left = at_once
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._is_running = False

    async def take(self) -> None:
        """Return when it is the caller's turn."""
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
            if not turn.done():  # who left does not take a turn
                turn.set_result(None)
                self._left -= 1
        self._is_running = bool(self._waiting)
        if self._is_running:
            loop.call_soon(self._next_round, loop)
