"""The engine of processes that queue jobs but run none: a server, the command line."""

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import UUID

from dspex.clock import Clock
from dspex.errors import ConflictError, NotFoundError
from dspex.operations.framework.store import Store
from dspex.operations.jobs.job import JobResource, job_changes
from dspex.operations.jobs.orphan_sweeper import live_workers, why_waiting
from dspex.operations.jobs.policy import JobPolicy


class QueuedJobs:
    """Explains why a new job waits; workers find it by its row, at least twice a second.

    So no job can be lost between its row and a queue, and the process does not need DBOS. Many
    tasks may use it.
    """

    def __init__(
        self, store: Store, *, policy: JobPolicy, clock: Clock, new_id: Callable[[], UUID]
    ) -> None:
        """Take the collaborators.

        Each new job sets `wakeup`. A server that starts a worker sets `starts_worker`.
        """
        self._store = store
        self._policy = policy
        self._clock = clock
        self._new_id = new_id
        self.wakeup = asyncio.Event()
        self.starts_worker = False

    async def enqueue(self, resource: JobResource[Any], job_id: UUID) -> None:
        """Write into the row why the job waits if no worker can run it; see `JobEngine`."""
        self.wakeup.set()
        job = await self._store.get(resource, id=job_id)
        if job is None or job.status != "queued":
            return
        alive = await live_workers(self._store)
        reason = why_waiting(
            job,
            alive,
            running=0,
            policy=self._policy,
            queue=resource.queue,
            starts_worker=self.starts_worker,
        )
        if reason is None:
            return
        changes = job_changes(
            resource,
            job,
            {"waiting": reason},
            id=self._new_id(),
            now=self._clock.now(),
            message=reason,
        )
        try:
            await self._store.write(*changes)
        except (ConflictError, NotFoundError):
            return  # somebody runs it already

    async def stop(self, resource: JobResource[Any], job_id: UUID) -> None:
        """Do nothing: the worker that runs the job reads its row four times a second."""
