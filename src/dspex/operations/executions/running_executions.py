"""The active executions of this process: cancellation, draining and shutdown."""

import asyncio
import logging
from typing import Literal
from uuid import UUID

from dspex.clock import Clock
from dspex.errors import UnavailableError
from dspex.execution.context import current

_log = logging.getLogger("dspex.executions")
Reason = Literal["cancel", "interrupt", "wait"]


class RunningExecution:
    """One active execution and its task; `began` is in monotonic nanoseconds."""

    __slots__ = (
        "_cancelling",
        "_finished",
        "_task",
        "began",
        "id",
        "is_stoppable",
        "reason",
    )

    def __init__(self, execution_id: UUID, *, began: int) -> None:
        """Bind the run to the current task."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("an execution must run in an asyncio task")
        self.id = execution_id
        self.began = began
        self.is_stoppable = False
        self.reason: Reason | None = None
        self._task = task
        self._cancelling = task.cancelling()
        self._finished: asyncio.Event | None = None

    def stop(self, reason: Reason) -> None:
        """Cancel the run unless it has ended. Safe to call from any thread."""
        if self.reason is None:
            self.reason = reason
            self._task.get_loop().call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        if self.is_stoppable:
            self._task.cancel()

    def check(self) -> None:
        """Raise if the run was stopped before it started."""
        if self.reason is not None:
            self._task.cancel()
            raise asyncio.CancelledError

    @property
    def is_cancelled(self) -> bool:
        """Whether the task was cancelled; otherwise the program raised `CancelledError` itself."""
        return self.reason is not None or self._task.cancelling() > self._cancelling

    def absorb_cancellation(self) -> bool:
        """Return whether the cancellation came only from `stop`.

        If so, it is undone so that the task goes on.
        """
        return self.reason is not None and self._task.uncancel() <= self._cancelling

    async def wait_until_finished(self) -> None:
        """Wait until the run has ended and is recorded; only for tasks of the same event loop."""
        if self._finished is None:
            self._finished = asyncio.Event()
        await self._finished.wait()

    def finish(self) -> None:
        """Wake the waiting tasks."""
        if self._finished is not None:
            self._finished.set()


class RunningExecutions:
    """The active runs of one executor."""

    def __init__(self, clock: Clock) -> None:
        """Start empty."""
        self._clock = clock
        self._runs: dict[UUID, RunningExecution] = {}
        self._idle: asyncio.Event | None = None
        self.is_draining = False
        self.abandoned: list[UUID] = []
        """Executions that ignored their cancellation until shutdown.

        Nothing waits for them any more.
        """
        self.is_over = asyncio.Event()
        """Set when this process is about to stop listening, so that endless streams end."""

    def __len__(self) -> int:
        return len(self._runs)

    def __contains__(self, execution_id: UUID) -> bool:
        return execution_id in self._runs

    def get(self, execution_id: UUID) -> RunningExecution | None:
        """Return a run or None."""
        return self._runs.get(execution_id)

    def admit(self) -> None:
        """Reject new executions during shutdown, except children of active runs.

        Raises:
            UnavailableError: this process is shutting down.
        """
        if self.is_draining and current().frame.execution_id is None:
            raise UnavailableError(
                "this process is shutting down and does not accept new executions; call again in "
                "a moment"
            )

    def begin(self, execution_id: UUID) -> RunningExecution:
        """Start a run in the current task."""
        run = self._runs[execution_id] = RunningExecution(
            execution_id, began=self._clock.monotonic_ns()
        )
        return run

    def end(self, run: RunningExecution) -> None:
        """Remove a run and wake its waiters."""
        self._runs.pop(run.id, None)
        run.finish()
        if not self._runs and self._idle is not None:
            self._idle.set()

    def stop(self, execution_id: UUID, reason: Reason) -> bool:
        """Stop an execution; return whether it runs here."""
        run = self._runs.get(execution_id)
        if run is not None:
            run.stop(reason)
        return run is not None

    def older_than(self, seconds: float) -> list[UUID]:
        """Return the ids of runs that started at least `seconds` ago."""
        before = self._clock.monotonic_ns() - int(seconds * 1e9)
        return [run.id for run in self._runs.values() if run.began <= before]

    def interrupt(self) -> int:
        """Interrupt all runs; return how many."""
        runs = list(self._runs.values())
        for run in runs:
            run.stop("interrupt")
        return len(runs)

    async def drain(self, grace: float) -> int:
        """Reject new runs, wait for active ones, interrupt the rest; return how many.

        The wait takes `grace` seconds. Runs that have not ended another `grace` seconds later are
        abandoned.
        """
        self.is_draining = True
        if not await self._wait_until_empty(grace):
            count = self.interrupt()
            if not await self._wait_until_empty(grace):
                self._abandon()
            return count
        return 0

    def _abandon(self) -> None:
        self.abandoned += self._runs
        self._runs.clear()
        names = ", ".join(map(str, self.abandoned))
        _log.error("abandoning executions that ignore their cancellation: %s", names)

    async def _wait_until_empty(self, seconds: float) -> bool:
        self._idle = asyncio.Event()
        if not self._runs:
            return True
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True
