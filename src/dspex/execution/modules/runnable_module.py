"""RunnableModule: what is called with inputs by name and recorded as one node of a trace."""

import asyncio
import inspect
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, Never

import msgspec

from dspex.errors import DefinitionError, ExecutionError
from dspex.execution.context import RunContext, call_guarded, use_context
from dspex.execution.frame import Memo, TraceRecorder
from dspex.execution.modules.assertions import UnmetError
from dspex.execution.modules.forward import (
    CallSignature,
    call_signature,
    signature_of_forward,
)
from dspex.execution.modules.invocation import call_problem, cancel_and_drain, context_of
from dspex.execution.modules.model_call import MAX_RETRIES
from dspex.language.programs import ROOT
from dspex.language.records import Prediction, Trace
from dspex.language.records.prediction import Outputs
from dspex.language.signatures import Signature
from dspex.sync import in_thread
from dspex.sync import run as run_sync
from dspex.telemetry import Finished, Status, StreamEvent


@dataclass(frozen=True, slots=True)
class RunOutputs:
    """What a run returns: its outputs, and attributes for its span."""

    outputs: Mapping[str, object]
    attributes: dict[str, object] = field(default_factory=dict)


async def _no_forward(module: object, **inputs: Any) -> Never:
    del inputs
    raise DefinitionError(
        f"{type(module).__name__} has no forward method; write `async def forward(self, ...)`"
    )


def _assertions(memo: Memo | None, tries: int) -> dict[str, object]:
    """Return the attributes of a span: failed conditions, and suggestions that were not met."""
    attributes: dict[str, object] = {}
    if memo is not None and tries:
        attributes |= {"asserted_again": tries, "assertions": memo.reasons}
    if memo is not None and memo.unmet:
        attributes["suggestions"] = memo.unmet
    return attributes


