"""A clock that tests control."""

import asyncio
import heapq
import itertools
from datetime import UTC, datetime, timedelta

_START = datetime(2030, 1, 1, tzinfo=UTC)


class FakeClock:
    """A `Clock` that only moves by `advance`, or that jumps ahead whenever a task sleeps.

    `slept` lists the seconds of all sleeps. Use it on a single event loop.
    """

    def __init__(self, *, jumps: bool = False) -> None:
        """Start at a fixed time; with `jumps`, a sleep moves the clock and returns at once."""
        self.slept: list[float] = []
        self._jumps = jumps
        self._ns = 0
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()

    def now(self) -> datetime:
        """Return the time in UTC."""
        return _START + timedelta(microseconds=self._ns / 1000)

    def monotonic_ns(self) -> int:
        """Return nanoseconds since the clock was created."""
        return self._ns

    async def sleep(self, seconds: float) -> None:
        """Wait until the clock has moved `seconds` ahead."""
        self.slept.append(seconds)
        until = self._ns + int(seconds * 1e9)
        if self._jumps:
            self._ns = max(self._ns, until)
            await asyncio.sleep(0)
            return
        waiter = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (until, next(self._numbers), waiter))
        await waiter

    async def advance(self, seconds: float) -> None:
        """Move ahead and wake sleepers in order; each runs before the next one wakes."""
        until = self._ns + int(seconds * 1e9)
        while self._sleepers and self._sleepers[0][0] <= until:
            self._ns, _, waiter = heapq.heappop(self._sleepers)
            if not waiter.done():
                waiter.set_result(None)
            await self.settle()
        self._ns = until
        await self.settle()

    async def settle(self, rounds: int = 10) -> None:
        """Let ready tasks run."""
        for _ in range(rounds):
            await asyncio.sleep(0)

    @property
    def sleepers(self) -> int:
        """The number of sleeping tasks."""
        return sum(not waiter.done() for _, _, waiter in self._sleepers)
