"""Tool calls of agents, and the agent loop for models with native tool calling."""

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any

import msgspec

from dspex.error_text import quantity
from dspex.errors import (
    BudgetError,
    CheckError,
    ContextTooLongError,
    DefinitionError,
    InputError,
    ToolError,
)
from dspex.execution.adapters.media import MediaGuard, instances_in
from dspex.execution.adapters.turns import field_content, history_turns, is_history
from dspex.execution.clients import Budget, LanguageModel, Request, Response, ToolSpec
from dspex.execution.context import RunContext, current, use_context
from dspex.execution.frame import payload
from dspex.execution.modules.attempts import all_at_once
from dspex.execution.modules.model_call import (
    CHECK_FAILED,
    MAX_RETRIES,
    advised,
    complete,
    enforce_checks,
    note_suggestion,
)
from dspex.execution.modules.tool_approval import run_tool
from dspex.execution.tools import ToolSet
from dspex.language.records import Message, Prediction, ToolCall
from dspex.language.records.message import Content, join_content
from dspex.language.signatures import Signature
from dspex.language.signatures.codec import plain
from dspex.telemetry import Partial, Status

FINISH = "finish"
LEFT_OUT = "(left out, because the conversation became too long)"
THOUGHT, TOOL_NAME, TOOL_ARGUMENTS, TRAJECTORY = (
    "next_thought",
    "next_tool_name",
    "next_tool_args",
    "trajectory",
)


class ToolCaller:
    """Calls the tools of an agent during one run, and enforces the limits of that run."""

    def __init__(self, tools: ToolSet, *, max_tokens: int | None, max_usd: float | None) -> None:
        """Take the tools and the limits; only usage from now on counts."""
        recorder = current().frame.recorder
        if recorder is None:
            raise DefinitionError("the tools of an agent can be called only while it runs")
        self.tools = tools
        self._recorder = recorder
        self._booked = len(recorder.spans)
        self._budget = Budget(tokens=max_tokens, usd=max_usd)
        self.steps: list[dict[str, Any]] = []

    def add_step(
        self,
        thought: str,
        tool: str,
        arguments: Mapping[str, Any],
        **outcome: Any,
    ) -> dict[str, Any]:
        """Add a step to the trajectory, and return it: the thought, the call, and its outcome."""
        step = {
            "thought": thought,
            "tool": tool,
            "arguments": plain(arguments),
            "observation": None,
            "ms": None,
            "error": None,
            **outcome,
        }
        self.steps.append(step)
        return step

    async def call(self, name: str, arguments: Mapping[str, Any], *, thought: str) -> str:
        """Call a tool, add the step, and return the observation, which may be an error."""
        context = current()
        step = self.add_step(thought, name, arguments)
        span = context.begin("tool", name)
        error_text: str | None = None
        if context.records_payloads:
            span.inputs = payload(arguments)
        try:
            await _emit_status(context, name, "begun")
            with use_context(context.below(span)):
                result = await run_tool(self.tools, name, arguments)
        except ToolError as error:
            finished_span, error_text, text = (
                span.end(error=error),
                error.message,
                f"error: {error.message}",
            )
        except BaseException as error:
            span.end(error=error)
            raise
        else:
            text = result if isinstance(result, str) else _observation(result)
            finished_span = span.end(outputs=text if context.records_payloads else None)
        step |= {"observation": text, "ms": finished_span.seconds * 1e3, "error": error_text}
        if context.frame.team is not None:
            context.frame.team.end_tool(name, arguments, text)
        await _emit_status(context, name, "done")
        return text

    def check_limits(self) -> None:
        """Raise if the tokens or dollars of this run are used up, or the team around it has ended.

        Raises:
            BudgetError: a limit is reached.
            RepetitionError: members or tools were called again and again, and nothing changed.
        """
        if (team := current().frame.team) is not None:
            team.check()
        for span in self._recorder.spans[self._booked :]:
            if span.kind == "model":
                self._budget.book(span.usage)
        self._booked = len(self._recorder.spans)
        self._budget.check("the agent")


def _observation(result: object) -> str:
    media = next(instances_in(result, "the result"), None)
    if media is None:
        return payload(result)
    return (
        f"error: {media.path} holds media ({media.kind}), which cannot be shown to you; use what "
        "the tool says in text"
    )


async def _emit_status(context: RunContext, tool: str, state: str) -> None:
    if context.frame.emit is not None:
        await context.frame.emit(Status(context.frame.path, tool, state))


