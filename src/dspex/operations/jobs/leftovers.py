"""What ended jobs have left behind is deleted after a while.

These are tickets, journals, events, and rows of lost workers.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

from dspex.clock import Clock
from dspex.errors import StorageError
from dspex.operations.jobs.job import JobResource

EVERY: Final = 3600.0
_log = logging.getLogger("dspex.jobs")


class Leftovers(Protocol):
    """What a database keeps beside the rows of jobs. Every method may raise `StorageError`."""

    async def forget_journals(self, resource: JobResource[Any], *, before: datetime) -> int:
        """Delete the journals of those jobs that ended before a moment; return of how many."""
        ...

    async def forget_lost_journals(self) -> int:
        """Delete the journals whose jobs are gone; return of how many."""
        ...

    async def forget_events(
        self, resource: JobResource[Any], topic: str, *, before: datetime
    ) -> int:
        """Delete the events of those jobs that ended before a moment; return of how many."""
        ...

    async def forget_workers(self, *, before: datetime) -> int:
        """Delete the rows of workers that stopped or died before a moment; return how many."""
        ...


class LeftoverCleaner:
    """Deletes leftovers of jobs once an hour after a number of days (0: never).

    The rows of jobs stay. An unfinished job keeps all it has, however old: its journal is what it
    goes on from. So does one that failed, for the days after its end in which it may be resumed
    without asking anything again.
    """

    def __init__(
        self,
        leftovers: Leftovers,
        *,
        clock: Clock,
        days: int,
        queues: Mapping[str, JobResource[Any]],
        spent: Callable[[datetime], Awaitable[int]],
    ) -> None:
        """Take the collaborators.

        `spent` deletes the tickets that were noted before a moment and lead to no run.
        """
        self._leftovers = leftovers
        self._clock = clock
        self._days = days
        self._queues = queues
        self._spent = spent
        self._due = 0

    async def tick(self) -> int:
        """Delete what is due, if an hour has passed; return how much that was.

        It counts tickets, jobs and workers. If the database is unreachable, the next try is an hour
        later.
        """
        now = self._clock.monotonic_ns()
        if not self._days or now < self._due:
            return 0
        self._due = now + int(EVERY * 1e9)
        before = self._clock.now() - timedelta(days=self._days)
        try:
            total = await self._spent(before) + await self._leftovers.forget_workers(before=before)
            for queue, resource in self._queues.items():
                total += await self._leftovers.forget_journals(resource, before=before)
                total += await self._leftovers.forget_events(resource, queue, before=before)
            total += await self._leftovers.forget_lost_journals()
        except StorageError as error:
            _log.warning("what old jobs left behind is deleted later: %s", error.message)
            return 0
        return total
