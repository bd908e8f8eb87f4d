"""Runs jobs that were handed out: takes the row, does the work, writes how it ended."""

import asyncio
import dataclasses
import logging
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

from dspex.clock import Clock
from dspex.errors import ConflictError, DspexError, ExecutionError, NotFoundError, StorageError, describe
from dspex.operations.jobs.handler import Done, Handler, JobRun
from dspex.operations.jobs.policy import JobPolicy
from dspex.operations.resources import Insert, Query, Resource, Store, Update
from dspex.operations.resources.jobs import QUEUES, Job, told
from dspex.operations.resources.ports import Change

_TRIES = 5
_log = logging.getLogger("dspex.jobs")


class Runner:
    """Runs jobs for one worker. Owned by one event loop.

    Every write names the turn of the job that it is made for. Where the row is at another turn, or no longer running,
    nothing is written and the work is stopped: so a result is recorded once, whoever else thought that the job was his.
    """

    def __init__(
        self,
        store: Store,
        *,
        handlers: Mapping[str, Handler],
        policy: JobPolicy,
        clock: Clock,
        new_id: Callable[[], UUID],
        worker: str = "",
    ) -> None:
        """Take the handlers by queue; `worker` is who takes the jobs."""
        self._store = store
        self._handlers = handlers
        self._policy = policy
        self._clock = clock
        self._new_id = new_id
        self._worker = worker
        self._is_leaving = False
        self.running: dict[UUID, tuple[Resource[Any], JobRun]] = {}

    async def run(self, queue: str, job_id: UUID, turn: int) -> str:
        """Run a job if it is still queued at this turn, and return what became of it in one word.

        Raises:
            StorageError: the row could not be read or taken; it is as it was.
        """
        resource = QUEUES[queue]
        if self._is_leaving:
            await self._write(_bumped(resource, job_id, turn))
            return "refused"
        job = await self._taken(resource, job_id, turn)
        if job is None:
            return "stale"
        work = asyncio.Event()
        run = JobRun(job, work.set)
        run.task = task = asyncio.create_task(self._handled(self._handlers[queue], run))
        self.running[job_id] = (resource, run)
        reporter = asyncio.create_task(self._reporting(resource, run, work))
        try:
            await asyncio.wait({task})
        finally:
            task.cancel()
            reporter.cancel()
            # waited for, so that what a job raises when its worker leaves is lost on nobody's terminal
            await asyncio.gather(task, reporter, return_exceptions=True)
            self.running.pop(job_id, None)
        return await self._ended(resource, run, task)

    async def watch(self) -> None:
        """Stop what was cancelled, paused or taken over since. Called a few times a second."""
        for resource in QUEUES.values():
            held = {key: run for key, (of, run) in self.running.items() if of is resource}
            if not held:
                continue
            rows = await self._store.select(resource, Query(where={"id": tuple(held)}, limit=len(held)))
            for row in rows:
                run = held[row.id]
                if row.status != "running" or row.turn != run.job.turn:
                    run.stop()

    async def hand_back(self) -> None:
        """Queue everything that runs here again, for others; nothing further is taken."""
        self._is_leaving = True
        for resource, run in list(self.running.values()):
            await self._write(*self._requeued(resource, run.job, "handed back by a worker that stopped", progress=run))
            run.stop()

    def abandon(self) -> None:
        """Stop everything that runs here; it has gone to others already."""
        self._is_leaving = True
        for _, run in list(self.running.values()):
            run.stop()

    async def _taken(self, resource: Resource[Any], job_id: UUID, turn: int) -> Job | None:
        found = await self._store.get(resource, id=job_id)
        if found is None or found.status != "queued" or found.turn != turn:
            return None
        now = self._clock.now()
        values: dict[str, Any] = {
            "status": resource.step("start", found.status),
            "worker": self._worker,
            "waiting": None,
            "retry_at": None,
            "started_at": found.started_at or now,
            "updated_at": now,
            "attempts": found.attempts + 1,
        }
        job: Job = dataclasses.replace(found, **values)
        take = Update(resource=resource, id=job_id, values=values, statuses=("queued",), expected={"turn": turn})
        try:
            await self._store.write(take, self._told(job, resource, "started"))
        except (ConflictError, NotFoundError):
            return None
        return job

    async def _handled(self, handler: Handler, run: JobRun) -> Done:
        return await handler(run)

    async def _reporting(self, resource: Resource[Any], run: JobRun, work: asyncio.Event) -> None:
        while True:
            await work.wait()
            work.clear()
            await asyncio.sleep(0.1)  # what is said in this time goes into one transaction
            messages, run.messages = run.messages, []
            try:
                await self._store.write(*self._reported(resource, run, messages))
            except (ConflictError, NotFoundError):
                run.stop()
                return
            except StorageError as error:
                _log.warning("the progress of job %s waits: %s", run.job.id, error.message)
                run.messages = messages + run.messages
                await asyncio.sleep(self._policy.poll)
                work.set()

    def _reported(self, resource: Resource[Any], run: JobRun, messages: list[str]) -> list[Change]:
        job = dataclasses.replace(run.job, progress=run.progress)
        values = {"progress": run.progress, "updated_at": self._clock.now()}
        return [_owned(resource, job, values), *(self._told(job, resource, text) for text in messages)]

    async def _ended(self, resource: Resource[Any], run: JobRun, task: asyncio.Task[Done]) -> str:
        if run.failure is not None:
            return await self._failed(resource, run, run.failure)
        if task.cancelled():
            return await self._cancelled(resource, run)
        error = task.exception()
        if isinstance(error, DspexError):
            return await self._failed(resource, run, error)
        if error is not None:
            _log.error("job %s failed by a fault", run.job.id, exc_info=error)
            return await self._failed(resource, run, ExecutionError(describe(error)))
        return await self._completed(resource, run, task.result())

    async def _cancelled(self, resource: Resource[Any], run: JobRun) -> str:
        if not run.is_stopped:
            return await self._failed(resource, run, ExecutionError("the job's own code cancelled it"))
        # whoever leaves has handed its jobs back, or was taken for dead: then others take them
        if self._is_leaving or await self._store_says(resource, run) is not None:
            return "stopped"
        return await self._write(*self._requeued(resource, run.job, "stopped", progress=run)) or "retried"

    async def _store_says(self, resource: Resource[Any], run: JobRun) -> str | None:
        """Return what others have made of the job, None where it is still this run's."""
        while True:
            try:
                row = await self._store.get(resource, id=run.job.id)
            except StorageError:
                await asyncio.sleep(self._policy.poll)
                continue
            is_ours = row is not None and row.status == "running" and row.turn == run.job.turn
            return None if is_ours else "stopped"

    async def _completed(self, resource: Resource[Any], run: JobRun, done: Done) -> str:
        now = self._clock.now()
        for _ in range(_TRIES):
            further, changes = ({}, []) if done.changes is None else await done.changes()
            values: dict[str, Any] = {
                **done.values,
                **further,
                "status": resource.step("complete", "running"),
                "progress": run.progress,
                "finished_at": now,
                "updated_at": now,
            }
            job = dataclasses.replace(run.job, **values)
            events = [self._told(job, resource, text) for text in (*run.messages, done.message)]
            # the changes come first: the row refers to some of them
            refused = await self._write(*changes, _owned(resource, run.job, values), *events)
            if refused is None or await self._store_says(resource, run) is not None:
                return refused or "completed"
        return await self._failed(resource, run, ConflictError("others change the same rows again and again"))

    async def _failed(self, resource: Resource[Any], run: JobRun, error: DspexError) -> str:
        may_pass = error.is_retryable or isinstance(error, StorageError)
        if "public" in error.context:  # the row is read by others than the log
            _log.warning("job %s: %s", run.job.id, error.message)
            error = StorageError(str(error.context["public"]))
        attempts = 1 if run.got_on else run.job.attempts
        if may_pass and attempts < self._policy.attempts:
            wait = self._policy.wait(attempts)
            why = f"retry in {wait:g} s, attempt {attempts + 1} of {self._policy.attempts}: {error.message}"
            changes = self._requeued(resource, run.job, why, progress=run, wait=wait, attempts=attempts)
            return await self._write(*changes) or "retried"
        now = self._clock.now()
        values: dict[str, Any] = {
            "status": resource.step("fail", "running"),
            "error": error.to_dict(),
            "progress": run.progress,
            "finished_at": now,
            "updated_at": now,
        }
        job = dataclasses.replace(run.job, **values)
        return await self._write(_owned(resource, job, values), self._told(job, resource, error.message)) or "failed"

    def _requeued(
        self,
        resource: Resource[Any],
        job: Job,
        why: str,
        *,
        progress: JobRun,
        wait: float = 0.0,
        attempts: int | None = None,
    ) -> list[Change]:
        now = self._clock.now()
        values: dict[str, Any] = {
            "status": resource.step("requeue", "running"),
            "waiting": why,
            "retry_at": now + timedelta(seconds=wait) if wait else None,
            "progress": progress.progress,
            "attempts": job.attempts - 1 if attempts is None else attempts,
            "updated_at": now,
        }
        moved = dataclasses.replace(job, **values)
        return [_owned(resource, job, values, queues=True), self._told(moved, resource, why)]

    def _told(self, job: Job, resource: Resource[Any], message: str) -> Insert:
        return told(job, resource, id=self._new_id(), now=self._clock.now(), message=message)

    async def _write(self, *changes: Change) -> str | None:
        """Write until it is written, or until somebody else has moved the row on; then return "stopped"."""
        while True:
            try:
                await self._store.write(*changes)
            except (ConflictError, NotFoundError):
                return "stopped"
            except StorageError as error:
                _log.warning("the end of a job waits: %s", error.message)
                await asyncio.sleep(self._policy.poll)
            else:
                return None


def _owned(resource: Resource[Any], job: Job, values: Mapping[str, Any], *, queues: bool = False) -> Update:
    """Return a change of a running job that is made only as long as the job is at this turn."""
    return Update(
        resource=resource,
        id=job.id,
        values=values,
        increments={"turn": 1} if queues else {},
        statuses=("running",),
        expected={"turn": job.turn},
    )


def _bumped(resource: Resource[Any], job_id: UUID, turn: int) -> Update:
    """Return a change that makes a queued job be noted once more."""
    return Update(resource=resource, id=job_id, increments={"turn": 1}, statuses=("queued",), expected={"turn": turn})
