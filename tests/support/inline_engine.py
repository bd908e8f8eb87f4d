"""An engine in this process: for tests, and wherever jobs need not outlive the program."""

import asyncio
from typing import Any
from uuid import UUID

from dspex.clock import SystemClock
from dspex.operations.framework.store import Store
from dspex.operations.jobs.job import JobResource
from dspex.operations.jobs.runner import JobRunner


class InlineEngine:
    """Runs each job at once, on the running loop.

    A job that is to be tried again is, without waiting for long. Owned by one event loop; `async
    with` stops what still runs at the end, as a killed process would leave it.
    """

    def __init__(self, store: Store, runner: JobRunner) -> None:
        """Take where the rows are, and what runs them."""
        self._store = store
        self._runner = runner
        self._clock = SystemClock()
        self._tasks: dict[UUID, asyncio.Task[None]] = {}

    async def __aenter__(self) -> "InlineEngine":
        return self

    async def __aexit__(self, *_error: object) -> None:
        self._runner.abandon()
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def enqueue(self, resource: JobResource[Any], job_id: UUID) -> None:
        """Start the job; see `JobEngine.enqueue`."""
        if job_id not in self._tasks or self._tasks[job_id].done():
            self._tasks[job_id] = asyncio.create_task(self._run(resource, job_id))

    async def stop(self, resource: JobResource[Any], job_id: UUID) -> None:
        """Stop the job; see `JobEngine.stop`."""
        del resource
        if job_id in self._runner.running:
            self._runner.running[job_id][1].stop()
            await self.finished(job_id)

    async def finished(self, job_id: UUID) -> None:
        """Wait until nothing is done for the job any more."""
        if job_id in self._tasks:
            await asyncio.wait({self._tasks[job_id]})

    async def _run(self, resource: JobResource[Any], job_id: UUID) -> None:
        while (
            row := await self._store.get(resource, id=job_id)
        ) is not None and row.status == "queued":
            if row.retry_at is not None:
                await self._clock.sleep((row.retry_at - row.updated_at).total_seconds())
            await self._runner.run(resource.queue, job_id, row.turn)