class RunnableModule(Generic[Outputs]):
    """The running of a module: `forward`, the calls, the streams, and the span around them."""

    signature: Any = None  # of any form; subclasses may declare it

    forward: Callable[..., Any] = _no_forward
    """Computes a `Prediction` or a mapping of outputs; subclasses define it, with their inputs."""

    __signature__ = CallSignature()

    def __call__(
        self,
        context: RunContext | None = None,
        /,
        *positional: Never,
        **inputs: Any,
    ) -> Prediction[Outputs]:
        """Run and return the prediction: the synchronous form of `await acall(...)`."""
        if positional:
            self.context_of(context, *positional)
        return run_sync(self.acall(context, **inputs))

    async def acall(
        self, context: RunContext | None = None, /, **inputs: Any
    ) -> Prediction[Outputs]:
        """Run in `context`, by default the current one.

        Raises:
            InputError: the inputs are invalid; the message names every wrong field.
            ConfigurationError: no model is set.
            ExecutionError: the run failed; subclasses tell the cause.
        """
        context = self.context_of(context)
        if context.is_bounded or context.is_recorded:
            return await self.run_outermost(context, inputs)
        frame = context.frame
        memo, emit, objections = frame.memo, frame.emit, frame.objections
        if memo is not None:
            if (prediction := memo.recall(self, inputs)) is not None:
                return prediction
            objections = memo.objections(self, inputs) or objections
        run = frame.recorder or TraceRecorder(context.observer, context.clock, self.paths_by_id())
        first = len(run.spans)
        name = self._name_in_traces()
        path = run.paths.get(id(self), name)
        span = run.begin("module", name, parent_id=frame.span_id, path=path)
        inner = msgspec.structs.replace(
            frame, recorder=run, span_id=span.id, path=path, memo=Memo(), objections=objections
        )
        try:
            if emit is not None:
                await emit(Status(path, name, "begun"))
            result = await self.run_in_context(
                msgspec.structs.replace(context, frame=inner), inputs
            )
        except BaseException as error:
            span.end(error=error)
            raise
        span.end(attributes=result.attributes)
        if emit is not None:
            await emit(Status(path, name, "done"))
        trace = (
            run.trace(span.id, first=first)
            if frame.recorder
            else Trace(run.trace_id, tuple(run.spans))
        )
        prediction = Prediction.of_run(result.outputs, trace)
        return prediction if memo is None else memo.record(self, inputs, prediction)

    async def run_in_context(self, context: RunContext, inputs: Mapping[str, Any]) -> RunOutputs:
        """Compute the outputs of one call, inside its span: by default, run `forward`.

        Override it in a class that does not run Python code here, such as one that sends the inputs
        elsewhere. It may be called many times at once, and raises what the caller should get. By
        default, `forward` runs again if an `Assert` fails, see `assertions.Assert`.

        Args:
            context: the context of this call; pass it on to the modules that are called.
            inputs: the inputs as the caller passed them.
        """
        tries = 0
        while True:
            try:
                with use_context(context):
                    outputs = await self._run_forward(inputs)
                return RunOutputs(outputs, _assertions(context.frame.memo, tries))
            except UnmetError as error:
                memo = context.frame.memo
                if memo is not None and tries < MAX_RETRIES:
                    memo = memo.retry_with(error.of, error.message)
                else:
                    memo = None
                if memo is None:
                    raise
                context, tries = context.remembering(memo), tries + 1

    async def run_outermost(self, context: RunContext, inputs: Mapping[str, Any]) -> Prediction:
        """Run in a context that records the run, or enforce its deadline and cancellation."""
        if context.is_recorded and (record := context.active_record) is not None:
            return await record(self, context, inputs)
        return await call_guarded(context, partial(self.acall, **inputs))

    async def _run_forward(self, inputs: Mapping[str, Any]) -> Mapping[str, object]:
        try:
            if inspect.iscoroutinefunction(self.forward):
                result = await self.forward(**inputs)
            else:
                result = await in_thread(self.forward, **inputs)
        except TypeError as error:
            if (problem := call_problem(self._name_in_traces(), self.forward, inputs)) is not None:
                raise problem from error
            raise
        except SystemExit as error:  # it would end the event loop, and all other tasks with it
            code = f"SystemExit({error.code!r})"
            raise ExecutionError(
                f"{self._name_in_traces()} asked to end the process: {code}; return or raise"
            ) from error
        if isinstance(result, Prediction):
            return result.to_dict()
        if isinstance(result, Mapping):
            return dict(result)
        raise DefinitionError(
            f"forward of {self._name_in_traces()} returned {type(result).__name__}; return a "
            "Prediction or a dict of outputs"
        )

    def _name_in_traces(self) -> str:
        """Return the name of this module in errors and spans."""
        return type(self).__name__

    def context_of(self, context: RunContext | None, *positional: object) -> RunContext:
        """Return the context of a call; see `invocation.context_of`."""
        if isinstance(context, RunContext) and not positional:
            return context
        return context_of(
            context,
            positional,
            name=self._name_in_traces(),
            contract=self.contract,
            forward=self.forward,
        )

    async def stream(
        self,
        context: RunContext | None = None,
        /,
        **inputs: Any,
    ) -> AsyncGenerator[StreamEvent, None]:
        """Run like `acall` and yield the events of all modules; the last event is `Finished`.

        A slow consumer slows down the run. Closing the iterator (`aclose`, `contextlib.aclosing`)
        cancels the run and its requests.

        Raises:
            DspexError: the error of `acall`, after the events before it.
        """
        events: asyncio.Queue[StreamEvent | None] = asyncio.Queue(maxsize=64)
        stream_context = self.context_of(context).listening(emit=events.put)

        async def run() -> Prediction:
            try:
                return await self.acall(stream_context, **inputs)
            finally:
                await events.put(None)

        task = asyncio.ensure_future(run())
        try:
            while (event := await events.get()) is not None:
                yield event
            yield Finished(await task)
        finally:
            await cancel_and_drain(task, events)

    def contract(self) -> Signature:
        """Return the signature: the attribute `signature`, or that of a typed `forward`.

        Raises:
            DefinitionError: the module has neither.
        """
        if self.signature is None:
            owner: type = type(self)
            return signature_of_forward(owner)
        return Signature.of(self.signature)

    def call_signature(self) -> inspect.Signature:
        """Return how it is called: its inputs as keyword parameters.

        Raises:
            DefinitionError: it has no signature.
        """
        return call_signature(self.contract())

    def paths_by_id(self) -> Mapping[int, str]:
        """Return the path of this module and of each of its parts, by their `id()`."""
        return {id(self): str(ROOT)}
