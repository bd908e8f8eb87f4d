"""One predictor's calls to its model: the first, and those that mend a reply."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from dspex.errors import AdapterError, CheckError, DefinitionError, boundary
from dspex.execution.adapters import Adapter, EmitEvent, ReplyEvents, StreamingAdapter
from dspex.execution.clients import LanguageModel, Request, Response
from dspex.execution.clients.budgeted import ask_within
from dspex.execution.context import OpenSpan, RunContext, TraceRecorder, payload
from dspex.language.records import Fallback, Message, Prediction
from dspex.language.signatures import FieldCheck, Signature
from dspex.telemetry import Event, FieldDelta, Status

MAX_RETRIES = 2  # how often a predictor is asked again because of one condition
CHECK_FAILED = "That does not hold up: "


class ModelCall(msgspec.Struct, gc=False):  # one for each call under way; nothing that it holds knows of it
    """The state of one call of a predictor."""

    context: RunContext
    run: TraceRecorder
    span: OpenSpan
    model: LanguageModel
    adapter: Adapter
    fallback: Fallback | None = None
    repairs: int = 0
    refusals: int = 0
    attempt: int = 0
    signature: Signature | None = None
    inputs: Mapping[str, Any] | None = None

    async def start(self, request: Request, signature: Signature, inputs: Mapping[str, Any]) -> Request:
        """Tell who listens that the call begins, and return the request with all objections to earlier answers."""
        self.signature, self.inputs = signature, inputs
        if self.context.emit is not None:
            await self.context.emit(Status(self.span.path, "Predict", "begun"))
        return self.with_objections(request)

    async def send(self, request: Request) -> str:
        """Send one request and return the text of its reply, or the arguments of its answering tool call as JSON."""
        context, model = self.context, self.model
        span = self.run.begin("model", model.name, parent_id=self.span.id, path=self.span.path)
        if context.records_payloads:
            span.inputs = payload(request.messages)
        try:
            if context.emit is None and context.budget is None and context.deadline is None:
                response = await model.complete(request)
            else:
                response = await self._send_with_limits(request)
        except BaseException as error:
            span.end(error=error)
            raise
        text = response.text if not response.tool_calls else _arguments(response)
        span.end(
            usage=response.usage.of_model(response.label),
            attributes=response.about(),
            outputs=payload(text) if context.records_payloads else None,
        )
        return text

    async def _send_with_limits(self, request: Request) -> Response:
        context = self.context
        context.check()
        self.attempt += 1
        events = None
        if context.emit is not None:
            if self.attempt > 1:
                await context.emit(Status(self.span.path, "Predict", "again"))
            events = self._reply_events(context.emit)
        emit = None if events is None else events.take
        response = await ask_within(context.budget, self.model, request, emit=emit)
        if events is not None:
            await events.end()
        return response

    def _reply_events(self, emit: EmitEvent) -> ReplyEvents | None:
        if self.signature is None or not isinstance(self.adapter, StreamingAdapter):
            return None
        return ReplyEvents(emit, self.adapter.splitter(self.signature), path=self.span.path, attempt=self.attempt)

    def report_fallback(self, reason: str) -> None:
        """Tell the observer that another call is made, and why."""
        self.context.say(Event(name="fallback", message=reason, trace_id=self.run.trace_id))

    def with_objections(self, request: Request) -> Request:
        """Return the request with what was wrong with earlier answers, which `Assert` refused."""
        if not self.context.objections:
            return request
        turns = [
            turn
            for prediction, message in self.context.objections
            for turn in _turns(self._as_reply(prediction), f"{CHECK_FAILED}{message}")
        ]
        return msgspec.structs.replace(request, messages=(*request.messages, *turns))

    def _as_reply(self, prediction: Prediction) -> str:
        """Return an earlier answer as this adapter lays answers out, which is how it shows a demonstration of it."""
        if self.signature is not None and self.signature.output_fields.keys() <= prediction.keys():
            demo = {**(self.inputs or {}), **prediction}
            messages = self.adapter.render(self.signature, [demo], self.inputs or {}).messages
            if answers := [message.content for message in messages if message.role == "assistant"]:
                return answers[-1]
        return payload(prediction.to_dict())

    def note(self, message: str) -> None:
        """Tell the observer of a suggestion that the outputs do not meet."""
        note_suggestion(self.context, message, path=self.span.path, trace_id=self.run.trace_id)

    def retry_after_check(self, request: Request, reply: str, *, error: CheckError) -> Request:
        """Return the request for an answer that holds up; raise `error` after as many tries as an `Assert` has."""
        if self.refusals == MAX_RETRIES:
            raise error
        self.refusals += 1
        return _retry_request(request, reply, f"{CHECK_FAILED}{error.message}")

    def attributes(self) -> dict[str, object]:
        """Return what the module's span says about the calls beyond the first."""
        attributes: dict[str, object] = {}
        if self.fallback is not None:
            attributes["fallback"] = self.fallback.reason
        if self.repairs:
            attributes["repairs"] = self.repairs
        if self.refusals:
            attributes["asserted_again"] = self.refusals
        return attributes


