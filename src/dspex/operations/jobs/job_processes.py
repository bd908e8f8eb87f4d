"""The processes of one worker, one for each running job, so that any job can be killed."""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from dspex.clock import Clock
from dspex.errors import DeadlineError, DspexError, WorkerLostError, WorkerStalledError
from dspex.operations.framework.heartbeats import LookTimer
from dspex.operations.jobs.job import JobResource
from dspex.operations.jobs.job_process import JobProcess
from dspex.operations.jobs.job_rows import JobRows
from dspex.operations.jobs.policy import JobPolicy

_IDLE = 30.0  # seconds after which a process without a job ends, except the last one
_AGAIN = 5.0  # seconds until the next attempt if no process could be started
_SHORT = 8  # the end of an id, as the command line shows it
_ENDS = {"refused": "waits again", "retried": "waits again", "stale": "is not due"}
_log = logging.getLogger("dspex.jobs")


@dataclass(slots=True)
class _Running:
    resource: JobResource[Any]
    turn: int
    process: JobProcess
    seconds: float = 0.0
    stopping: float | None = None


@dataclass(slots=True)
class _Idle:
    process: JobProcess
    seconds: float = 0.0


class JobProcesses:
    """Runs each job in a separate process, which the next job may reuse. Owned by one event loop.

    No code of users runs on this loop. A job is ended with its process if that sends no heartbeat
    for `stall` seconds, runs longer than `longest_run`, or does not end within `grace` seconds
    after a stop. Time in which this process itself stood still does not count.
    """

    def __init__(
        self,
        rows: JobRows,
        *,
        start: Callable[[], Awaitable[JobProcess]],
        policy: JobPolicy,
        clock: Clock,
        worker: str,
        say: Callable[[str], None] = lambda _text: None,
    ) -> None:
        """Take the collaborators.

        `start` starts a process, `worker` is the id of the worker, and `say` takes a line for
        people when a job starts and when it ends.
        """
        self._say = say
        self._rows = rows
        self._start = start
        self._policy = policy
        self._timer = LookTimer(clock, longest=4 * policy.poll)
        self._worker = worker
        self._idle: list[_Idle] = []
        self._running: dict[UUID, _Running] = {}
        self._starting: Counter[str] = Counter()  # jobs by queue whose process is being started
        self._endings: set[asyncio.Task[None]] = set()
        self._is_leaving = self._is_abandoned = False
        self._are_gone = asyncio.Event()

    async def warm(self) -> None:
        """Start a process ahead of the first job."""
        try:
            self._idle.append(_Idle(await self._start()))
        except OSError as error:
            _log.warning("no process for jobs can be started: %s", error)

    async def run(self, queue: str, job_id: UUID, turn: int) -> str:
        """Run one turn of a job, and return its outcome in one word."""
        resource = self._policy.queues[queue]
        if self._is_leaving:
            return await self._rows.refuse(resource, job_id, turn)
        if job_id in self._running:  # its last turn, which was paused or taken over, still ends
            return await self._rows.refuse(resource, job_id, turn, wait=self._policy.wait(1))
        if not self.has_room(queue):  # DBOS counts what it has handed out a moment too late
            return await self._rows.refuse(resource, job_id, turn, wait=self._policy.poll)
        self._starting[queue] += 1
        try:
            process = self._take_idle() or await self._start()
        except OSError as error:
            _log.warning("no process for jobs can be started: %s", error)
            return await self._rows.refuse(resource, job_id, turn, wait=_AGAIN)
        finally:
            self._starting[queue] -= 1
        self._running[job_id] = running = _Running(resource, turn, process)
        self._are_gone.clear()
        name = f"{queue} {str(job_id)[-_SHORT:]}"
        self._say(f"{name} starts")
        try:
            outcome = await process.run(queue, job_id, turn, worker=self._worker)
            if outcome == "unread":
                outcome = await self._rows.refuse(resource, job_id, turn, wait=self._policy.wait(1))
        except DspexError as error:
            outcome = await self._end_lost(job_id, running, error)
        finally:
            self._leave(job_id, running)
        self._say(f"{name} {_ENDS.get(outcome, outcome)} after {running.seconds:.1f} s")
        return outcome

    @property
    def running(self) -> int:
        """How many jobs run here."""
        return len(self._running)

    def has_room(self, queue: str) -> bool:
        """Return whether this worker may run one more job of a queue."""
        resource = self._policy.queues[queue]
        running = sum(each.resource is resource for each in self._running.values())
        return running + self._starting[queue] < self._policy.per_worker(queue)

    async def supervise(self) -> None:
        """Check the processes until cancelled; it does not use the database."""
        while True:
            self.tick()
            await asyncio.sleep(self._policy.poll)

    def tick(self) -> None:
        """End the processes that are stalled, overdue, idle for long, or slow to stop."""
        passed = self._timer.passed()
        for running in self._running.values():
            self._check(running, passed)
        self._idle = [idle for idle in self._idle if not idle.process.has_ended]
        for idle in self._idle:
            idle.seconds += passed
        while len(self._idle) > 1 and self._idle[0].seconds > _IDLE:
            self._end(self._idle.pop(0).process.aclose(within=self._policy.grace))

    async def watch(self) -> None:
        """Stop the jobs that were cancelled, paused or taken over.

        Raises:
            StorageError: the rows could not be read.
        """
        turns = {key: (running.resource, running.turn) for key, running in self._running.items()}
        for key in await self._rows.lost_turns(turns):
            if (running := self._running.get(key)) is not None and running.stopping is None:
                running.stopping = 0.0
                running.process.stop(key)

    async def hand_back(self) -> None:
        """Queue all running jobs again, for other workers; return when none runs here any more."""
        self._is_leaving = True
        for key, running in self._running.items():
            running.stopping = running.stopping or 0.0
            running.process.leave(key)
        if self._running:
            await self._are_gone.wait()

    async def abandon(self) -> None:
        """End every process at once and write nothing: other workers have the jobs."""
        self._is_leaving = self._is_abandoned = True
        processes = [running.process for running in self._running.values()]
        for process in processes:
            process.kill()
        idle, self._idle = self._idle, []
        endings = [process.aclose(within=self._policy.grace) for process in processes]
        endings += [each.process.aclose(within=self._policy.grace) for each in idle]
        await asyncio.gather(*endings, *self._endings, return_exceptions=True)

    def _take_idle(self) -> JobProcess | None:
        while self._idle:
            process = self._idle.pop().process  # the last one used is the warmest
            if not process.has_ended:
                return process
        return None

    def _check(self, running: _Running, passed: float) -> None:
        policy, process = self._policy, running.process
        running.seconds += passed if process.has_taken else 0.0
        process.silent += passed
        if process.has_ended:
            return
        if running.stopping is not None:
            running.stopping += passed
            if running.stopping > policy.grace:
                process.kill()
        elif policy.stall and process.silent > (
            policy.stall if process.is_ready else max(policy.stall, policy.start)
        ):
            if not process.is_ready:
                process.kill(
                    WorkerLostError(f"a process for jobs did not start within {policy.start:g} s")
                )
                return
            message = (
                "the code of this job (its program or a metric) gave no control back for "
                f"{policy.stall:g} s and was stopped; make it faster or asynchronous, or raise "
                "DSPEX_JOB_STALL_SECONDS, and resume the job"
            )
            self._end(process.abort(WorkerStalledError(message)))
        elif policy.longest_run and running.seconds > policy.longest_run:
            message = (
                f"the job ran for more than {policy.longest_run:g} s; raise DSPEX_JOB_SECONDS, "
                "and resume the job, which keeps its model replies"
            )
            process.kill(DeadlineError(message))

    async def _end_lost(self, job_id: UUID, running: _Running, error: DspexError) -> str:
        if self._is_abandoned:
            return "stopped"
        if self._is_leaving:
            return await self._rows.give_back(running.resource, job_id, running.turn)
        _log.warning("job %s lost its process: %s", job_id, error.message)
        return await self._rows.end_lost(
            running.resource,
            job_id,
            running.turn,
            error=error,
            has_progress=running.process.has_progress,
        )

    def _leave(self, job_id: UUID, running: _Running) -> None:
        del self._running[job_id]
        if not self._running:
            self._are_gone.set()
        # a stopped job may have left threads behind
        if self._is_leaving or running.stopping is not None:
            self._end(running.process.aclose(within=self._policy.grace))
        else:
            self._idle.append(_Idle(running.process))

    def _end(self, ending: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(ending)
        self._endings.add(task)
        task.add_done_callback(self._endings.discard)


@contextlib.asynccontextmanager
async def supervision(processes: JobProcesses) -> AsyncIterator[None]:
    """Check the processes inside the block."""
    task = asyncio.create_task(processes.supervise(), name="job-processes")
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
