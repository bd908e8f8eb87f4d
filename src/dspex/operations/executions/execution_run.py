"""One run of an execution: call the program, check its outputs, record the end."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

import msgspec

from dspex.errors import ConflictError, DspexError, ExecutionError, StorageError, boundary
from dspex.execution.backends import Choice
from dspex.execution.backends.outputs import check_outputs, dump_outputs
from dspex.execution.context import RunContext, call_guarded, use_context
from dspex.failures import failure_dict
from dspex.language.records import Prediction, Span
from dspex.operations.executions.execution_journal import ExecutionJournal, journaled
from dspex.operations.executions.execution_recorder import trace_of
from dspex.operations.executions.execution_rows import ExecutionRows
from dspex.operations.executions.records import ExecutionRecord
from dspex.operations.executions.running_executions import RunningExecution
from dspex.operations.executions.sessions import Sessions
from dspex.operations.executions.stages import Stages
from dspex.operations.framework.input_errors import input_errors_as_invalid
from dspex.operations.framework.store import Change
from dspex.telemetry import Event, Observer

_log = logging.getLogger("dspex.executions")
ProgramCall = Callable[[RunContext], Awaitable[Prediction]]
"""Runs what an execution records, such as a module of the caller, in the executor's context."""
ContextOfRun = Callable[[ExecutionRecord, float | None], Awaitable[RunContext]]
"""Returns the context of an execution, with a timeout in seconds."""
STOPPED = DspexError("the process that ran this execution was stopped; retry it").to_dict() | {
    "code": "interrupted",
    "retryable": True,
}


