"""Finds abandoned jobs: queued ones without a ticket, and running ones whose worker is gone."""

import dataclasses
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from uuid import UUID

from dspex.clock import Clock
from dspex.error_text import quantity
from dspex.errors import ConflictError, NotFoundError
from dspex.operations.framework.store import Query, Store
from dspex.operations.jobs.job import JobRecord, JobResource, job_changes
from dspex.operations.jobs.policy import JobPolicy, channel_of, serves
from dspex.operations.jobs.records import JOB_WORKER, JobWorkerRecord

AddTicket = Callable[[str, JobRecord], Awaitable[None]]
"""Makes sure that a channel has a ticket for the current turn of a job."""
_AT_ONCE = 500
_log = logging.getLogger("dspex.jobs")


class OrphanSweeper:
    """Checks all unfinished jobs.

    Any number of processes may sweep at once, because each change requires an unchanged row. Only
    the rows count: whatever a process that dies between two writes leaves behind, the next sweep
    repairs.
    """

    def __init__(
        self,
        store: Store,
        *,
        policy: JobPolicy,
        clock: Clock,
        new_id: Callable[[], UUID],
        add_ticket: AddTicket | None = None,
        code: tuple[str, str] = ("", ""),
        starts_worker: bool = False,
    ) -> None:
        """Take the collaborators, and the code of this worker.

        Without `add_ticket`, in a process without DBOS, it only explains why jobs wait.
        """
        self._store = store
        self._policy = policy
        self._clock = clock
        self._new_id = new_id
        self._add_ticket = add_ticket
        self._code = code
        self._starts_worker = starts_worker

    async def tick(self) -> bool:
        """Sweep once; return whether any job is unfinished.

        Raises:
            StorageError: the database cannot be reached.
        """
        has_unfinished = False
        alive: Sequence[JobWorkerRecord] | None = None
        for queue, resource in self._policy.queues.items():
            jobs = await self._unfinished_jobs(resource)
            if not jobs:
                continue
            has_unfinished = True
            if alive is None:
                alive = await live_workers(self._store)
            await self._check_jobs(queue, resource, jobs=jobs, alive=alive)
        return has_unfinished

    async def _unfinished_jobs(self, resource: JobResource[Any]) -> list[JobRecord]:
        """Return all of them: behind many jobs that no worker can run, others may have theirs."""
        jobs: list[JobRecord] = []
        query = Query(where={"status": ("queued", "running")}, limit=_AT_ONCE, oldest_first=True)
        while len(page := await self._store.select(resource, query)) == _AT_ONCE:
            jobs += page
            query = dataclasses.replace(query, after=page[-1].id)
        return [*jobs, *page]

    async def _check_jobs(
        self,
        queue: str,
        resource: JobResource[Any],
        *,
        jobs: Sequence[JobRecord],
        alive: Sequence[JobWorkerRecord],
    ) -> None:
        worker_ids = {str(worker.id) for worker in alive}
        running = sum(job.status == "running" for job in jobs)
        for job in jobs:
            if job.status == "running":
                if job.worker not in worker_ids:
                    await self._handle_orphan(resource, job)
            elif self._is_due(job):
                if self._add_ticket is not None and serves(job.needs, *self._code):
                    await self._add_ticket(channel_of(queue, job.needs), job)
                reason = why_waiting(
                    job,
                    alive,
                    running=running,
                    policy=self._policy,
                    queue=queue,
                    starts_worker=self._starts_worker,
                )
                if reason is not None and reason != job.waiting:
                    await self._change(resource, job, {"waiting": reason}, reason)

    def _is_due(self, job: JobRecord) -> bool:
        """Return whether a queued job may begin.

        A time too far ahead for any wait was written by a fast clock, and does not count.
        """
        if job.retry_at is None:
            return True
        wait = (job.retry_at - self._clock.now()).total_seconds()
        return wait <= 0 or wait > 2 * self._policy.longest

    async def _handle_orphan(self, resource: JobResource[Any], job: JobRecord) -> None:
        values: dict[str, Any] = {"updated_at": self._clock.now()}
        if job.attempts >= self._policy.deaths:
            workers = quantity(job.attempts, "worker")
            message = f"{workers} died while running this job; it is not tried again"
            error = {"code": "worker_lost", "message": message, "retryable": False, "fields": []}
            values |= {
                "status": resource.step("fail", job.status),
                "error": error,
                "finished_at": self._clock.now(),
            }
        else:
            message = "its worker is gone; it goes on where it was"
            values |= {"status": resource.step("requeue", job.status), "waiting": message}
        await self._change(resource, job, values, message, begins_turn=True)

    async def _change(  # noqa: PLR0917
        self,
        resource: JobResource[Any],
        job: JobRecord,
        values: dict[str, Any],
        message: str,
        *,
        begins_turn: bool = False,
    ) -> None:
        changes = job_changes(
            resource,
            job,
            values,
            id=self._new_id(),
            now=self._clock.now(),
            message=message,
            begins_turn=begins_turn,
        )
        try:
            await self._store.write(*changes)
        except (ConflictError, NotFoundError):
            _log.debug("job %s was moved on by somebody else", job.id)


async def live_workers(store: Store) -> Sequence[JobWorkerRecord]:
    """Return the workers that count as alive."""
    return await store.select(JOB_WORKER, Query(where={"status": "alive"}, limit=1000))


def why_waiting(
    job: JobRecord,
    alive: Sequence[JobWorkerRecord],
    *,
    running: int,
    policy: JobPolicy,
    queue: str,
    starts_worker: bool = False,
) -> str | None:
    """Return why a queued job that is due does not run yet; None if it is about to run.

    A server that `starts_worker` restarts it whenever it ends. The reason has to be true after the
    server has stopped, too: it stays in the row, and nobody may be left to change it.
    """
    able = [worker for worker in alive if serves(job.needs, worker.code, worker.revision)]
    if not alive and starts_worker:
        return (
            "waiting for the server's worker; without a server, start one with `dspex worker start`"
        )
    if not able:
        if job.needs:
            return f"no worker with {job.needs['code']}@{job.needs['revision']}"
        return "no worker is running; start one with `dspex worker start`"
    limit = policy.limits.get(queue)
    if limit is not None and running >= limit:
        return f"queue {queue!r} is full: {running} of {limit} run"
    if running >= policy.per_worker(queue) * len(able):
        return (
            f"every worker is busy ({quantity(running, 'job')} on {quantity(len(able), 'worker')})"
        )
    return None