class NativeLoop:
    """The agent loop of a model that calls tools natively; its final answer is a call, too."""

    def __init__(
        self,
        signature: Signature,
        caller: ToolCaller,
        *,
        model: LanguageModel,
        instructions: str,
        settings: Mapping[str, Any],
        path: str,
    ) -> None:
        """Take the signature and the tools.

        `settings` apply to each request; `path` is that of the predictor whose prompt this is.
        """
        self._signature = signature
        self._settings = settings
        self._path = path
        self._media_guard = MediaGuard(signature.output_fields.values())
        self._caller = caller
        self._model = model
        self._context = current()
        self._rejections = self._answers = 0
        finish = ToolSpec(
            FINISH, "Give the answer, once you know it.", signature.to_json_schema("generic")
        )
        self._specs = (*caller.tools.specs(), finish)
        self._system = Message(
            "system",
            f"{instructions.rstrip()}\n\nCall the tools that you are given; end by calling "
            f"`{FINISH}` with the answer.",
        )

    async def run(
        self, values: Mapping[str, Any], *, turns: int, demos: Iterable[Mapping[str, Any]] = ()
    ) -> Mapping[str, Any]:
        """Run the loop and return the outputs of the signature.

        Raises:
            BudgetError: no valid answer within `turns` turns.
            CheckError: the answer fails the checks of the signature.
            MediaError: the model does not take the media in an input, or an output of a
                demonstration has some; nothing was sent.
        """
        demos, advice = list(demos), self._context.frame.advice
        for demo in demos:
            self._media_guard.check(demo)
        *conversation, question = _input_messages(self._signature, values)
        messages = [
            self._system,
            *demo_messages(self._signature, demos),
            *conversation,
            Message("user", advised(question.content, advice, self._path)),
        ]
        for number, (prediction, message) in enumerate(self._context.frame.objections, start=1):
            messages += self._objection(prediction, message, f"refused_{number}")
        for turn in range(1, turns + 2):
            self._caller.check_limits()
            response = await self._complete(messages, "auto" if turn <= turns else FINISH, turn)
            messages.append(Message("assistant", response.text, tool_calls=response.tool_calls))
            if not response.tool_calls:
                messages.append(Message("user", f"Call a tool, or `{FINISH}` with the answer."))
            async for call, outputs, observation in self._results(response):
                if outputs is not None:
                    await self._emit_outputs(outputs, turn)
                    return outputs
                messages.append(Message("tool", observation, tool_call_id=call.id))
        raise BudgetError(
            f"the agent gave no valid answer within {quantity(turns, 'turn')}", limit="turns"
        )

    async def _results(
        self, response: Response
    ) -> AsyncIterator[tuple[ToolCall, Mapping[str, Any] | None, str]]:
        """Yield each call of a turn with the outputs, if it is a valid answer, or the observation.

        Calls of tools run at once. Of several different answers in one turn, none is taken.
        """
        self._answers = len({payload(c.arguments) for c in response.tool_calls if c.name == FINISH})
        for calls in _batches(response.tool_calls):
            results = await all_at_once([self._handle_call(call, response.text) for call in calls])
            for call, (outputs, observation) in zip(calls, results, strict=True):
                yield call, outputs, observation

    def _objection(
        self, prediction: Prediction, message: str, call_id: str
    ) -> tuple[Message, Message]:
        """Return an answer that `Assert` refused as a tool call, with the reason as its result."""
        call = ToolCall(call_id, FINISH, _output_values(self._signature, prediction))
        text = f"error: {CHECK_FAILED}{message}\nAnswer again, whole."
        return Message("assistant", "", tool_calls=(call,)), Message(
            "tool", text, tool_call_id=call_id
        )

    async def _complete(self, messages: list[Message], choice: str, turn: int) -> Response:
        settings = {"seed": self._context.seed, **self._settings}
        if "seed" not in self._model.capabilities:
            settings.pop("seed")
        while True:
            request = Request(
                messages=tuple(messages), tools=self._specs, tool_choice=choice, **settings
            )
            try:
                return await complete(current(), self._model, request, field=THOUGHT, attempt=turn)
            except ContextTooLongError:
                if not _compact(messages):
                    raise

    async def _handle_call(
        self, call: ToolCall, thought: str
    ) -> tuple[Mapping[str, Any] | None, str]:
        """Return the outputs if this call is a valid answer; else None and the observation."""
        if call.name != FINISH:
            return None, await self._caller.call(call.name, call.arguments, thought=thought)
        if self._answers > 1:
            return None, self._reject(call, thought, f"call `{FINISH}` once, with one answer")
        try:
            outputs = self._signature.validate_outputs(
                _by_field_name(self._signature, call.arguments)
            )
            enforce_checks(self._signature, outputs, self._note)
        except InputError as error:
            return None, self._reject(call, thought, error.message)
        except CheckError as error:
            if self._rejections == MAX_RETRIES:
                raise
            self._rejections += 1
            return None, self._reject(call, thought, f"that does not hold up: {error.message}")
        self._caller.add_step(thought, FINISH, call.arguments)
        return outputs, ""

    def _reject(self, call: ToolCall, thought: str, reason: str) -> str:
        self._caller.add_step(
            thought, FINISH, call.arguments, observation=f"error: {reason}", error=reason
        )
        return f"error: {reason}"

    def _note(self, message: str) -> None:
        note_suggestion(self._context, message, path=self._context.frame.path)

    async def _emit_outputs(self, outputs: Mapping[str, Any], turn: int) -> None:
        frame = self._context.frame
        if frame.emit is not None:
            await frame.emit(Partial(frame.path, dict(outputs), turn))


