"""Periodic maintenance of executions.

It notices cancellations, sends heartbeats, and finds executions of dead processes.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from dspex.clock import Clock
from dspex.errors import ConflictError, NotFoundError, StorageError
from dspex.operations.executions.executor import Executor
from dspex.operations.executions.process_owner import id_of, is_alive
from dspex.operations.executions.records import EXECUTION, PROCESS, ExecutionRecord, ProcessRecord
from dspex.operations.framework.access import DEFAULT_WORKSPACE
from dspex.operations.framework.heartbeats import HeartbeatWatch
from dspex.operations.framework.store import Insert, Query, Store, Update
from dspex.sync import unbroken
from dspex.telemetry import Event, Observer

WATCH, BEAT, SWEEP = 0.4, 2.0, 5.0
DEAD_AFTER = 10.0
_LONGEST_LOOK = 1.5 * SWEEP  # less than DEAD_AFTER: one look after an outage ends nothing
_PAGE = 500
_log = logging.getLogger("dspex.executions")


@dataclass(slots=True)
class _PeriodicTask:
    """A task that runs every `every` seconds."""

    every: float
    work: Callable[[], Awaitable[object]]
    due: int = 0


class Maintenance:
    """Runs periodic tasks next to an executor, in `async with`. Owned by one event loop.

    An execution whose process died is interrupted, or continued elsewhere. A process on this host
    is looked up by pid and start time. A process on another host counts as dead when its heartbeat
    has not changed for `DEAD_AFTER` seconds of the local clock, so host clocks need not agree.
    """

    def __init__(
        self, store: Store, executor: Executor, *, clock: Clock, observer: Observer
    ) -> None:
        """Take the collaborators."""
        self._store = store
        self._executor = executor
        self._clock = clock
        self._observer = observer
        self._periodic_tasks = [
            _PeriodicTask(WATCH, executor.watch),
            _PeriodicTask(BEAT, self.send_heartbeat),
            _PeriodicTask(SWEEP, self.sweep),
        ]
        self._watch: HeartbeatWatch[str] = HeartbeatWatch(clock, longest_look=_LONGEST_LOOK)
        self._has_row = False
        self._task: asyncio.Task[None] | None = None

    def add(self, every: float, work: Callable[[], Awaitable[object]]) -> None:
        """Also run `work`, at the first tick and then every `every` seconds."""
        self._periodic_tasks.append(_PeriodicTask(every, work))

    async def __aenter__(self) -> Self:
        self._task = asyncio.get_running_loop().create_task(self._run_loop())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            if not self._task.cancelled():
                self._task.result()

    async def _run_loop(self) -> None:
        """Tick until cancelled, but never stop in the middle of a task.

        A cancelled query loses its connection.
        """
        while True:
            await unbroken(self.tick())
            await self._clock.sleep(WATCH)

    async def tick(self) -> None:
        """Run all due tasks. A task that fails is retried when it is next due."""
        for task in self._periodic_tasks:
            now = self._clock.monotonic_ns()
            if task.due <= now:
                task.due = now + int(task.every * 1e9)
                try:
                    await task.work()
                except StorageError as error:
                    self._observer.on_event(
                        Event(
                            name="log",
                            message=f"maintenance is waiting for the database: {error.message}",
                        )
                    )
                except Exception:  # noqa: BLE001  # the other tasks must continue
                    _log.exception("a maintenance task failed; retrying in %g s", task.every)

    async def send_heartbeat(self) -> None:
        """Send a heartbeat if this process runs executions."""
        if len(self._executor.runs):
            await self.write_heartbeat()

    async def write_heartbeat(self) -> None:
        """Write the heartbeat row of this process.

        Raises:
            StorageError: the database cannot be written.
        """
        key = id_of(self._executor.owner)
        try:
            if self._has_row:
                await self._store.write(Update(resource=PROCESS, id=key, increments={"beats": 1}))
                return
        except NotFoundError:  # retention deleted it as the row of a dead process
            self._has_row = False
        now = self._clock.now()
        owner = self._executor.owner
        row = ProcessRecord(
            id=key, workspace=DEFAULT_WORKSPACE, created_at=now, updated_at=now, owner=owner
        )
        await self._store.write(Insert(row))
        self._has_row = True

    async def sweep(self) -> int:
        """Record that the processes of executions are gone; return how many."""
        query = Query(where={"status": "running"}, limit=_PAGE, oldest_first=True)
        rows = [
            row
            for row in await self._store.select(EXECUTION, query)
            if row.id not in self._executor.runs
        ]
        dead = await self._dead_owners({row.owner for row in rows if row.owner is not None})
        orphans = [row for row in rows if row.owner is None or row.owner in dead]
        return sum([await self._lose(row) for row in orphans])

    async def _lose(self, row: ExecutionRecord) -> bool:
        try:
            await self._executor.lose(row)
        except ConflictError:  # it has ended meanwhile
            return False
        return True

    async def _dead_owners(self, owners: set[str]) -> set[str]:
        """Return those owners of executions that do not run them any more.

        This process is included.
        """
        alive = {owner: is_alive(owner) for owner in owners - {self._executor.owner}}
        beats = {owner: await self._beats(owner) for owner, lives in alive.items() if lives is None}
        silence = self._watch.look(beats)
        silent = {owner for owner, seconds in silence.items() if seconds >= DEAD_AFTER}
        gone = {owner for owner, lives in alive.items() if lives is False}
        return silent | gone | (owners & {self._executor.owner})

    async def _beats(self, owner: str) -> int:
        row = await self._store.get(PROCESS, id=id_of(owner))
        return -1 if row is None else row.beats
