"""Runs jobs that were handed out: takes the row, does the work, writes how it ended."""

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

    What the code of a job does to that loop, it does to all of them. A worker therefore has a
    process with a runner for each job (`JobProcess`).
    """

    def __init__(
        self, rows: JobRows, *, handlers: Mapping[str, Handler], policy: JobPolicy
    ) -> None:
        """Take the rows, as this worker writes them, and the handlers by queue."""
        self._rows = rows
        self._handlers = handlers
        self._policy = policy
        self._is_leaving = False
        self.running: dict[UUID, tuple[JobResource[Any], JobRun]] = {}

    async def run(self, queue: str, job_id: UUID, turn: int) -> str:
        """Run a job if it is still queued at this turn, and return what became of it in one word.

        Raises:
            StorageError: the row could not be read or taken; it is as it was.
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
            # waited for, so that what a job raises when its worker leaves is lost on nobody's
            # terminal
            await asyncio.gather(task, reporter, return_exceptions=True)
            self.running.pop(job_id, None)
        return await self._end(resource, run, task)

    async def watch(self) -> None:
        """Stop what was cancelled, paused or taken over since. Called a few times a second."""
        turns = {key: (resource, run.job.turn) for key, (resource, run) in self.running.items()}
        for key in await self._rows.lost_turns(turns):
            self.stop(key)

    def stop(self, job_id: UUID) -> None:
        """Stop one job, if it runs here; others have moved it on."""
        if job_id in self.running:
            self.running[job_id][1].stop()

    async def hand_back(self) -> None:
        """Queue everything that runs here again, for others; nothing further is taken."""
        self._is_leaving = True
        for resource, run in list(self.running.values()):
            await self._rows.queue_again(resource, run, HANDED_BACK)
            run.stop()

    def abandon(self) -> None:
        """Stop everything that runs here; it has gone to others already."""
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
            await asyncio.sleep(0.1)  # what is reported in this time goes into one transaction
            messages, run.messages = run.messages, []
            try:
                await self._rows.report(resource, run, messages)
            except (ConflictError, NotFoundError):
                run.stop()
                return
            except StorageError as error:
                _log.warning("the progress of job %s waits: %s", run.job.id, error.message)
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
            _log.error("job %s failed by a fault", run.job.id, exc_info=error)
            return await self._rows.fail(resource, run, ExecutionError(describe(error)))
        return await self._rows.complete(resource, run, task.result())

    async def _end_cancelled(self, resource: JobResource[Any], run: JobRun) -> str:
        if not run.is_stopped:
            return await self._rows.fail(
                resource, run, ExecutionError("the job's own code cancelled it")
            )
        # whoever leaves has handed its jobs back, or was taken for dead: then others take them
        if self._is_leaving or not await self._rows.is_ours(resource, run.job):
            return "stopped"
        return await self._rows.queue_again(resource, run, "stopped")