class ExecutionRun:
    """One run of a recorded execution."""

    __slots__ = (
        "_call",
        "_choice",
        "_context_of",
        "_journal",
        "_record",
        "_rows",
        "_run",
        "_sessions",
        "_spans",
        "_stages",
    )

    def __init__(  # all parts of a run
        self,
        run: RunningExecution,
        record: ExecutionRecord,
        *,
        rows: ExecutionRows,
        sessions: Sessions,
        context_of: ContextOfRun,
        choice: Choice,
        stages: Stages,
        call: ProgramCall | None = None,
        journal: ExecutionJournal | None = None,
    ) -> None:
        """Take the run and its record.

        `call` runs in place of the program of `choice`. With a `journal`, it can wait for people.
        """
        self._journal = journal
        self._run = run
        self._record = record
        self._rows = rows
        self._sessions = sessions
        self._context_of = context_of
        self._choice = choice
        self._stages = stages
        self._call = call
        self._spans: list[Span] = []

    async def run(self, inputs: Mapping[str, Any], seconds: float | None) -> ExecutionRecord:
        """Run the program, record the end, and return the record."""
        prediction: Prediction | None = None
        values: dict[str, Any] = {"queue_ms": self._stages.waited_ms()}
        try:
            self._run.is_stoppable = True
            self._run.check()
            with input_errors_as_invalid(), boundary(ExecutionError, "the program failed"):
                context = await self._context_of(self._record, seconds)
                if self._journal is not None:
                    context = journaled(context, self._journal)
                with use_context(context):
                    prediction = await self._call_program(inputs, context)
                self._run.is_stoppable = False
                values |= self._outputs(prediction)
        except DspexError as error:
            values |= {
                "status": "failed",
                "error": failure_dict(error),
                "stages": self._stages.summary("failed"),
            }
        except asyncio.CancelledError:
            self._run.is_stoppable = False
            if self._run.is_cancelled:
                return await self._handle_cancellation(values)
            failure = ExecutionError("the program's own code cancelled it").to_dict()
            values |= {
                "status": "failed",
                "error": failure,
                "stages": self._stages.summary("failed"),
            }
        self._run.is_stoppable = False
        return await self._close(values, prediction)

    async def _call_program(self, inputs: Mapping[str, Any], context: RunContext) -> Prediction:
        observed_context = msgspec.structs.replace(
            context, observer=_CollectingObserver(context.observer, self._spans)
        )
        self._stages.enter("definition")
        if observed_context.is_bounded:
            return await call_guarded(
                observed_context, lambda inner: self._on_backend(inputs, inner)
            )
        return await self._on_backend(inputs, observed_context)

    async def _on_backend(self, inputs: Mapping[str, Any], context: RunContext) -> Prediction:
        if self._call is not None:
            self._stages.enter("backend_execution")
            return await self._call(context)
        backend = self._choice.backend
        handle = await backend.create_program(self._choice.program)
        self._stages.enter("backend_execution")
        return await backend.execute_program(handle, inputs, context)

    def _outputs(self, prediction: Prediction) -> dict[str, Any]:
        program, stages = self._choice.program, self._stages
        stages.enter("output_validation")
        outputs = check_outputs(program, prediction.to_dict())
        stages.enter("serialization")
        usage = prediction.usage
        values = {
            "outputs": dump_outputs(program, outputs),
            "usage": msgspec.to_builtins(usage),
            "cost_usd": usage.cost_usd,
            "trace": trace_of(prediction, self._spans),
            "status": "completed",
        }
        return {**values, "stages": stages.summary()}

    async def _handle_cancellation(self, values: dict[str, Any]) -> ExecutionRecord:
        """Record a cancellation.

        It came from an action (already recorded), a question, shutdown, or the caller's task.
        """
        is_ours = self._run.absorb_cancellation()
        if is_ours and self._run.reason == "cancel":
            return await self._rows.reload(self._record)
        if is_ours and self._journal is not None and self._journal.is_stored:
            return await self._leave(self._journal)
        values["stages"] = self._stages.summary("cancelled")
        if is_ours:
            return await self._close({**values, "status": "interrupted", "error": STOPPED}, None)
        close_task = asyncio.ensure_future(self._close({**values, "status": "cancelled"}, None))
        await asyncio.wait({close_task})
        if not close_task.cancelled():
            close_task.exception()
        raise asyncio.CancelledError

    async def _turn(self, values: Mapping[str, Any]) -> tuple[Change, ...]:
        if self._record.session_id is None or values.get("status") != "completed":
            return ()
        signature = self._choice.program.signature
        return await self._sessions.changes(self._record, values["outputs"], signature)

    async def _leave(self, journal: ExecutionJournal) -> ExecutionRecord:
        """Record that the execution waits for people, or that another process may continue it."""
        if self._run.reason == "wait":
            values = {
                "trace": trace_of(None, self._spans),
                "stages": self._stages.summary("waiting"),
            }
            questions = [question.id for question in journal.waits_for]
            await self._rows.suspend(self._record, values, questions=questions)
        else:
            with suppress(ConflictError, StorageError):  # the next sweep does it
                await self._rows.questions.put_back(self._record, has_crashed=False)
        return await self._rows.reload(self._record)

    async def _close(
        self, values: dict[str, Any], prediction: Prediction | None
    ) -> ExecutionRecord:
        if prediction is None or "trace" not in values:
            values["trace"] = trace_of(prediction, self._spans)
        record = await self._rows.close(self._record, values, *await self._turn(values))
        if self._journal is not None and self._journal.is_stored:
            await self._rows.questions.close(record.id)
        if _log.isEnabledFor(logging.INFO):
            _log_end(record, self._choice.program.name)
        return record


def _log_end(record: ExecutionRecord, program: str) -> None:
    fields = {
        "execution_id": str(record.id),
        "program": program,
        "actor": record.actor,
        "status": record.status,
        "duration_ms": round(record.duration_ms or 0.0, 3),
        "code": None if record.error is None else record.error["code"],
    }
    # without the error message, which may contain inputs
    _log.info("execution ended", extra=fields)


class _CollectingObserver:
    """Collects the spans of a run, even if it fails, and forwards all events and spans."""

    __slots__ = ("_observer", "_spans", "on_event")

    def __init__(self, observer: Observer, spans: list[Span]) -> None:
        self._observer = observer
        self._spans = spans
        self.on_event: Callable[[Event], None] = observer.on_event

    def on_span(self, span: Span) -> None:
        """Collect and forward a span."""
        self._spans.append(span)
        self._observer.on_span(span)
