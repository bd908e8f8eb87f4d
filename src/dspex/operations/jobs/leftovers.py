"""Deletes what ended jobs leave behind: tickets, journals, events, and rows of lost workers."""

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
    """What a database stores beside the rows of jobs. Every method may raise `StorageError`."""

    async def forget_journals(self, resource: JobResource[Any], *, before: datetime) -> int:
        """Delete the journals of the jobs that ended before `before`; return of how many jobs."""
        ...

    async def forget_lost_journals(self) -> int:
        """Delete the journals whose jobs are gone; return of how many jobs."""
        ...

    async def forget_events(
        self, resource: JobResource[Any], topic: str, *, before: datetime
    ) -> int:
        """Delete the events of the jobs that ended before `before`; return of how many jobs."""
        ...

    async def forget_workers(self, *, before: datetime) -> int:
        """Delete the rows of workers that stopped or died before `before`; return how many."""
        ...


class LeftoverCleaner:
    """Once an hour, deletes what jobs left that ended more than `days` days ago (0: never).

    The rows of jobs stay. An unfinished job keeps everything, however old it is: it continues from
    its journal. So does a failed job for `days` days, in which it can be resumed without repeating
    a model call.
    """

    def __init__(
        self,
        leftovers: Leftovers,
        *,
        clock: Clock,
        days: int,
        queues: Mapping[str, JobResource[Any]],
        forget_tickets: Callable[[datetime], Awaitable[int]],
    ) -> None:
        """Take the collaborators.

        `forget_tickets` deletes the tickets from before a moment that lead to no run.
        """
        self._leftovers = leftovers
        self._clock = clock
        self._days = days
        self._queues = queues
        self._forget_tickets = forget_tickets
        self._due = 0

    async def tick(self) -> int:
        """If an hour has passed, delete what is due; return the count of tickets, jobs and workers.

        If the database is unreachable, the next attempt is an hour later.
        """
        now = self._clock.monotonic_ns()
        if not self._days or now < self._due:
            return 0
        self._due = now + int(EVERY * 1e9)
        before = self._clock.now() - timedelta(days=self._days)
        try:
            total = await self._forget_tickets(before) + await self._leftovers.forget_workers(
                before=before
            )
            for queue, resource in self._queues.items():
                total += await self._leftovers.forget_journals(resource, before=before)
                total += await self._leftovers.forget_events(resource, queue, before=before)
            total += await self._leftovers.forget_lost_journals()
        except StorageError as error:
            _log.warning("leftovers of old jobs are deleted later: %s", error.message)
            return 0
        return total
