"""The calls of one predictor to its model: the first call, repairs and retries."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from dspex.error_text import FieldError
from dspex.errors import (
    AdapterError,
    CheckError,
    DefinitionError,
    InputError,
    MediaError,
    boundary,
)
from dspex.execution.adapters import Adapter, ReplyEvents, StreamingAdapter
from dspex.execution.adapters.media import instances_in
from dspex.execution.adapters.registry import ADAPTERS
from dspex.execution.adapters.turns import unreadable_reply, validate_outputs
from dspex.execution.clients import LanguageModel, Request, Response
from dspex.execution.clients.budgeted import ask_within
from dspex.execution.clients.modalities import check_media
from dspex.execution.context import RunContext
from dspex.execution.frame import EmitEvent, Frame, OpenSpan, payload
from dspex.execution.modules.citations import CitedCall
from dspex.language.records import AdapterFallback, Message, Prediction
from dspex.language.records.message import Content, join_content, without_bytes
from dspex.language.signatures import FieldCheck, Signature
from dspex.telemetry import Event, FieldDelta, Status

MAX_RETRIES = 2  # how often a predictor is called again for one failed condition
CHECK_FAILED = "That does not hold up: "


class ModelCall(msgspec.Struct, gc=False):  # one per call in flight, never part of a cycle
    """The state of one call of a predictor, repairs and retries included."""

    context: RunContext
    span: OpenSpan
    model: LanguageModel
    adapter: Adapter
    fallback: AdapterFallback | None = None
    unfit: tuple[FieldError, ...] = ()  # in the reply before the fallback
    repairs: int = 0
    refusals: int = 0
    attempt: int = 0
    cited: CitedCall | None = None
    unmet: tuple[str, ...] = ()  # suggestions
    signature: Signature | None = None
    inputs: Mapping[str, Any] = {}
    demos: Sequence[Mapping[str, Any]] = ()  # that the prompt shows

    async def start(self, request: Request, signature: Signature) -> Request:
        """Emit the status event, and return the request with what earlier attempts have taught."""
        self.signature = signature
        frame = self.context.frame
        if frame.emit is not None:
            await frame.emit(Status(self.span.path, "Predict", "begun"))
        if frame.advice:
            request = with_advice(request, frame.advice, self.span.path)
        return self.with_objections(request)

    async def send(self, request: Request) -> str:
        """Send one request; return the text of the reply, or its tool arguments as JSON."""
        context, model, outer = self.context, self.model, self.span
        span = outer.run.begin("model", model.name, parent_id=outer.id, path=outer.path)
        if context.records_payloads:
            span.inputs = payload(without_bytes(request.messages))
        try:
            self._check_media(request)
            if context.frame.emit is None and context.budget is None and context.deadline is None:
                response = await model.complete(request)
            else:
                response = await self._send_with_limits(request)
        except BaseException as error:
            span.end(error=error)
            raise
        text = response.text if not response.tool_calls else _arguments(response)
        span.end(
            usage=response.usage.of_model(response.label),
            attributes=response.span_attributes(),
            outputs=payload(text) if context.records_payloads else None,
        )
        return text

    def _check_media(self, request: Request) -> None:
        """Raise unless the model takes all parts of the request; name the input that it does not.

        Raises:
            MediaError: it does not.
        """
        try:
            check_media(self.model, request.messages)
        except MediaError as error:
            media = next(instances_in(self.inputs, ""), None)
            path = "a demonstration" if media is None else media.path.lstrip(".")
            raise MediaError(
                f"{path}: {error.message}", **{**error.context, "path": path}
            ) from None

    async def _send_with_limits(self, request: Request) -> Response:
        self.context.check()
        self.attempt += 1
        events, listener = None, self.context.frame.emit
        if listener is not None:
            if self.attempt > 1:
                await listener(Status(self.span.path, "Predict", "again"))
            events = self._reply_events(listener)
        emit = None if events is None else events.take
        response = await ask_within(self.context.budget, self.model, request, emit=emit)
        if events is not None:
            await events.end()
        return response

    def _reply_events(self, emit: EmitEvent) -> ReplyEvents | None:
        if self.signature is None or not isinstance(self.adapter, StreamingAdapter):
            return None
        return ReplyEvents(
            emit, self.adapter.splitter(self.signature), path=self.span.path, attempt=self.attempt
        )

    def parse(self, signature: Signature, reply: str) -> dict[str, Any]:
        """Return the outputs in a reply.

        Raises:
            AdapterError: the reply does not have them, or they do not fit.
        """
        shape = signature if self.cited is None else self.cited.signature
        try:
            outputs = self.adapter.parse(shape, reply)
        except InputError as error:  # of a custom adapter that calls a validator itself
            raise unreadable_reply(shape, reply, {}, because=error) from error
        if outputs.keys() != shape.output_fields.keys() and not ADAPTERS.is_builtin(self.adapter):
            outputs = validate_outputs(shape, reply, outputs)
        return outputs if self.cited is None else self.cited.resolve(outputs, reply)

    def report_fallback(self, reason: str) -> None:
        """Report to the observer that another call follows, and why."""
        self.context.say(Event(name="fallback", message=reason, trace_id=self.span.run.trace_id))

    def with_objections(self, request: Request) -> Request:
        """Return the request with the earlier answers that `Assert` refused, and the reasons."""
        if not self.context.frame.objections:
            return request
        turns = [
            turn
            for prediction, message in self.context.frame.objections
            for turn in _turns(self._as_reply(prediction), f"{CHECK_FAILED}{message}")
        ]
        return msgspec.structs.replace(request, messages=(*request.messages, *turns))

    def _as_reply(self, prediction: Prediction) -> str:
        """Return an earlier answer in the layout of this adapter, as in a demonstration."""
        if self.signature is not None and self.signature.output_fields.keys() <= prediction.keys():
            demo = {**self.inputs, **prediction}
            messages = self.adapter.render(self.signature, [demo], {}).messages
            if answers := [message.text for message in messages if message.role == "assistant"]:
                return answers[-1]
        return payload(prediction.to_dict())

    def note(self, message: str) -> None:
        """Record a suggestion that the outputs do not meet, and report it to the observer."""
        self.unmet = (*self.unmet, message)
        note_suggestion(self.context, message, path=self.span.path)

    def retry_after_check(self, request: Request, reply: str, *, error: CheckError) -> Request:
        """Return the next request after a failed check; raise `error` after `MAX_RETRIES`."""
        if self.refusals == MAX_RETRIES:
            raise error
        self.refusals += 1
        return _retry_request(request, reply, f"{CHECK_FAILED}{error.message}")

    def attributes(self) -> dict[str, object]:
        """Return the attributes of the module's span: fallback, repairs and retries."""
        attributes: dict[str, object] = {}
        if self.fallback is not None:
            attributes["fallback"] = self.fallback.reason
        if self.repairs:
            attributes["repairs"] = self.repairs
        if self.refusals:
            attributes["asserted_again"] = self.refusals
        if self.unmet:
            attributes["suggestions"] = list(self.unmet)
        return attributes


