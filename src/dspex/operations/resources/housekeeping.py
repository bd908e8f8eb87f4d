"""What a process does beside its work: notice cancellations, show that it lives, find what dead processes left."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from dspex.clock import Clock
from dspex.errors import ConflictError, NotFoundError, StorageError
from dspex.operations.resources.access import DEFAULT_WORKSPACE
from dspex.operations.resources.executing import Executor
from dspex.operations.resources.execution import EXECUTION, ExecutionRecord
from dspex.operations.resources.owners import id_of, is_alive
from dspex.operations.resources.ports import Insert, Query, Store, Update
from dspex.operations.resources.process import PROCESS, ProcessRecord
from dspex.sync import unbroken
from dspex.telemetry import Event, Observer

WATCH, BEAT, SWEEP = 0.4, 2.0, 5.0
DEAD_AFTER = 10.0
_PAGE = 500
_log = logging.getLogger("dspex.executions")


@dataclass(slots=True)
class _Chore:
    """Something done every so many seconds."""

    every: float
    work: Callable[[], Awaitable[object]]
    due: int = 0


class Housekeeper:
    """Lives beside an executor in `async with`; `tick` does what is due. Owned by one event loop.

    An execution whose process is gone becomes interrupted. On this host, a process is asked for by its number and
    start; one of another host is gone when its heartbeat stood still for `DEAD_AFTER` seconds of our own clock, so the
    clocks of hosts need not agree.
    """

    def __init__(self, store: Store, executor: Executor, *, clock: Clock, observer: Observer) -> None:
        """Take the collaborators."""
        self._store = store
        self._executor = executor
        self._clock = clock
        self._observer = observer
        self._chores = [_Chore(WATCH, executor.watch), _Chore(BEAT, self.beat), _Chore(SWEEP, self.sweep)]
        self._seen: dict[str, tuple[int, int]] = {}
        self._has_row = False
        self._task: asyncio.Task[None] | None = None

    def add(self, every: float, work: Callable[[], Awaitable[object]]) -> None:
        """Do `work` too, at the first tick and then every so many seconds."""
        self._chores.append(_Chore(every, work))

    async def __aenter__(self) -> Self:
        self._task = asyncio.get_running_loop().create_task(self._keep())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            if not self._task.cancelled():
                self._task.result()

    async def _keep(self) -> None:
        """Tick until cancelled, and never in the middle of a chore: a driver loses its connection in a query."""
        while True:
            await unbroken(self.tick())
            await self._clock.sleep(WATCH)

    async def tick(self) -> None:
        """Do what is due. No chore that fails is a reason to stop: it is done again when it is next due."""
        for chore in self._chores:
            now = self._clock.monotonic_ns()
            if chore.due <= now:
                chore.due = now + int(chore.every * 1e9)
                try:
                    await chore.work()
                except StorageError as error:
                    self._observer.on_event(Event(name="log", message=f"housekeeping waits: {error.message}"))
                except Exception:  # noqa: BLE001  # the others (cancellations, heartbeats) have to go on
                    _log.exception("a part of housekeeping failed; it is tried again in %g s", chore.every)

    async def beat(self) -> None:
        """Show that this process lives, once it has executions that others may ask about."""
        if len(self._executor.runs):
            await self.prove()

    async def prove(self) -> None:
        """Write the row of this process.

        Raises:
            StorageError: nothing can be written.
        """
        key = id_of(self._executor.owner)
        try:
            if self._has_row:
                await self._store.write(Update(resource=PROCESS, id=key, increments={"beats": 1}))
                return
        except NotFoundError:  # retention took it for one of a dead process
            self._has_row = False
        now = self._clock.now()
        owner = self._executor.owner
        row = ProcessRecord(id=key, workspace=DEFAULT_WORKSPACE, created_at=now, updated_at=now, owner=owner)
        await self._store.write(Insert(row))
        self._has_row = True

    async def sweep(self) -> int:
        """Mark executions as interrupted that nobody runs any more; return how many."""
        query = Query(where={"status": ("pending", "running")}, limit=_PAGE, oldest_first=True)
        rows = [row for row in await self._store.select(EXECUTION, query) if row.id not in self._executor.runs]
        is_gone = {owner: await self._is_gone(owner) for owner in {row.owner for row in rows if row.owner is not None}}
        self._seen = {owner: observation for owner, observation in self._seen.items() if owner in is_gone}
        orphans = [row for row in rows if row.owner is None or is_gone[row.owner]]
        return sum([await self._interrupt(row) for row in orphans])

    async def _interrupt(self, row: ExecutionRecord) -> bool:
        try:
            await self._store.write(*self._executor.recorder.stopped(row, "interrupted", actor=None))
        except ConflictError:  # it ended meanwhile
            return False
        return True

    async def _is_gone(self, owner: str) -> bool:
        if owner == self._executor.owner:
            return True  # asked only about executions that are not among our runs
        alive = is_alive(owner)
        if alive is not None:
            return not alive
        row = await self._store.get(PROCESS, id=id_of(owner))
        beats, now = -1 if row is None else row.beats, self._clock.monotonic_ns()
        observation = self._seen.get(owner)
        if observation is None or observation[0] != beats:
            self._seen[owner] = (beats, now)
            return False
        return now - observation[1] >= int(DEAD_AFTER * 1e9)
