"""A worker: a process that takes jobs from the database until it is asked to stop."""

import asyncio
import logging
import os
import platform
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from dspex.clock import Clock
from dspex.errors import ConflictError, NotFoundError, StorageError
from dspex.execution.workers.orphans import run_mark
from dspex.execution.workers.watchdog import Watchdog
from dspex.operations.framework.store import Insert, Store, Update
from dspex.operations.jobs.heartbeat import heartbeat
from dspex.operations.jobs.job import JobRecord, job_update
from dspex.operations.jobs.job_process import Command, JobProcess
from dspex.operations.jobs.job_processes import JobProcesses, supervision
from dspex.operations.jobs.job_rows import JobRows
from dspex.operations.jobs.leftovers import LeftoverCleaner, Leftovers
from dspex.operations.jobs.orphan_sweeper import OrphanSweeper, live_workers
from dspex.operations.jobs.policy import JobPolicy, channel_of
from dspex.operations.jobs.records import JOB_WORKER, JobWorkerRecord
from dspex.operations.jobs.tickets import Tickets, ticket_of
from dspex.operations.jobs.worker_registry import WorkerRegistry, new_worker_row

_log = logging.getLogger("dspex.jobs")
_LEAVE_SECONDS = 5.0
_DEAD = "this worker stood still and was taken for dead; its jobs went to others"
_CHANGED = "the code of this worker has changed"
_HEAL = 40  # polls between two looks for tickets that led to nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerConfig:
    """The collaborators of a worker.

    `url` is for DBOS; `command` starts the process of a job, in this `environment`. `code` returns
    the name of the code root and its current revision, empty texts without one. `leftovers` of
    ended jobs are deleted after `keep_days`. `more_work` is called with each poll and returns
    whether something else is in progress here, which an idle worker waits for.
    """

    url: str
    store: Store
    leftovers: Leftovers
    command: Command
    environment: Mapping[str, str]
    clock: Clock
    new_id: Callable[[], UUID]
    policy: JobPolicy
    code: Callable[[], tuple[str, str]] = lambda: ("", "")
    keep_days: int = 0
    more_work: Callable[[], Awaitable[bool]] | None = None


class JobWorker:
    """Runs jobs until `stopping` is set, and then hands back the unfinished ones.

    A process has one worker, on its main loop. Jobs run in separate processes, so they cannot
    block this loop, which sends the heartbeats. A worker that stood still for too long was declared
    dead, and other workers have its jobs: it ends them and starts again under a new id. It does the
    same when its code has changed.
    """

    def __init__(
        self, config: WorkerConfig, *, say: Callable[[str], None], ends_idle: bool = False
    ) -> None:
        """Take the collaborators; with `ends_idle` it also ends when every job has ended."""
        self._ends_idle = ends_idle
        self._config = config
        self._say = say
        self._is_over = asyncio.Event()
        self._is_dead = False

    async def serve(self, stopping: asyncio.Event) -> None:
        """Run jobs until `stopping` is set.

        Raises:
            ConfigurationError: DBOS is missing, or cannot use the database.
            StorageError: the database is unreachable at the start.
        """
        mark, is_first = run_mark(), True
        watchdog = Watchdog.start(mark, sys.executable)
        try:
            while not stopping.is_set():
                await self._live_once(mark, stopping, is_first=is_first)
                is_first = False
        finally:
            if watchdog is not None:
                watchdog.close()

    async def _live_once(self, mark: str, stopping: asyncio.Event, *, is_first: bool) -> None:
        self._is_over.clear()
        self._is_dead = False
        try:
            async with self._live(mark) as life:
                queues = dict.fromkeys(name.partition("@")[0] for name, _ in life.channels)
                self._say(f"worker {str(life.me)[-8:]} takes jobs from {', '.join(queues)}")
                await self._work(life, stopping)
        except StorageError as error:
            if is_first:
                raise
            _log.warning("this worker starts again when its database is back: %s", error.message)
            await _either(stopping, within=self._config.policy.poll)
        if self._is_over.is_set() and not stopping.is_set():
            self._say(f"{_DEAD if self._is_dead else _CHANGED}. It starts again")

    @asynccontextmanager
    async def _live(self, mark: str) -> "AsyncIterator[_Life]":
        config, me = self._config, self._config.new_id()
        code = await asyncio.to_thread(config.code)
        processes = JobProcesses(
            JobRows(
                config.store,
                policy=config.policy,
                clock=config.clock,
                new_id=config.new_id,
                worker=str(me),
            ),
            start=lambda: JobProcess.start(
                config.command, environment=config.environment, mark=mark
            ),
            policy=config.policy,
            clock=config.clock,
            worker=str(me),
            say=self._say,
        )
        loop = asyncio.get_running_loop()
        registry = WorkerRegistry(config.store, policy=config.policy, clock=config.clock, me=me)
        life = _Life(me, processes, registry, code=code, queues=config.policy.queues)
        life.tickets = Tickets(
            config.url, executor=str(me), run=processes.run, loop=loop, policy=config.policy
        )
        await processes.warm()
        async with AsyncExitStack() as stack:
            stack.push_async_callback(processes.abandon)
            await asyncio.to_thread(life.tickets.start, life.channels)
            stack.push_async_callback(asyncio.to_thread, life.tickets.stop)
            await _until_written(
                config.store, Insert(_row_of(life, config)), every=config.policy.poll
            )
            await stack.enter_async_context(supervision(processes))
            await stack.enter_async_context(
                heartbeat(registry, every=config.policy.beat, on_death=self._die)
            )
            stack.push_async_callback(self._leave, life)
            yield life

    async def _notice_changed_code(self, life: "_Life") -> None:
        """Start again if the files of the code have changed and no job runs with the old ones."""
        if (
            life.code[0]
            and not life.processes.running
            and await asyncio.to_thread(self._config.code) != life.code
        ):
            self._is_over.set()

    def _die(self) -> None:
        self._is_dead = True
        self._is_over.set()

    async def _leave(self, life: "_Life") -> None:
        is_handed_back = self._is_dead or await self._in_time(life.processes.hand_back())
        await life.processes.abandon()
        if is_handed_back:
            stopped = Update(
                resource=JOB_WORKER, id=life.me, values={"status": "stopped"}, statuses=("alive",)
            )
            await self._in_time(
                _until_written(self._config.store, stopped, every=self._config.policy.poll)
            )

    async def _in_time(self, work: Coroutine[Any, Any, None]) -> bool:
        """Do `work` before the end; return whether the database was available in time."""
        try:
            async with asyncio.timeout(_LEAVE_SECONDS):
                await work
        except TimeoutError:
            _log.warning(
                "the database is unreachable: others take the jobs of this worker once it counts "
                "as dead"
            )
            return False
        return True

    async def _work(self, life: "_Life", stopping: asyncio.Event) -> None:
        config = self._config
        sweeper = OrphanSweeper(
            config.store,
            policy=config.policy,
            clock=config.clock,
            new_id=config.new_id,
            add_ticket=life.add_ticket,
            code=life.code,
        )
        cleaner = LeftoverCleaner(
            config.leftovers,
            clock=config.clock,
            days=config.keep_days,
            queues=config.policy.queues,
            forget_tickets=life.forget_tickets,
        )
        polls, is_busy = 0, True
        while not (stopping.is_set() or self._is_over.is_set()):
            try:
                await life.processes.watch()
                is_busy = await sweeper.tick()
                if config.more_work is not None:
                    is_busy = await config.more_work() or is_busy
                if self._ends_idle and not is_busy:
                    stopping.set()
                await self._discard_lost_tickets(life)
                await cleaner.tick()
                if polls >= _HEAL:
                    polls = 0
                    await self._heal(life)
                    await self._notice_changed_code(life)
            except StorageError as error:
                _log.warning("jobs cannot be checked now: %s", error.message)
            pause = 1 if is_busy else 2
            polls += pause
            await _either(stopping, self._is_over, within=pause * config.policy.poll)

    async def _discard_lost_tickets(self, life: "_Life") -> None:
        """Discard the tickets of dead workers, at the start and whenever others start or end.

        Whoever declares a worker dead may be a server, which has no tickets, or die itself.
        """
        alive = life.registry.alive
        if alive == life.alive:
            return
        holders = await asyncio.to_thread(life.tickets.find_holders)
        # read afterwards: a worker has its row before its first ticket
        dead = holders - {str(worker.id) for worker in await live_workers(self._config.store)}
        await asyncio.to_thread(life.tickets.discard, sorted(dead))
        life.alive = alive

    async def _heal(self, life: "_Life") -> None:
        """Begin new turns of queued jobs whose tickets led to no run, as after an outage."""
        config = self._config
        jobs, life.jobs_by_ticket = life.jobs_by_ticket, {}
        spent = await asyncio.to_thread(life.tickets.find_spent, list(jobs))
        for ticket in spent:
            queue, job = jobs[ticket]
            resource = config.policy.queues[queue.partition("@")[0]]
            change = job_update(
                resource, job.id, {}, turn=job.turn, statuses=("queued",), begins_turn=True
            )
            try:
                await config.store.write(change)
            except (ConflictError, NotFoundError):
                continue  # it runs, or has run


