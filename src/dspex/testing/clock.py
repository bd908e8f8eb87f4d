"""A clock that a test turns by hand."""

import asyncio
import heapq
from datetime import UTC, datetime, timedelta


class FakeClock:
    """Stands still until `turn`; sleepers wake when their time has come. Owned by one event loop."""

    def __init__(self) -> None:
        """Begin at 2026-01-01, with the monotonic time at 0."""
        self.seconds = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now(self) -> datetime:
        """Return the wall-clock time, always in UTC."""
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.seconds)

    def monotonic_ns(self) -> int:
        """Return nanoseconds since the start."""
        return int(self.seconds * 1e9)

    async def sleep(self, seconds: float) -> None:
        """Wait until the clock was turned far enough."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.seconds + seconds, id(future), future))
        await future

    async def turn(self, seconds: float) -> None:
        """Move time on, wake who is due, and let every task run that can."""
        self.seconds += seconds
        while self._sleepers and self._sleepers[0][0] <= self.seconds:
            future = heapq.heappop(self._sleepers)[2]
            if not future.done():
                future.set_result(None)
        await settle()


async def settle() -> None:
    """Let every task run that can, without letting time pass."""
    for _ in range(20):
        await asyncio.sleep(0)
