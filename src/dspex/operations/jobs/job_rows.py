"""The writes of a worker to the rows of its jobs; each write is for one turn of a job."""

import asyncio
import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from dspex.clock import Clock
from dspex.errors import ConflictError, DspexError, NotFoundError, StorageError
from dspex.failures import failure_dict
from dspex.operations.framework.store import Change, Insert, Query, Store
from dspex.operations.jobs.handler import Done, JobRun
from dspex.operations.jobs.job import JobRecord, JobResource, job_changes, job_update, status_event
from dspex.operations.jobs.policy import JobPolicy, serves

HANDED_BACK = "handed back by a worker that stopped"
Code = Callable[[], tuple[str, str]]
"""Returns the name of the code root and its current revision."""
_RETRY_SECONDS = 5.0  # until a job whose code is not here is offered again
_TRIES = 5
_RUNNING = ("running",)
_log = logging.getLogger("dspex.jobs")


class JobRows:
    """Reads and writes the rows of jobs for one worker. Many tasks of one loop may use it.

    A write has no effect if the job is at another turn or no longer runs, so each result is
    recorded once, however many workers believe that the job is theirs. A write that ends a run is
    repeated until the database is available.
    """

    def __init__(
        self,
        store: Store,
        *,
        policy: JobPolicy,
        clock: Clock,
        new_id: Callable[[], UUID],
        worker: str = "",
        code: Code | None = None,
    ) -> None:
        """Take the collaborators; `worker` is the name of the worker, `code` describes its code."""
        self._store = store
        self._policy = policy
        self._clock = clock
        self._new_id = new_id
        self._worker = worker
        self._code = code

    async def take(self, resource: JobResource[Any], job_id: UUID, turn: int) -> JobRecord | None:
        """Start a job that is queued at this turn; return its new row, or None if it is not queued.

        Raises:
            StorageError: the row could not be read or written, and is unchanged.
        """
        row = await self._store.get(resource, id=job_id)
        if row is None or row.status != "queued" or row.turn != turn:
            return None
        if (
            row.needs
            and self._code is not None
            and not serves(row.needs, *await asyncio.to_thread(self._code))
        ):
            # the files have changed since the worker registered
            await self.refuse(resource, job_id, turn, wait=_RETRY_SECONDS)
            return None
        now = self._clock.now()
        values: dict[str, Any] = {
            "status": resource.step("start", row.status),
            "worker": self._worker,
            "waiting": None,
            "retry_at": None,
            "started_at": row.started_at or now,
            "updated_at": now,
            "attempts": row.attempts + 1,
        }
        try:
            await self._store.write(*self._changes(resource, row, values, "started"))
        except (ConflictError, NotFoundError):
            return None
        job: JobRecord = dataclasses.replace(row, **values)
        return job

    async def lost_turns(self, turns: Mapping[UUID, tuple[JobResource[Any], int]]) -> list[UUID]:
        """Return the jobs that were cancelled, paused or taken over, given the turn of each.

        Raises:
            StorageError: the rows could not be read.
        """
        lost: list[UUID] = []
        for resource in self._policy.queues.values():
            keys = tuple(key for key, (of, _) in turns.items() if of is resource)
            if not keys:
                continue
            rows = await self._store.select(resource, Query(where={"id": keys}, limit=len(keys)))
            lost += [
                row.id
                for row in rows
                if row.status not in {"queued", "running"} or row.turn != turns[row.id][1]
            ]
        return lost

    async def report(
        self, resource: JobResource[Any], run: JobRun, messages: Sequence[str]
    ) -> None:
        """Write the progress of a run, with an event for each message.

        Raises:
            ConflictError: the job is no longer this run's.
            StorageError: nothing was written.
        """
        job = dataclasses.replace(run.job, progress=run.progress)
        values = {"progress": run.progress, "updated_at": self._clock.now()}
        await self._store.write(
            job_update(resource, job.id, values, turn=job.turn, statuses=_RUNNING),
            *(self._event(job, resource, text) for text in messages),
        )

    async def is_ours(self, resource: JobResource[Any], job: JobRecord) -> bool:
        """Return whether the job still runs at this turn, as soon as the database is available."""
        row = await self._read(resource, job.id, job.turn)
        return row is not None and row.status == "running"

    async def complete(self, resource: JobResource[Any], run: JobRun, result: Done) -> str:
        """Write the result of a run; return the outcome of the job in one word."""
        now = self._clock.now()
        for _ in range(_TRIES):
            further, changes = ({}, []) if result.changes is None else await result.changes()
            values: dict[str, Any] = {
                **result.values,
                **further,
                "status": resource.step("complete", "running"),
                "progress": run.progress,
                "finished_at": now,
                "updated_at": now,
            }
            job = dataclasses.replace(run.job, **values)
            events = [self._event(job, resource, text) for text in (*run.messages, result.message)]
            # the row refers to some of the changes, so they come first
            change = job_update(resource, job.id, values, turn=job.turn, statuses=_RUNNING)
            refused = await self._write(*changes, change, *events)
            if refused is None or not await self.is_ours(resource, run.job):
                return refused or "completed"
        return await self.fail(
            resource, run, ConflictError("others change the same rows again and again")
        )

    async def fail(self, resource: JobResource[Any], run: JobRun, error: DspexError) -> str:
        """Write the error of a run; if a retry may help, queue the job again.

        It returns the outcome of the job in one word.
        """
        may_help = error.is_retryable or isinstance(error, StorageError)
        if error.public_message != error.message:  # the row has other readers than the log
            _log.warning("job %s: %s", run.job.id, error.message)
            error = StorageError(error.public_message)
        attempts = 1 if run.has_progress else run.job.attempts
        if may_help and attempts < self._policy.attempts:
            wait = self._policy.wait(attempts)
            why = (
                f"retry in {wait:g} s, attempt {attempts + 1} of {self._policy.attempts}: "
                f"{error.message}"
            )
            return await self.queue_again(resource, run, why, wait=wait, attempts=attempts)
        now = self._clock.now()
        values: dict[str, Any] = {
            "status": resource.step("fail", "running"),
            "error": failure_dict(error),
            "progress": run.progress,
            "finished_at": now,
            "updated_at": now,
        }
        changes = self._changes(resource, run.job, values, error.message)
        return await self._write(*changes) or "failed"

    async def queue_again(
        self,
        resource: JobResource[Any],
        run: JobRun,
        why: str,
        *,
        wait: float = 0.0,
        attempts: int | None = None,
    ) -> str:
        """Queue the job of a run again, due after `wait` seconds; return its outcome.

        `attempts` replaces the number of attempts, which by default does not count this run.
        """
        now = self._clock.now()
        values: dict[str, Any] = {
            "status": resource.step("requeue", "running"),
            "waiting": why,
            "retry_at": now + timedelta(seconds=wait) if wait else None,
            "progress": run.progress,
            "attempts": run.job.attempts - 1 if attempts is None else attempts,
            "updated_at": now,
        }
        changes = self._changes(resource, run.job, values, why, begins_turn=True)
        return await self._write(*changes) or "retried"

    async def refuse(
        self, resource: JobResource[Any], job_id: UUID, turn: int, *, wait: float = 0.0
    ) -> str:
        """Begin a new turn of a queued job, due after `wait` seconds."""
        values = {"retry_at": self._clock.now() + timedelta(seconds=wait)} if wait else {}
        change = job_update(
            resource, job_id, values, turn=turn, statuses=("queued",), begins_turn=True
        )
        return await self._write(change) or "refused"

    async def end_lost(
        self,
        resource: JobResource[Any],
        job_id: UUID,
        turn: int,
        *,
        error: DspexError,
        has_progress: bool,
    ) -> str:
        """Record the failure of a job whose process is gone, unless it ended or runs elsewhere."""
        job = await self._read(resource, job_id, turn)
        if job is None or job.status == "queued":
            return (
                "stopped"
                if job is None
                else await self.refuse(resource, job_id, turn, wait=self._policy.wait(1))
            )
        run = JobRun(job, lambda: None)
        run.has_progress = has_progress
        return await self.fail(resource, run, error)

    async def give_back(self, resource: JobResource[Any], job_id: UUID, turn: int) -> str:
        """Queue a job again whose process did not end in time after its worker stopped."""
        job = await self._read(resource, job_id, turn)
        if job is None or job.status == "queued":
            return "stopped" if job is None else await self.refuse(resource, job_id, turn)
        return await self.queue_again(resource, JobRun(job, lambda: None), HANDED_BACK)

    async def _read(self, resource: JobResource[Any], job_id: UUID, turn: int) -> JobRecord | None:
        """Return the row if the job is queued or running at this turn.

        It tries until the database is available.
        """
        while True:
            try:
                row: JobRecord | None = await self._store.get(resource, id=job_id)
            except StorageError as error:
                _log.warning("the end of a job waits for the database: %s", error.message)
                await asyncio.sleep(self._policy.poll)
                continue
            is_ours = row is not None and row.turn == turn and row.status in {"queued", "running"}
            return row if is_ours else None

    def _changes(  # noqa: PLR0917
        self,
        resource: JobResource[Any],
        job: JobRecord,
        values: Mapping[str, Any],
        message: str,
        *,
        begins_turn: bool = False,
    ) -> tuple[Change, Change]:
        return job_changes(
            resource,
            job,
            values,
            id=self._new_id(),
            now=self._clock.now(),
            message=message,
            begins_turn=begins_turn,
        )

    def _event(self, job: JobRecord, resource: JobResource[Any], message: str) -> Insert:
        return status_event(
            job, resource, id=self._new_id(), now=self._clock.now(), message=message
        )

    async def _write(self, *changes: Change) -> str | None:
        """Write, trying until the database is available; "stopped" if the job is not ours."""
        while True:
            try:
                await self._store.write(*changes)
            except (ConflictError, NotFoundError):
                return "stopped"
            except StorageError as error:
                _log.warning("the end of a job waits for the database: %s", error.message)
                await asyncio.sleep(self._policy.poll)
            else:
                return None