def advised(content: Content, advice: Mapping[str, str], path: str) -> Content:
    """Return a turn of the user, followed by the advice for the predictor at `path`, if any."""
    return join_content(content, *(f"\n\n{advice[key]}" for key in ("", path) if advice.get(key)))


def with_advice(request: Request, advice: Mapping[str, str], path: str) -> Request:
    """Return a request whose last turn ends with the advice for the predictor at `path`, if any."""
    *messages, last = request.messages
    last = msgspec.structs.replace(last, content=advised(last.content, advice, path))
    return msgspec.structs.replace(request, messages=(*messages, last))


def note_suggestion(context: RunContext, message: str, *, path: str) -> None:
    """Report to the observer that a suggestion was not met."""
    recorder = context.frame.recorder
    context.say(
        Event(
            name="log",
            message=f"suggestion not met: {message}",
            trace_id=None if recorder is None else recorder.trace_id,
            attributes={"path": path},
        )
    )


def _complaint(name: str, check: FieldCheck, outputs: Mapping[str, Any]) -> str | None:
    with boundary(DefinitionError, f"the check {check.name!r} of {name!r} raised an error"):
        return check.complaint(outputs[name])


async def complete(
    context: RunContext, model: LanguageModel, request: Request, *, field: str, attempt: int
) -> Response:
    """Send one request outside of a predictor, with the same limits and the same span.

    Listeners receive the chunks of the reply as deltas of `field`.
    """
    context.check()
    frame, listen = context.frame, context.frame.emit
    if frame.recorder is None:
        raise DefinitionError("a model can be called only while a module runs")
    span = context.begin("model", model.name)
    if context.records_payloads:
        span.inputs = payload(without_bytes(request.messages))

    async def tell(text: str) -> None:
        if listen is not None and text:
            await listen(FieldDelta(frame.path, field, text, attempt))

    emit = None if listen is None or request.forces_a_tool else tell
    try:
        check_media(model, request.messages)
        response = await ask_within(context.budget, model, request, emit=emit)
    except BaseException as error:
        span.end(error=error)
        raise
    text = payload(response) if context.records_payloads else None
    span.end(
        usage=response.usage.of_model(response.label),
        attributes=response.span_attributes(),
        outputs=text,
    )
    return response