class _Life:
    """The parts of a worker from one start to the next."""

    def __init__(
        self,
        me: UUID,
        processes: JobProcesses,
        registry: WorkerRegistry,
        *,
        code: tuple[str, str],
        queues: Iterable[str],
    ) -> None:
        self.me = me
        self.processes = processes
        self.registry = registry
        self.code = code
        self.channels = _channels(queues, code)
        self.jobs_by_ticket: dict[str, tuple[str, JobRecord]] = {}
        self.alive: frozenset[UUID] = frozenset()  # when lost tickets were last discarded
        self.tickets: Tickets

    async def add_ticket(self, channel: str, job: JobRecord) -> None:
        ticket = ticket_of(job.id, job.turn)
        if ticket not in self.jobs_by_ticket:
            await asyncio.to_thread(self.tickets.add, channel, job.id, job.turn)
            self.jobs_by_ticket[ticket] = (channel, job)
        if self.processes.has_room(channel.partition("@")[0]):
            self.tickets.look(channel)

    async def forget_tickets(self, before: datetime) -> int:
        return await asyncio.to_thread(self.tickets.forget, before)


def _channels(queues: Iterable[str], code: tuple[str, str]) -> list[tuple[str, str]]:
    """Return the channels of the jobs that this worker can run, each with its queue."""
    needs: dict[str, Any] = {"code": code[0], "revision": code[1]}
    plain = [(queue, queue) for queue in queues]
    return (
        plain if not code[0] else [*plain, *((channel_of(name, needs), name) for name, _ in plain)]
    )


def _row_of(life: _Life, config: WorkerConfig) -> JobWorkerRecord:
    return new_worker_row(
        life.me,
        clock=config.clock,
        host=platform.node(),
        pid=os.getpid(),
        queues=[name for name, _ in life.channels],
        code=lambda: life.code,
    )


async def _until_written(store: Store, change: Insert | Update, *, every: float) -> None:
    while True:
        try:
            await store.write(change)
        except StorageError as error:
            _log.warning("the row of this worker waits for the database: %s", error.message)
            await asyncio.sleep(every)
        except (ConflictError, NotFoundError):
            return
        else:
            return


async def _either(*events: asyncio.Event, within: float) -> None:
    tasks = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(tasks, timeout=within, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