def note_suggestion(context: RunContext, message: str, *, path: str, trace_id: str | None) -> None:
    """Tell the observer of something that would be better otherwise."""
    context.say(
        Event(name="log", message=f"suggestion not met: {message}", trace_id=trace_id, attributes={"path": path})
    )


def _complaint(name: str, check: FieldCheck, outputs: Mapping[str, Any]) -> str | None:
    with boundary(DefinitionError, f"the check {check.name!r} of {name!r} is at fault itself"):
        return check.complaint(outputs[name])


async def complete(
    context: RunContext, model: LanguageModel, request: Request, *, field: str, attempt: int
) -> Response:
    """Send one request outside of a predictor, under the same limits and with the same span.

    The text of the reply is told, to whoever listens, as that of `field`.
    """
    context.check()
    run, listen = context.run, context.emit
    if run is None:
        raise DefinitionError("a model is asked while a module runs")
    span = run.begin("model", model.name, parent_id=context.parent_id, path=context.path)
    if context.records_payloads:
        span.inputs = payload(request.messages)

    async def tell(text: str) -> None:
        if listen is not None and text:
            await listen(FieldDelta(context.path, field, text, attempt))

    emit = None if listen is None or request.forces_a_tool else tell
    try:
        response = await ask_within(context.budget, model, request, emit=emit)
    except BaseException as error:
        span.end(error=error)
        raise
    text = payload(response) if context.records_payloads else None
    span.end(usage=response.usage.of_model(response.label), attributes=response.about(), outputs=text)
    return response


def enforce_checks(signature: Signature, outputs: Mapping[str, Any], note: Callable[[str], None]) -> None:
    """Refuse `outputs` that do not hold up to the checks of `signature`.

    What was only suggested is given to `note`, once everything else holds.

    Raises:
        CheckError: they do not hold up.
        DefinitionError: a check itself is at fault.
    """
    complaints = [
        (f"{name}: {complaint}", check.is_required)
        for name, check in signature.output_checks
        if (complaint := _complaint(name, check, outputs)) is not None
    ]
    if unmet := [complaint for complaint, is_required in complaints if is_required]:
        raise CheckError("; ".join(unmet))
    for complaint, _ in complaints:
        note(complaint)


def repair_request(request: Request, reply: str, *, error: AdapterError) -> Request:
    """Return the request for a better reply than `reply`."""
    lines = "\n".join(f"- {field.path}: {field.message}" for field in error.fields)
    return _retry_request(request, reply, f"Some values do not fit:\n{lines}")


def _retry_request(request: Request, reply: str, what: str) -> Request:
    return msgspec.structs.replace(request, messages=(*request.messages, *_turns(reply, what)))


def _turns(reply: str, what: str) -> tuple[Message, Message]:
    return Message("assistant", reply), Message("user", f"{what}\nAnswer again, whole and in the same layout.")


def _arguments(response: Response) -> str:
    return msgspec.json.encode(response.tool_calls[0].arguments).decode()