def _batches(calls: Sequence[ToolCall]) -> Iterator[list[ToolCall]]:
    """Yield the calls of one turn that run at once; an answer is on its own."""
    batch: list[ToolCall] = []
    for call in calls:
        if call.name != FINISH:
            batch.append(call)
            continue
        yield from [batch] if batch else []
        yield [call]
        batch = []
    yield from [batch] if batch else []


def _compact(messages: list[Message]) -> bool:
    """Leave out the older half of the tools' results; return False if there is none left."""
    places = [
        place
        for place, message in enumerate(messages)
        if message.role == "tool" and len(message.content) > len(LEFT_OUT)
    ]
    for place in places[: (len(places) + 1) // 2]:
        messages[place] = msgspec.structs.replace(messages[place], content=LEFT_OUT)
    return bool(places)


def demo_messages(signature: Signature, demos: Iterable[Mapping[str, Any]]) -> Iterator[Message]:
    """Yield demonstrations as turns: a step with its tool call, an answer with its `finish` call.

    Demonstrations without inputs, or with neither a call nor a complete answer, are skipped.
    """
    number = count(1)
    for demo in demos:
        if not any(demo.get(name) is not None for name in signature.input_fields):
            continue
        if demo.get(TOOL_NAME) and demo[TOOL_NAME] != FINISH:
            call = ToolCall(
                f"example_{next(number)}", demo[TOOL_NAME], plain(demo.get(TOOL_ARGUMENTS) or {})
            )
            thought, result = demo.get(THOUGHT) or "", "(an example: what it returned is left out)"
        elif all(
            demo.get(name) is not None or not field.is_required
            for name, field in signature.output_fields.items()
        ):
            call = ToolCall(f"example_{next(number)}", FINISH, _output_values(signature, demo))
            thought, result = demo.get("reasoning") or "", "(an example: accepted)"
        else:
            continue
        yield from _input_messages(signature, demo)
        yield Message("assistant", _text(thought), tool_calls=(call,))
        yield Message("tool", result, tool_call_id=call.id)


def _output_values(signature: Signature, demo: Mapping[str, Any]) -> dict[str, Any]:
    fields = signature.output_fields
    return {field.wire_name: plain(demo[name]) for name, field in fields.items() if name in demo}


def _input_messages(signature: Signature, values: Mapping[str, Any]) -> Iterator[Message]:
    """Yield the turns of earlier conversations, and the turn with the inputs."""

    def write_inputs(values: Mapping[str, Any], /, *, skips_absent: bool = False) -> Content:
        return _input_content(signature, values)

    def write_outputs(values: Mapping[str, Any], /, *, skips_absent: bool = False) -> Content:
        return payload(values)

    yield from history_turns(
        signature, values, render_inputs=write_inputs, render_outputs=write_outputs
    )
    yield Message("user", _input_content(signature, values))


def _input_content(signature: Signature, values: Mapping[str, Any]) -> Content:
    pieces: list[Content] = []
    for name, field in signature.input_fields.items():
        if values.get(name) is not None and not is_history(field):
            content = field_content(field, values[name], write=_text)
            pieces += ["\n\n" if pieces else "", f"{field.wire_name}: ", content]
    if values.get(TRAJECTORY):
        text = f"{TRAJECTORY}: {_text(values[TRAJECTORY])}"
        pieces += ["\n\n" if pieces else "", text]
    return join_content(*pieces)


def _by_field_name(signature: Signature, arguments: Mapping[str, Any]) -> dict[str, Any]:
    names = {field.wire_name: field.name for field in signature.output_fields.values()}
    return {names.get(name, name): value for name, value in arguments.items()}


def _text(value: object) -> str:
    return value if isinstance(value, str) else payload(value)
