"""The status file of a process with workers: small, replaced atomically, removed at its end."""

import asyncio
import contextlib
import os
import tempfile
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from dspex.clock import Clock, SystemClock
from dspex.errors import StorageError
from dspex.execution.workers.orphans import is_running, start_time
from dspex.execution.workers.stats import PoolStats

Pools = Callable[[], Sequence[PoolStats]]
TICK = 1.0
_PAUSE = 0.05  # one write covers changes that come together


class ProcessStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One process with workers. `started` is in clock ticks since boot, 0 if it is unknown."""

    pid: int
    started: int
    what: str
    updated_at: datetime
    pools: tuple[PoolStats, ...] = ()


class StatusPublisher:
    """Updates the status file of this process after each change, and at least every second.

    Nothing is written before the first change, and the file is removed at the end. A folder that
    cannot be written is ignored, because a run must not fail for it. Owned by one event loop; lives
    in `async with`.
    """

    def __init__(self, folder: Path, *, what: str, clock: Clock | None = None) -> None:
        """Take the folder, and the kind of process: "serve" or "run".

        Set `pools` before the first change.
        """
        pid = os.getpid()
        self.pools: Pools = list
        self._about = (pid, start_time(pid) or 0, what)
        self._file = folder / f"{pid}-{self._about[1]}.json"
        self._clock = clock or SystemClock()
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._is_open = False

    async def __aenter__(self) -> Self:
        self._is_open = True
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._is_open = False
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            with contextlib.suppress(OSError):
                self._file.unlink(missing_ok=True)

    def schedule_write(self) -> None:
        """Write the file soon; the first call starts the periodic updates."""
        self._changed.set()
        if self._task is None and self._is_open:
            self._task = asyncio.get_running_loop().create_task(self._run())

    def tick(self) -> None:
        """Write the file once."""
        pid, started, what = self._about
        status = ProcessStatus(
            pid=pid,
            started=started,
            what=what,
            updated_at=self._clock.now(),
            pools=tuple(self.pools()),
        )
        with contextlib.suppress(OSError):
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _replace(self._file, msgspec.json.encode(status))

    async def _run(self) -> None:
        while True:
            self._changed.clear()
            self.tick()
            await self._clock.sleep(_PAUSE)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK):
                    await self._changed.wait()


def read_statuses(folder: Path) -> list[ProcessStatus]:
    """Return the running processes with a file in `folder`, oldest first; remove other files.

    Raises:
        StorageError: the folder cannot be read.
    """
    statuses = []
    try:
        files = sorted(folder.glob("*-*.json"))
    except OSError as error:
        raise StorageError(f"cannot read {str(folder)!r}: {error}") from error
    for file in files:
        try:
            status = msgspec.json.decode(file.read_bytes(), type=ProcessStatus)
        except (OSError, msgspec.DecodeError):
            # the process ended meanwhile, or the file is not ours
            continue
        if is_running(status.pid, status.started):
            statuses.append(status)
        else:
            with contextlib.suppress(OSError):
                file.unlink(missing_ok=True)
    return sorted(statuses, key=lambda status: (status.started, status.pid))


def _replace(file: Path, data: bytes) -> None:
    descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=".", suffix=".new")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
        Path(name).replace(file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
