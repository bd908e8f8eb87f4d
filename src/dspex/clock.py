"""Time as a collaborator: `SystemClock`, or in tests a clock that they turn by hand."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Where every room gets the time from; safe to share between threads and loops."""

    def now(self) -> datetime:
        """Return the wall-clock time, always in UTC."""
        ...

    def monotonic_ns(self) -> int:
        """Return nanoseconds from an arbitrary start, never going backwards."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait; cancelling the task ends the wait at once."""
        ...


class SystemClock:
    """The clock of this machine."""

    __slots__ = ()

    def now(self) -> datetime:
        """Return the wall-clock time in UTC."""
        return datetime.now(UTC)

    def monotonic_ns(self) -> int:
        """Return the monotonic time in nanoseconds."""
        return time.monotonic_ns()

    async def sleep(self, seconds: float) -> None:
        """Wait on the running event loop."""
        await asyncio.sleep(seconds)
