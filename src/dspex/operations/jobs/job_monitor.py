"""Supervises jobs in a process that runs none itself: explains why they wait, runs a worker."""

import asyncio
import contextlib
import logging
import platform
from collections.abc import Mapping, Sequence
from types import TracebackType

from dspex.clock import Clock
from dspex.errors import StorageError
from dspex.operations.framework.heartbeats import LookTimer
from dspex.operations.framework.store import Query, Store
from dspex.operations.jobs.orphan_sweeper import OrphanSweeper
from dspex.operations.jobs.records import JOB_WORKER
from dspex.operations.jobs.worker_registry import WorkerRegistry

_log = logging.getLogger("dspex.jobs")
_PATIENCE = 10.0
_START = 120.0  # seconds until a worker has to have its row
_STUCK = 8.0  # seconds without a beat after which a worker does not come back


class WorkerProcess:
    """A worker as a child process, started when there is work, and again whenever it ends.

    It ends with its parent, even if that was killed, because it stops when its standard input is
    closed. A worker without heartbeats is stuck: it is killed and started again. Detecting that
    takes no write, so it also works for a worker that holds the lock of a SQLite file.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        store: Store,
        clock: Clock,
        environment: Mapping[str, str] | None = None,
        longest: float = 30.0,
    ) -> None:
        """Take the command and the environment of the worker, by default that of this process.

        If it ends by itself, it is started again after 1, 2, 4 ... `longest` seconds.
        """
        self._command = command
        self._environment = environment
        self._store = store
        self._clock = clock
        self._longest = longest
        self._process: asyncio.subprocess.Process | None = None
        self._wait = 0.0
        self._not_before = 0
        self._missing = 0.0
        self._beat: tuple[object, int] | None = None

    @property
    def pid(self) -> int | None:
        """The process id, or None if it does not run."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    async def ensure(self) -> None:
        """Start it unless it runs, or was started too recently."""
        if self.pid is not None or self._clock.monotonic_ns() < self._not_before:
            return
        if self._process is not None:
            _log.warning(
                "the worker ended with code %s and is started again", self._process.returncode
            )
        self._wait = min(max(1.0, self._wait * 2), self._longest)
        self._not_before = self._clock.monotonic_ns() + int(self._wait * 1e9)
        self._missing, self._beat = 0.0, None
        self._process = await asyncio.create_subprocess_exec(
            *self._command, stdin=asyncio.subprocess.PIPE, env=self._environment
        )

    async def replace_stuck(self, passed: float) -> None:
        """Kill it if it is stuck.

        `passed` is the number of seconds that this process has watched it since the last call.

        Raises:
            StorageError: the database cannot be reached.
        """
        if self._process is None or self.pid is None:
            return
        where = {"pid": self.pid, "host": platform.node(), "status": "alive"}
        rows = await self._store.select(JOB_WORKER, Query(where=where, limit=1))
        if rows and (rows[0].id, rows[0].beats) != self._beat:
            self._missing, self._beat = 0.0, (rows[0].id, rows[0].beats)
            return
        self._missing += passed
        if self._missing > (_START if self._beat is None else _STUCK):
            _log.warning(
                "the worker (process %s) shows no sign of life; it is killed and started again",
                self.pid,
            )
            self._process.kill()
            await self._process.wait()

    async def aclose(self) -> None:
        """Let it hand back its jobs, and wait until it has ended; kill it after 10 seconds."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        if process.stdin is not None:
            process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), _PATIENCE)
        except TimeoutError:
            process.kill()
            await process.wait()


class JobMonitor:
    """Sweeps once a second and at each `wakeup`; starts `worker`, if given, for the first job."""

    def __init__(
        self,
        sweeper: OrphanSweeper,
        registry: WorkerRegistry,
        *,
        wakeup: asyncio.Event,
        clock: Clock,
        worker: WorkerProcess | None = None,
        every: float = 1.0,
    ) -> None:
        """Take the collaborators; one event loop owns it, and it runs inside `async with`."""
        self._sweeper = sweeper
        self._registry = registry
        self._wakeup = wakeup
        self._worker = worker
        self._every = every
        self._timer = LookTimer(clock, longest=2 * every)
        self._task: asyncio.Task[None] | None = None

    async def tick(self) -> None:
        """Check jobs and workers once."""
        try:
            if self._worker is not None:
                await self._worker.replace_stuck(self._timer.passed())
            await self._registry.tick()
            if await self._sweeper.tick() and self._worker is not None:
                await self._worker.ensure()
        except StorageError as error:
            _log.warning("jobs cannot be checked now: %s", error.message)
        except OSError as error:  # no process can be started now
            _log.warning("the worker cannot be started: %s", error)

    async def __aenter__(self) -> "JobMonitor":
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._worker is not None:
            await self._worker.aclose()

    async def _run(self) -> None:
        while True:
            self._wakeup.clear()
            await self.tick()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wakeup.wait(), self._every)
