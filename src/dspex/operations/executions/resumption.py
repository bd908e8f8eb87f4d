"""Continues executions that have the answer they waited for, or lost their process."""

import asyncio
import logging
from dataclasses import replace
from types import TracebackType
from typing import Final, Self

from dspex.clock import Clock
from dspex.errors import DspexError, ExecutionError, NotFoundError, StorageError, boundary
from dspex.execution.backends import Choice
from dspex.failures import failure_dict
from dspex.operations.executions.executor import Executor
from dspex.operations.executions.records import EXECUTION, ExecutionRecord
from dspex.operations.executions.running_executions import RunningExecution
from dspex.operations.executions.stages import Stages
from dspex.operations.framework.input_errors import input_errors_as_invalid
from dspex.operations.framework.store import Query, Store
from dspex.operations.programs.records import PROGRAM
from dspex.sync import unbroken

POLL_SECONDS: Final = 5.0
AT_ONCE: Final = 16
_log = logging.getLogger("dspex.executions")


class Resumption:
    """Looks for executions to continue, in `async with`: at once after an answer in this process.

    Owned by one event loop. Answers from other processes, and questions that expire, are noticed
    within five seconds. Of several processes, one continues an execution.
    """

    def __init__(
        self, store: Store, executor: Executor, *, clock: Clock, leaves_foreign: bool = False
    ) -> None:
        """Take the collaborators.

        With `leaves_foreign`, it leaves executions to other processes whose code is not here;
        otherwise they fail.
        """
        self._leaves_foreign = leaves_foreign
        self._foreign: set[object] = set()
        self._store = store
        self._executor = executor
        self._clock = clock
        self._wakeup = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop_task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._executor.on_pending = self._wakeup.set
        self._loop_task = asyncio.get_running_loop().create_task(self._run_loop())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End; the executions that it continues must have been drained."""
        self._executor.on_pending = lambda: None
        tasks = {*self._tasks, *([] if self._loop_task is None else [self._loop_task])}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run_loop(self) -> None:
        while True:
            try:
                await unbroken(self.tick())
            except StorageError as error:
                _log.warning("executions cannot be continued now: %s", error.message)
            try:
                async with asyncio.timeout(POLL_SECONDS):
                    await self._wakeup.wait()
            except TimeoutError:
                pass

    async def run_until_idle(self, stopping: asyncio.Event) -> None:
        """Continue executions until none is left, or `stopping` is set; without `async with`.

        Raises:
            StorageError: the database is unavailable.
        """
        while not stopping.is_set() and (await self.tick() or self._tasks):
            ends = {asyncio.ensure_future(event.wait()) for event in (stopping, self._wakeup)}
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for end in ends:
                end.cancel()

    async def tick(self) -> int:
        """Let questions expire, and begin to continue executions; return how many."""
        self._wakeup.clear()
        await self._executor.questions.expire()
        free = AT_ONCE - len(self._tasks)
        if free <= 0:
            return 0
        query = Query(where={"status": "pending"}, limit=free, oldest_first=True)
        rows = [
            row for row in await self._store.select(EXECUTION, query) if await self._is_ours(row)
        ]
        for row in rows:
            task = asyncio.get_running_loop().create_task(self._resume_safely(row))
            self._tasks.add(task)
            task.add_done_callback(self._end)
        return len(rows)

    async def _is_ours(self, row: ExecutionRecord) -> bool:
        if not self._leaves_foreign:
            return True
        if row.id in self._foreign:
            return False
        try:
            choice = await self._choice(row)
            await choice.backend.create_program(choice.program)
        except StorageError:
            raise
        except DspexError as error:
            self._foreign.add(row.id)
            _log.warning("execution %s is left to a process with its code: %s", row.id, error)
            return False
        return True

    async def _choice(self, record: ExecutionRecord) -> Choice:
        program = await self._store.get(PROGRAM, id=record.program_id)
        if program is None:
            raise NotFoundError(f"the program {str(record.program_id)!r} does not exist any more")
        program = replace(program, current_version_id=record.program_version_id)
        return await self._executor.program_cache.choice(program, record.backend)

    def _end(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        self._wakeup.set()

    async def _resume_safely(self, row: ExecutionRecord) -> None:
        try:
            await self.resume(row)
        except DspexError as error:
            _log.warning("execution %s cannot be continued now: %s", row.id, error.message)
        except Exception:  # noqa: BLE001  # the others must continue
            _log.exception("execution %s cannot be continued", row.id)

    async def resume_if_ours(self, record: ExecutionRecord) -> bool:
        """Continue a pending execution if its code is here; return whether it is.

        Raises:
            StorageError: the database is unavailable; it is continued later.
        """
        if not await self._is_ours(record):
            return False
        await self.resume(record)
        return True

    async def resume(self, record: ExecutionRecord) -> None:
        """Continue an execution that is pending, unless another process does.

        Its program runs again from the beginning, with the results and answers of earlier runs.

        Raises:
            StorageError: the database is unavailable; it is continued later.
        """
        executor = self._executor
        claimed = None if executor.runs.is_draining else await executor.questions.claim(record)
        if claimed is None:
            return
        run, stages = executor.runs.begin(claimed.id), Stages(self._clock)
        try:
            await executor.finish(self._continue(run, claimed, stages))
        except StorageError:
            await executor.questions.put_back(claimed, has_crashed=False)
            raise
        except DspexError as error:
            values = {"error": failure_dict(error), "stages": stages.summary("failed")}
            await executor.rows.close(claimed, {**values, "status": "failed"})
            await executor.questions.close(claimed.id)
        finally:
            executor.runs.end(run)

    async def _continue(
        self, run: RunningExecution, record: ExecutionRecord, stages: Stages
    ) -> ExecutionRecord:
        """Run the version of a claimed execution with its journal; return its record.

        Raises:
            DspexError: the program cannot be run any more.
            StorageError: the database is unavailable.
        """
        executor = self._executor
        with input_errors_as_invalid(), boundary(ExecutionError, "the program cannot be loaded"):
            choice = await self._choice(record)
            stages.enter("input_validation")
            inputs = choice.program.signature.validate_inputs(record.inputs)
            journal = executor.journal_of(run, record)
            journal.load(
                await executor.questions.entries(record.id),
                await executor.questions.questions(record.id),
            )
        execution = executor.new_run(run, record, choice=choice, stages=stages, journal=journal)
        deadline = record.deadline_at
        seconds = None if deadline is None else (deadline - self._clock.now()).total_seconds()
        return await execution.run(inputs, seconds)
