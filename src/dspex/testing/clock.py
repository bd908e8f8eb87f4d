"""Time that a test turns by hand."""

import asyncio
import heapq
import itertools
from datetime import UTC, datetime, timedelta

_START = datetime(2030, 1, 1, tzinfo=UTC)


class FakeClock:
    """A `Clock` that stands still until `advance` moves it, or that jumps ahead by itself while somebody sleeps.

    `slept` lists the seconds of every sleep that was asked for. For one event loop.
    """

    def __init__(self, *, jumps: bool = False) -> None:
        """Stand at a fixed moment; with `jumps`, a sleep takes no time and moves the clock to its end."""
        self.slept: list[float] = []
        self._jumps = jumps
        self._ns = 0
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()

    def now(self) -> datetime:
        """Return the time in UTC."""
        return _START + timedelta(microseconds=self._ns / 1000)

    def monotonic_ns(self) -> int:
        """Return nanoseconds since the clock was made."""
        return self._ns

    async def sleep(self, seconds: float) -> None:
        """Wait until the clock was moved `seconds` ahead."""
        self.slept.append(seconds)
        until = self._ns + int(seconds * 1e9)
        if self._jumps:
            self._ns = max(self._ns, until)
            await asyncio.sleep(0)
            return
        woken = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (until, next(self._numbers), woken))
        await woken

    async def advance(self, seconds: float) -> None:
        """Move ahead, waking sleepers in the order of their times; each runs before the next is woken."""
        until = self._ns + int(seconds * 1e9)
        while self._sleepers and self._sleepers[0][0] <= until:
            self._ns, _, woken = heapq.heappop(self._sleepers)
            if not woken.done():
                woken.set_result(None)
            await self.settle()
        self._ns = until
        await self.settle()

    async def settle(self, rounds: int = 10) -> None:
        """Let tasks that are ready run."""
        for _ in range(rounds):
            await asyncio.sleep(0)

    @property
    def sleepers(self) -> int:
        """How many tasks sleep now."""
        return sum(not woken.done() for _, _, woken in self._sleepers)
