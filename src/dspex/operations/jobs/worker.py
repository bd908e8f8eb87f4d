"""A worker: a process that takes jobs from the database until it is told to stop."""

import asyncio
import logging
import os
import platform
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from dspex.clock import Clock
from dspex.errors import ConflictError, NotFoundError, StorageError
from dspex.operations.jobs.forgetting import Forgetting, Leftovers
from dspex.operations.jobs.handler import Handler
from dspex.operations.jobs.policy import JobPolicy, channel_of
from dspex.operations.jobs.pulse import Pulse
from dspex.operations.jobs.runner import Runner
from dspex.operations.jobs.survey import Survey, enrolled
from dspex.operations.jobs.sweeper import Sweeper
from dspex.operations.jobs.tickets import Tickets, ticket_of
from dspex.operations.resources import Insert, Store, Update
from dspex.operations.resources.job_worker import JOB_WORKER
from dspex.operations.resources.jobs import QUEUES, Job

_log = logging.getLogger("dspex.jobs")
_FAREWELL = 5.0
_HEAL = 40  # polls between two looks for tickets that led to nothing
Opened = Callable[[], AbstractAsyncContextManager[Store]]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerConfig:
    """What a worker stands on.

    `open_store` opens a store on the running loop, `url` is for DBOS; `code` is the code root's name and revision,
    empty without one. What ended jobs have left (`leftovers`) is deleted after `keep_days`.
    """

    url: str
    store: Store
    open_store: Opened
    leftovers: Leftovers
    handlers: Mapping[str, Handler]
    clock: Clock
    new_id: Callable[[], UUID]
    policy: JobPolicy = field(default_factory=JobPolicy)
    code: tuple[str, str] = ("", "")
    keep_days: int = 0


