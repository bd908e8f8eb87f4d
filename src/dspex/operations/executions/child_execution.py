"""Stored programs that other programs call: each call is an execution inside the current one."""

from collections.abc import Mapping
from typing import Any

import msgspec

from dspex.errors import DefinitionError, DspexError, ExecutionError
from dspex.execution.backends import Choice
from dspex.execution.backends.outputs import check_outputs
from dspex.execution.context import RunContext, current
from dspex.language.records import Prediction, Span, Trace, Usage
from dspex.operations.executions.execution_recorder import ExecuteOptions
from dspex.operations.executions.executor import Executor
from dspex.telemetry import Event, Observer


def connect_programs(executor: Executor) -> None:
    """Let `StoredProgram("name")` find the programs of its workspace."""
    provider = executor.context_provider

    async def context_for(workspace: str, context: RunContext) -> RunContext:
        context = await provider(workspace, context)
        return msgspec.structs.replace(context, programs=WorkspacePrograms(executor, workspace))

    executor.context_provider = context_for


class WorkspacePrograms:
    """Executes the programs of a workspace inside the current execution; see `RunProgram`."""

    def __init__(self, executor: Executor, workspace: str) -> None:
        """Take the executor of this process."""
        self._executor = executor
        self._workspace = workspace

    async def __call__(self, program: str, inputs: Mapping[str, Any]) -> Prediction:
        """Execute the current version of a program.

        Raises:
            DefinitionError: there is no such program.
            ExecutionError: the execution failed.
        """
        cache = self._executor.program_cache
        record = await cache.program(self._workspace, program)
        if record is None:
            raise DefinitionError(f"there is no stored program {program!r} in this workspace")
        call = _Call(await cache.choice(record, None), inputs)
        context = current()
        options = ExecuteOptions(actor=f"execution {context.frame.execution_id}")
        span = context.begin("program", program)
        try:
            execution = await self._executor.execute(record, dict(inputs), options, call=call.run)
        except BaseException as error:
            span.end(usage=call.usage, error=error)
            raise
        attributes: dict[str, object] = {"execution_id": str(execution.id)}
        span.end(usage=call.usage, attributes=attributes, error=call.error)
        if call.error is not None:
            raise call.error
        if call.prediction is None or execution.status != "completed":
            message = (execution.error or {}).get("message", f"it is {execution.status}")
            raise ExecutionError(
                f"the program {program!r} failed: {message}", execution_id=str(execution.id)
            )
        return call.prediction


class _Call:
    """One call: its full result, even if only a part is stored, or its error, in its own class."""

    def __init__(self, choice: Choice, inputs: Mapping[str, Any]) -> None:
        self._choice = choice
        self._inputs = inputs
        self.usage = Usage()
        self.prediction: Prediction | None = None
        self.error: DspexError | None = None

    async def run(self, context: RunContext) -> Prediction:
        """Run the program on its backend."""
        backend, program = self._choice.backend, self._choice.program
        context = msgspec.structs.replace(context, observer=_UsageObserver(context.observer, self))
        try:
            handle = await backend.create_program(program)
            result = await backend.execute_program(handle, self._inputs, context)
            outputs = check_outputs(program, result.to_dict())
        except DspexError as error:
            self.error = error
            raise
        self.prediction = Prediction(outputs)
        return result


class _UsageObserver:
    """Adds up what a call uses, also if it fails; forwards all events and spans."""

    def __init__(self, observer: Observer, call: _Call) -> None:
        self._observer = observer
        self._call = call

    def on_event(self, event: Event) -> None:
        """Forward an event."""
        self._observer.on_event(event)

    def on_span(self, span: Span) -> None:
        """Count and forward a span."""
        self._call.usage += Trace(spans=(span,)).usage
        self._observer.on_span(span)
