"""The process beside a worker that continues executions, so that none can block the worker."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence

from dspex.clock import Clock
from dspex.operations.executions.records import EXECUTION, QUESTION
from dspex.operations.framework.store import Match, Store

_PATIENCE = 10.0
_SHORTEST, _LONGEST = 1.0, 60.0  # seconds from one start to the next
_log = logging.getLogger("dspex.executions")


class ResumptionProcess:
    """Starts a process when an execution may go on; the process ends when none is left.

    Owned by one event loop.
    """

    def __init__(
        self,
        command: Callable[[], Sequence[str]],
        *,
        store: Store,
        clock: Clock,
        environment: Mapping[str, str],
    ) -> None:
        """Take the command; the process ends when its standard input is closed."""
        self._command = command
        self._store = store
        self._clock = clock
        self._environment = environment
        self._process: asyncio.subprocess.Process | None = None
        self._not_before = 0
        self._pause = _SHORTEST

    async def tick(self) -> bool:
        """Start the process if it is needed; return whether it runs.

        What it leaves to processes with other code is looked at again, ever less often.

        Raises:
            StorageError: the database cannot be read.
        """
        if self._process is not None and self._process.returncode is None:
            return True
        if not await self._has_work():
            self._pause = _SHORTEST
            return False
        now = self._clock.monotonic_ns()
        if now < self._not_before:
            return False
        self._not_before = now + int(self._pause * 1e9)
        self._pause = min(2 * self._pause, _LONGEST)
        self._process = await asyncio.create_subprocess_exec(
            *self._command(), stdin=asyncio.subprocess.PIPE, env=dict(self._environment)
        )
        return True

    async def _has_work(self) -> bool:
        if await self._store.count(EXECUTION, {"status": "pending"}):
            return True
        late = Match((("before", self._clock.now()),))
        return bool(await self._store.count(QUESTION, {"status": "open", "expires_at": late}))

    async def aclose(self) -> None:
        """Let the process put back its executions, and wait until it has ended, or kill it."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        if process.stdin is not None:
            process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), _PATIENCE)
        except TimeoutError:
            _log.warning("the process %s that continues executions is killed", process.pid)
            process.kill()
            await process.wait()