class Worker:
    """Takes jobs until `stopping` is set, and then hands back what it has. One in a process, on its main loop.

    A worker that stood still for too long finds that it was declared dead: its jobs have gone to others, so it stops
    them and begins a new life under a new name.
    """

    def __init__(self, config: WorkerConfig, *, say: Callable[[str], None], ends_idle: bool = False) -> None:
        """Take its surroundings, where it tells what it does, and whether it ends when every job has ended."""
        self._ends_idle = ends_idle
        self._config = config
        self._say = say
        self._died = asyncio.Event()

    async def serve(self, stopping: asyncio.Event) -> None:
        """Work until `stopping` is set.

        Raises:
            ConfigurationError: DBOS is missing, or cannot use the database.
        """
        while not stopping.is_set():
            self._died.clear()
            async with self._life() as life:
                self._say(f"worker {life.me} takes jobs from {', '.join(name for name, _ in life.channels)}")
                await self._work(life, stopping)
            if self._died.is_set() and not stopping.is_set():
                self._say("this worker stood still and was taken for dead; its jobs went to others. It begins anew")

    @asynccontextmanager
    async def _life(self) -> "AsyncIterator[_Life]":
        config, me = self._config, self._config.new_id()
        runner = Runner(
            config.store,
            handlers=config.handlers,
            policy=config.policy,
            clock=config.clock,
            new_id=config.new_id,
            worker=str(me),
        )
        loop = asyncio.get_running_loop()
        tickets = Tickets(config.url, executor=str(me), run=runner.run, loop=loop, policy=config.policy)
        life = _Life(me, runner, tickets, channels=_channels(config.code))
        await asyncio.to_thread(tickets.start, life.channels)
        pulse = Pulse(
            lambda: self._looking(life),
            every=config.policy.beat,
            on_death=lambda: _set(loop, self._died),
        )
        row = enrolled(
            me,
            clock=config.clock,
            host=platform.node(),
            pid=os.getpid(),
            queues=[name for name, _ in life.channels],
            code=lambda: config.code,
        )
        try:
            await _until_written(config.store, Insert(row), every=config.policy.poll)
            pulse.start()
            yield life
        finally:
            await self._leave(life, pulse)

    async def _leave(self, life: "_Life", pulse: Pulse) -> None:
        is_told = self._died.is_set() or await self._in_time(life.runner.hand_back())
        life.runner.abandon()
        await asyncio.to_thread(life.tickets.stop)
        if pulse.is_alive:
            await asyncio.to_thread(pulse.stop)
        if is_told:
            stopped = Update(resource=JOB_WORKER, id=life.me, values={"status": "stopped"}, statuses=("alive",))
            await self._in_time(_until_written(self._config.store, stopped, every=self._config.policy.poll))

    async def _in_time(self, farewell: Coroutine[Any, Any, None]) -> bool:
        """Do the last things, unless the database is away for longer than anybody waits for a process to end."""
        try:
            async with asyncio.timeout(_FAREWELL):
                await farewell
        except TimeoutError:
            _log.warning("the database is away: others take the jobs of this worker when they miss it")
            return False
        return True

    @asynccontextmanager
    async def _looking(self, life: "_Life") -> AsyncIterator[Survey]:
        config = self._config
        async with config.open_store() as store:
            survey = Survey(store, policy=config.policy, clock=config.clock, me=life.me)
            life.buried = survey.buried
            yield survey

    async def _work(self, life: "_Life", stopping: asyncio.Event) -> None:
        config = self._config
        sweeper = Sweeper(
            config.store,
            policy=config.policy,
            clock=config.clock,
            new_id=config.new_id,
            note=life.note,
            code=config.code,
        )
        forgetting = Forgetting(config.leftovers, clock=config.clock, days=config.keep_days, spent=life.forget)
        polls = 0
        while not (stopping.is_set() or self._died.is_set()):
            try:
                await life.runner.watch()
                is_busy = await sweeper.tick()
                if self._ends_idle and not is_busy:
                    stopping.set()
                await life.bury()
                await forgetting.tick()
                if polls % _HEAL == _HEAL - 1:
                    await self._heal(life)
            except StorageError as error:
                _log.warning("no look for jobs is possible: %s", error.message)
            polls += 1
            await _either(stopping, self._died, within=config.policy.poll)

    async def _heal(self, life: "_Life") -> None:
        """Give new turns to queued jobs whose tickets led to nothing: their taker could not reach the rows."""
        noted, life.noted = life.noted, {}
        spent = await asyncio.to_thread(life.tickets.spent, list(noted))
        for ticket in spent:
            queue, job = noted[ticket]
            change = Update(
                resource=QUEUES[queue.partition("@")[0]],
                id=job.id,
                increments={"turn": 1},
                statuses=("queued",),
                expected={"turn": job.turn},
            )
            try:
                await self._config.store.write(change)
            except (ConflictError, NotFoundError):
                continue  # it runs, or has run


class _Life:
    """What one life of a worker holds."""

    def __init__(self, me: UUID, runner: Runner, tickets: Tickets, *, channels: list[tuple[str, str]]) -> None:
        self.me = me
        self.runner = runner
        self.tickets = tickets
        self.channels = channels
        self.noted: dict[str, tuple[str, Job]] = {}
        self.buried: list[UUID] = []

    async def note(self, channel: str, job: Job) -> None:
        ticket = ticket_of(job.id, job.turn)
        if ticket not in self.noted:
            await asyncio.to_thread(self.tickets.note, channel, job.id, job.turn)
            self.noted[ticket] = (channel, job)

    async def forget(self, before: datetime) -> int:
        return await asyncio.to_thread(self.tickets.forget, before)

    async def bury(self) -> None:
        if self.buried:
            dead = [str(key) for key in self.buried]
            await asyncio.to_thread(self.tickets.discard, dead)
            del self.buried[: len(dead)]


def _channels(code: tuple[str, str]) -> list[tuple[str, str]]:
    """Return the names under which jobs wait that this worker can run, each with its queue."""
    needs: dict[str, Any] = {"code": code[0], "revision": code[1]}
    plain = [(queue, queue) for queue in QUEUES]
    return plain if not code[0] else [*plain, *((channel_of(queue, needs), queue) for queue in QUEUES)]


def _set(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> None:
    loop.call_soon_threadsafe(event.set)


async def _until_written(store: Store, change: Insert | Update, *, every: float) -> None:
    while True:
        try:
            await store.write(change)
        except StorageError as error:
            _log.warning("the row of this worker waits: %s", error.message)
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
