"""The interface of engines that run jobs."""

from typing import Any, Protocol
from uuid import UUID

from dspex.operations.jobs.job import JobResource


class JobEngine(Protocol):
    """Runs durable jobs: rows with a state machine and a handler elsewhere.

    Such jobs are evaluations and optimizations. The row is the job: the caller writes it as queued,
    and the engine advances it from there.
    """

    async def enqueue(self, resource: JobResource[Any], job_id: UUID) -> None:
        """Enqueue a queued row; idempotent. The engine also discovers rows that were not enqueued.

        Raises:
            StorageError: the database cannot be written.
        """
        ...

    async def stop(self, resource: JobResource[Any], job_id: UUID) -> None:
        """Stop the worker of a job within a second; the row is already paused or cancelled."""
        ...
