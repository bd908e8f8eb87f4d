"""Runs jobs: takes the row, calls the handler, and writes the result."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from dspex.errors import (
    ConflictError,
    DspexError,
    ExecutionError,
    NotFoundError,
    StorageError,
    describe,
)
from dspex.operations.framework.input_errors import input_errors_as_invalid
from dspex.operations.jobs.handler import Done, Handler, JobRun
from dspex.operations.jobs.job import JobResource
from dspex.operations.jobs.job_rows import HANDED_BACK, JobRows
from dspex.operations.jobs.policy import JobPolicy

_log = logging.getLogger("dspex.jobs")


class JobRunner:
    """Runs jobs in this process, on one event loop.

    A job that blocks the loop blocks them all, so a worker has a process with a runner for each job
    (`JobProcess`).
    """

    def __init__(
        self, rows: JobRows, *, handlers: Mapping[str, Handler], policy: JobPolicy
    ) -> None:
        """Take the rows of this worker, and the handlers by queue."""
        self._rows = rows
        self._handlers = handlers
        self._policy = policy
        self._is_leaving = False
        self.running: dict[UUID, tuple[JobResource[Any], JobRun]] = {}

    async def run(self, queue: str, job_id: UUID, turn: int) -> str:
        """Run a job if it is still queued at this turn, and return its outcome in one word.

        Raises:
            StorageError: the row could not be read or written, and is unchanged.
        """
        resource = self._policy.queues[queue]
        if self._is_leaving:
            return await self._rows.refuse(resource, job_id, turn)
        job = await self._rows.take(resource, job_id, turn)
        if job is None:
            return "stale"
        work = asyncio.Event()
        run = JobRun(job, work.set)
        run.task = task = asyncio.create_task(self._handle(self._handlers[queue], run))
        self.running[job_id] = (resource, run)
        reporter = asyncio.create_task(self._report(resource, run, work))
        try:
            await asyncio.wait({task})
        finally:
            task.cancel()
            reporter.cancel()
            # otherwise asyncio would print what a job raises when its worker ends
            await asyncio.gather(task, reporter, return_exceptions=True)
            self.running.pop(job_id, None)
        return await self._end(resource, run, task)

    async def watch(self) -> None:
        """Stop the jobs that were cancelled, paused or taken over; called a few times a second."""
        turns = {key: (resource, run.job.turn) for key, (resource, run) in self.running.items()}
        for key in await self._rows.lost_turns(turns):
            self.stop(key)

    def stop(self, job_id: UUID) -> None:
        """Stop one job if it runs here; it was cancelled, paused or taken over."""
        if job_id in self.running:
            self.running[job_id][1].stop()

    async def hand_back(self) -> None:
        """Queue all running jobs again, for other workers, and take no more jobs."""
        self._is_leaving = True
        for resource, run in list(self.running.values()):
            await self._rows.queue_again(resource, run, HANDED_BACK)
            run.stop()

    def abandon(self) -> None:
        """Stop all running jobs; other workers have them already."""
        self._is_leaving = True
        for _, run in list(self.running.values()):
            run.stop()

    async def _handle(self, handler: Handler, run: JobRun) -> Done:
        with input_errors_as_invalid():
            return await handler(run)

    async def _report(self, resource: JobResource[Any], run: JobRun, work: asyncio.Event) -> None:
        while True:
            await work.wait()
            work.clear()
            await asyncio.sleep(0.1)  # all reports of this time go into one transaction
            messages, run.messages = run.messages, []
            try:
                await self._rows.report(resource, run, messages)
            except (ConflictError, NotFoundError):
                run.stop()
                return
            except StorageError as error:
                _log.warning(
                    "the progress of job %s waits for the database: %s", run.job.id, error.message
                )
                run.messages = messages + run.messages
                await asyncio.sleep(self._policy.poll)
                work.set()

    async def _end(self, resource: JobResource[Any], run: JobRun, task: asyncio.Task[Done]) -> str:
        if run.failure is not None:
            return await self._rows.fail(resource, run, run.failure)
        if task.cancelled():
            return await self._end_cancelled(resource, run)
        error = task.exception()
        if isinstance(error, DspexError):
            return await self._rows.fail(resource, run, error)
        if error is not None:
            _log.error("job %s failed unexpectedly", run.job.id, exc_info=error)
            failure = ExecutionError(describe(error))
            failure.__cause__ = error  # it has the lines of the user's code
            return await self._rows.fail(resource, run, failure)
        return await self._rows.complete(resource, run, task.result())

    async def _end_cancelled(self, resource: JobResource[Any], run: JobRun) -> str:
        if not run.is_stopped:
            return await self._rows.fail(
                resource, run, ExecutionError("the job's own code cancelled it")
            )
        # a worker that ends has handed its jobs back, or was declared dead
        if self._is_leaving or not await self._rows.is_ours(resource, run.job):
            return "stopped"
        return await self._rows.queue_again(resource, run, "stopped")
