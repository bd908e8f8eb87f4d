"""What agents do with tools: call them while a run goes on, and the loop for models that call natively."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import count
from typing import Any

from dspex.errors import BudgetError, CheckError, DefinitionError, InvalidError, ToolError
from dspex.execution.adapters.media import MediaGuard, first_media
from dspex.execution.clients import LanguageModel, Request, Response, ToolSpec
from dspex.execution.context import Run, RunContext, current, entered, payload
from dspex.execution.modules.asking import MOST_TRIES, NOT_HELD, complete, hold, note_suggestion
from dspex.execution.tools import ToolSet
from dspex.language.records import Message, Prediction, ToolCall, Usage
from dspex.language.signatures import Signature
from dspex.language.signatures.codec import plain
from dspex.telemetry import Partial, Status

FINISH = "finish"
THOUGHT, NAME, ARGUMENTS, COURSE = "next_thought", "next_tool_name", "next_tool_args", "trajectory"


class Caller:
    """Calls the tools of an agent inside one run of it, and watches what that run may use."""

    def __init__(self, tools: ToolSet, *, max_tokens: int | None, max_usd: float | None) -> None:
        """Take the tools and the limits; what was used before now does not count."""
        context = current()
        if context.run is None:
            raise DefinitionError("tools of an agent are called while it runs")
        self.tools = tools
        self._run: Run = context.run
        self._first = len(self._run.spans)
        self._max_tokens = max_tokens
        self._max_usd = max_usd
        self.steps: list[dict[str, Any]] = []

    def note(self, thought: str, tool: str, arguments: Mapping[str, Any], **about: Any) -> None:  # noqa: ANN401
        """Add a step to the trajectory: what was thought, the call, and what is known of its end."""
        nothing = {"observation": None, "ms": None, "error": None}
        self.steps.append({"thought": thought, "tool": tool, "arguments": plain(arguments), **nothing, **about})

    async def observe(self, name: str, arguments: Mapping[str, Any], *, thought: str) -> str:
        """Call a tool and return what the model reads of it; an error is an observation, too. It is a step."""
        context = current()
        span = self._run.begin("tool", name, parent_id=context.parent_id, path=context.path)
        failure: str | None = None
        if context.records_payloads:
            span.inputs = payload(arguments)
        try:
            await _tell(context, name, "begun")
            with entered(context.below(span)):
                found = await self.tools.run(name, arguments)
        except ToolError as error:
            ended, failure, text = span.end(error=error), error.message, f"error: {error.message}"
        except BaseException as error:
            span.end(error=error)
            raise
        else:
            text = found if isinstance(found, str) else _observation(found)
            ended = span.end(outputs=text if context.records_payloads else None)
        self.note(thought, name, arguments, observation=text, ms=ended.seconds * 1e3, error=failure)
        await _tell(context, name, "done")
        return text

    def check_limits(self) -> None:
        """Refuse another call once tokens or dollars are used up.

        Raises:
            BudgetError: they are.
        """
        tokens, usd = self._max_tokens, self._max_usd
        if tokens is None and usd is None:
            return
        spent = Usage()
        for span in self._run.spans[self._first :]:
            if span.kind == "model" and span.usage is not None:
                spent += span.usage
        if tokens is not None and spent.total_tokens >= tokens:
            raise BudgetError(f"the agent has used {spent.total_tokens} of {tokens} tokens", limit="tokens")
        if usd is not None and (spent.cost_usd is None or spent.cost_usd >= usd):
            raise BudgetError(f"the agent has spent {spent.cost_usd} of {usd:g} dollars", limit="usd")


def _observation(result: object) -> str:
    media = first_media(result, "the result")
    if media is None:
        return payload(result)
    return f"error: {media[0]} holds media ({media[1]}), which cannot be shown to you; use what the tool says in text"


async def _tell(context: RunContext, tool: str, state: str) -> None:
    if context.emit is not None:
        await context.emit(Status(context.path, tool, state))


class NativeLoop:
    """Turns of a model that calls tools natively; its answer is a call, too."""

    def __init__(
        self,
        signature: Signature,
        caller: Caller,
        *,
        model: LanguageModel,
        instructions: str,
        settings: Mapping[str, Any],
    ) -> None:
        """Take what is to be answered, and with what; `settings` are those of each request."""
        self._signature = signature
        self._settings = settings
        self._guard = MediaGuard(signature.fields.values())
        self._caller = caller
        self._model = model
        self._context = current()
        self._refused = 0
        finish = ToolSpec(FINISH, "Give the answer, once you know it.", signature.to_json_schema("generic"))
        self._specs = (*caller.tools.specs(), finish)
        self._system = Message(
            "system",
            f"{instructions.rstrip()}\n\nCall the tools that you are given; end by calling `{FINISH}` with the answer.",
        )

    async def work(
        self, values: Mapping[str, Any], *, turns: int, demos: Iterable[Mapping[str, Any]] = ()
    ) -> Mapping[str, Any]:
        """Return the outputs of the signature.

        Raises:
            BudgetError: there was no fitting answer within so many turns.
            CheckError: the answer does not hold up to the checks of the signature.
            MediaError: an input or a demonstration is no text, and has none; nothing was sent.
        """
        demos = list(demos)
        for shown in (values, *demos):
            self._guard.check(shown)
        messages = [
            self._system,
            *demo_messages(self._signature, demos),
            Message("user", _asked(self._signature, values)),
        ]
        for number, (prediction, message) in enumerate(self._context.objections, start=1):
            messages += self._objection(prediction, message, f"refused_{number}")
        for turn in range(1, turns + 2):
            self._caller.check_limits()
            response = await self._ask(messages, "auto" if turn <= turns else FINISH, turn)
            messages.append(Message("assistant", response.text, tool_calls=response.tool_calls))
            if not response.tool_calls:
                messages.append(Message("user", f"Call a tool, or `{FINISH}` with the answer."))
            for call in response.tool_calls:
                outputs, observation = await self._step(call, response.text)
                if outputs is not None:
                    await self._tell(outputs, turn)
                    return outputs
                messages.append(Message("tool", observation, tool_call_id=call.id))
        raise BudgetError(f"the agent gave no fitting answer within {turns} turns", limit="turns")

    def _objection(self, prediction: Prediction, message: str, call_id: str) -> tuple[Message, Message]:
        """Return an earlier answer, which `Assert` refused, as the call that it was, and what was wrong with it."""
        call = ToolCall(call_id, FINISH, _answer(self._signature, prediction))
        text = f"error: {NOT_HELD}{message}\nAnswer again, whole."
        return Message("assistant", "", tool_calls=(call,)), Message("tool", text, tool_call_id=call_id)

    async def _ask(self, messages: list[Message], choice: str, turn: int) -> Response:
        settings = {"seed": self._context.seed, **self._settings}
        if "seed" not in self._model.capabilities:
            settings.pop("seed")
        request = Request(messages=tuple(messages), tools=self._specs, tool_choice=choice, **settings)
        return await complete(current(), self._model, request, field=THOUGHT, attempt=turn)

    async def _step(self, call: ToolCall, thought: str) -> tuple[Mapping[str, Any] | None, str]:
        """Return the outputs, where this is the answer and it is good; else None and what the model reads."""
        if call.name != FINISH:
            return None, await self._caller.observe(call.name, call.arguments, thought=thought)
        try:
            outputs = self._signature.validate_outputs(_named(self._signature, call.arguments))
            hold(self._signature, outputs, self._note)
        except InvalidError as error:
            return None, self._refusal(call, thought, error.message)
        except CheckError as error:
            if self._refused == MOST_TRIES:
                raise
            self._refused += 1
            return None, self._refusal(call, thought, f"that does not hold up: {error.message}")
        self._caller.note(thought, FINISH, call.arguments)
        return outputs, ""

    def _refusal(self, call: ToolCall, thought: str, reason: str) -> str:
        self._caller.note(thought, FINISH, call.arguments, observation=f"error: {reason}", error=reason)
        return f"error: {reason}"

    def _note(self, said: str) -> None:
        context = self._context
        trace_id = None if context.run is None else context.run.trace_id
        note_suggestion(context, said, path=context.path, trace_id=trace_id)

    async def _tell(self, outputs: Mapping[str, Any], turn: int) -> None:
        if self._context.emit is not None:
            await self._context.emit(Partial(self._context.path, dict(outputs), turn))


def demo_messages(signature: Signature, demos: Iterable[Mapping[str, Any]]) -> Iterator[Message]:
    """Yield demonstrations as turns: those of steps with the call that was made, those of answers with the answer.

    One without any input, or with neither a call nor a whole answer, would show nothing and is left out.
    """
    number = count(1)
    for demo in demos:
        if not any(demo.get(name) is not None for name in signature.input_fields):
            continue
        if demo.get(NAME) and demo[NAME] != FINISH:
            call = ToolCall(f"example_{next(number)}", demo[NAME], plain(demo.get(ARGUMENTS) or {}))
            said, result = demo.get(THOUGHT) or "", "(an example: what it returned is left out)"
        elif all(
            demo.get(name) is not None or not field.is_required for name, field in signature.output_fields.items()
        ):
            call = ToolCall(f"example_{next(number)}", FINISH, _answer(signature, demo))
            said, result = demo.get("reasoning") or "", "(an example: accepted)"
        else:
            continue
        yield Message("user", _asked(signature, demo))
        yield Message("assistant", _plain(said), tool_calls=(call,))
        yield Message("tool", result, tool_call_id=call.id)


def _answer(signature: Signature, demo: Mapping[str, Any]) -> dict[str, Any]:
    fields = signature.output_fields
    return {field.wire_name: plain(demo[name]) for name, field in fields.items() if name in demo}


def _asked(signature: Signature, values: Mapping[str, Any]) -> str:
    given = [(field.wire_name, values.get(name)) for name, field in signature.input_fields.items()]
    lines = [f"{name}: {_plain(value)}" for name, value in given if value is not None]
    if values.get(COURSE):
        lines.append(f"{COURSE}: {_plain(values[COURSE])}")
    return "\n\n".join(lines)


def _named(signature: Signature, arguments: Mapping[str, Any]) -> dict[str, Any]:
    names = {field.wire_name: field.name for field in signature.output_fields.values()}
    return {names.get(name, name): value for name, value in arguments.items()}


def _plain(value: object) -> str:
    return value if isinstance(value, str) else payload(value)