def enforce_checks(
    signature: Signature, outputs: Mapping[str, Any], note: Callable[[str], None]
) -> None:
    """Run the checks of `signature` on `outputs`.

    Unmet suggestions go to `note` if all required checks pass.

    Raises:
        CheckError: a required check fails.
        DefinitionError: a check raises an error.
    """
    if not signature.output_checks:
        return
    complaints = [
        (f"{name}: {complaint}", check.is_required)
        for name, check in signature.output_checks
        if (complaint := _complaint(name, check, outputs)) is not None
    ]
    if unmet := [complaint for complaint, is_required in complaints if is_required]:
        raise CheckError("; ".join(unmet))
    for complaint, _ in complaints:
        note(complaint)


def after_fallback(
    error: AdapterError, fallback: AdapterFallback, unfit: tuple[FieldError, ...]
) -> AdapterError:
    """Return the error of the last reply, after what did not fit in the first layout."""
    combined = error.with_message(
        f"{fallback.reason}\nAsked again in the layout {fallback.target!r}: {error.message}"
    )
    combined.fields = error.fields or unfit
    return combined


def repair_request(request: Request, reply: str, *, error: AdapterError) -> Request:
    """Return the request that shows the errors in `reply` and asks for a correction."""
    lines = "\n".join(f"- {field.path}: {field.message}" for field in error.fields)
    return _retry_request(request, reply, f"Some values do not fit:\n{lines}")


def _retry_request(request: Request, reply: str, what: str) -> Request:
    return msgspec.structs.replace(request, messages=(*request.messages, *_turns(reply, what)))


def _turns(reply: str, what: str) -> tuple[Message, Message]:
    return Message("assistant", reply), Message(
        "user", f"{what}\nAnswer again, whole and in the same layout."
    )


def _arguments(response: Response) -> str:
    return msgspec.json.encode(response.tool_calls[0].arguments).decode()


async def report_outputs(
    frame: Frame, path: str, *, inputs: Mapping[str, object], outputs: Mapping[str, object]
) -> None:
    """Report a finished call to the callback of the run and to its listeners."""
    if frame.on_call is not None:
        frame.on_call(path, inputs, outputs)
    if frame.emit is not None:
        await frame.emit(Status(path, "Predict", "done"))
