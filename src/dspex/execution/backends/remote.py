"""What a program in a worker asks of this process while it runs: answers of models, tools and metrics."""

import inspect
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from dspex.clock import SystemClock
from dspex.errors import ConfigurationError, DefinitionError, InvalidError, ToolError, boundary
from dspex.execution.backends.telling import Telling
from dspex.execution.clients import Capability, LanguageModel, Request, Response
from dspex.execution.clients.budgeted import ask_within
from dspex.execution.context import THREE_WAYS, OpenSpan, RunContext, payload
from dspex.language.records import Message, Span, SpanKind
from dspex.sync import in_thread
from dspex.telemetry import Event

Tools = Mapping[str, Callable[..., Any]]
_CLOCK = SystemClock()
Score = float | Mapping[str, Any]
Metric = Callable[[Mapping[str, Any], Mapping[str, Any]], Score | Awaitable[Score]]


async def scored(metric: Metric, row: Mapping[str, Any], found: Mapping[str, Any]) -> float | dict[str, Any]:
    """Return what a metric, async or not, says of one row.

    That is a score, or `{"score": ..., "feedback": "why"}` for optimizers that read it.

    Raises:
        DefinitionError: it failed, or said what is no score.
    """
    with boundary(DefinitionError, "the metric failed"):
        said = metric(row, found)
        verdict = await said if inspect.isawaitable(said) else said
        score = float(verdict["score"] if isinstance(verdict, Mapping) else verdict)
        if not math.isfinite(score):
            raise DefinitionError(f"the metric returned {score!r}, which is no score; return a finite number")
    if not isinstance(verdict, Mapping):
        return score
    feedback = verdict.get("feedback")
    return {"score": score, **({} if feedback is None else {"feedback": str(feedback)})}


def not_finite(value: Any, path: str = "") -> str | None:  # noqa: ANN401  # any JSON value
    """Return where `value` holds nan or an infinity, and which; None where a wire of JSON carries all of it."""
    if isinstance(value, float):
        return None if math.isfinite(value) else f"{path}: {value!r}"
    if isinstance(value, Mapping):
        return next((said for key, part in value.items() if (said := not_finite(part, f"{path}.{key}"))), None)
    if isinstance(value, list):
        return next((said for n, part in enumerate(value) if (said := not_finite(part, f"{path}[{n}]"))), None)
    return None


def sendable(inputs: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return inputs that can go to a worker.

    Raises:
        InvalidError: one holds nan or an infinity, which would arrive as nothing.
    """
    if said := not_finite(inputs):
        raise InvalidError(f"an input is no finite number ({said.lstrip('.')}): a worker is sent JSON, which has none")
    return inputs


class NoModel:
    """Stands where no model is set: only a program that asks one fails."""

    name = "none"
    capabilities: frozenset[Capability] = frozenset()

    async def complete(self, request: Request) -> Response:
        """Say how to set a model."""
        raise ConfigurationError(THREE_WAYS)

    async def aclose(self) -> None:
        """Do nothing."""


def model_of(context: RunContext, own: str | None) -> LanguageModel:
    """Return the model of a run in a worker; that there is none is said when it is asked."""
    return NoModel() if own is None and context.model is None else context.model_for(own)


def about(model: LanguageModel) -> dict[str, Any]:
    """Return what a worker may know of a model: its name and abilities."""
    return {"name": model.name, "capabilities": sorted(model.capabilities)}


@dataclass(slots=True, kw_only=True)
class Answerer:
    """Answers the callbacks of one run, under that run's context: its model, its trace, its budget, its listener.

    Nothing of a model but its name and abilities is known in the worker; keys stay here. `reply` is the model's last.
    """

    context: RunContext
    span: OpenSpan
    model: LanguageModel
    tools: Tools = field(default_factory=dict)
    metric: Metric | None = None
    on_progress: Callable[[str, Any], None] = lambda _event, _data: None
    telling: Telling | None = None
    reply: str = ""
    _inside: dict[int, int] = field(default_factory=dict)

    async def on_callback(self, command: str, args: Any) -> Any:  # noqa: ANN401  # any JSON value
        """Answer one callback."""
        if self.telling is not None:
            await self.telling.flush()
        match command:
            case "lm":
                model = self.model if args.get("own") is None else self.context.model_for(args["own"])
                return await self._ask(_chat_request(args, self.context, model), model, args)
            case "complete":
                model = self.model if args["model"] is None else self.context.model_for(args["model"])
                response = await self._complete(msgspec.convert(args["request"], Request), model, args)
                return msgspec.to_builtins(msgspec.structs.replace(response, identity=None))
            case "model":
                return about(self.context.model_for(args["name"]))
            case "tool":
                return await self._use(args["name"], args["arguments"])
            case "metric" if self.metric is not None:
                return await scored(self.metric, args["example"], args["prediction"])
        raise DefinitionError(f"a program in a worker asked for {command!r}, which this run does not offer")

    def on_event(self, event: str, data: Any) -> None:  # noqa: ANN401
        """Take the spans of a run, and what its predictors did; pass any other event on to caller and observer."""
        if event == "spans":
            self._take_spans(data)
            return
        if event == "calls":
            self._take_calls(data)
            return
        shown = data if isinstance(data, dict) else {"data": data}
        if event == "stream" and self.telling is not None:
            self.telling.heard(self.place(str(shown.get("path", ""))), shown)
        self.on_progress(event, data)
        self.context.say(
            Event(name="progress", message=event, trace_id=self.span.run.trace_id, attributes={"event": event, **shown})
        )

    def _take_spans(self, data: Any) -> None:  # noqa: ANN401
        try:
            told = msgspec.convert(data, list[_Told])
        except msgspec.ValidationError as error:
            self.context.say(Event(name="log", message=f"the worker sent spans that are none: {error}"))
            return
        run = self.span.run
        behind = run.clock.monotonic_ns() - _CLOCK.monotonic_ns()  # a clock of the caller's own may show another time
        for one in told:
            span = one.span(self, trace_id=run.trace_id, behind=behind)
            run.spans.append(span)
            run.observer.on_span(span)

    def _take_calls(self, data: Any) -> None:  # noqa: ANN401
        if self.context.note is None:
            return
        for path, inputs, outputs in data:
            self.context.note(self.place(path), inputs, outputs)

    def number(self, inner: int | None) -> int:
        """Return the number in this trace of a span that the worker knows by a number of its own."""
        if inner is None:
            return self.span.id
        if inner not in self._inside:
            self._inside[inner] = self.span.run.begin("module", "", parent_id=None, path="").id
        return self._inside[inner]

    def place(self, inner: str) -> str:
        """Return the path in the whole program of a module that the worker knows by its path in this part of it."""
        outer = self.span.path
        if inner in {"", "self"}:
            return outer
        return inner if outer in {"", "self"} else f"{outer}.{inner}"

    async def _ask(self, request: Request, model: LanguageModel, args: Mapping[str, Any]) -> dict[str, Any]:
        response = await self._complete(request, model, args)
        usage, self.reply = response.usage, response.text
        return {
            "text": response.text,
            "model": response.model,
            "finish_reason": response.finish_reason,
            "usage": {
                "prompt_tokens": usage.input_tokens,
                "completion_tokens": usage.output_tokens,
                "total_tokens": usage.total_tokens,
            },
        }

    async def _complete(self, request: Request, model: LanguageModel, args: Mapping[str, Any]) -> Response:
        parent, path = self.number(args.get("span")), self.place(args.get("path", ""))
        span = self.span.run.begin("model", model.name, parent_id=parent, path=path)
        if self.context.records_payloads:
            span.inputs = payload(request.messages)
        try:
            self.context.check()
            if self.telling is None and self.context.budget is None:
                response = await model.complete(request)
            else:
                response = await self._carefully(request, model, args)
        except BaseException as error:
            span.end(error=error)
            raise
        span.end(
            usage=response.usage.of_model(response.label),
            attributes=response.span_attributes(),
            outputs=payload(response.text) if self.context.records_payloads else None,
        )
        return response

    async def _carefully(self, request: Request, model: LanguageModel, args: Mapping[str, Any]) -> Response:
        told = None
        if self.telling is not None and (fields := args.get("fields")):
            told = await self.telling.reply(self.place(args["path"]), module=args["span"], fields=fields)
        emit = None if told is None else told.take
        response = await ask_within(self.context.budget, model, request, emit=emit)
        if told is not None:
            await told.end()
        return response

    async def _use(self, name: str, arguments: Mapping[str, Any]) -> Any:  # noqa: ANN401
        tool = self.tools.get(name)
        if tool is None:
            raise ToolError(f"there is no tool {name!r} in this process; tools are: {', '.join(self.tools) or 'none'}")
        span = self.span.run.begin("tool", name, parent_id=self.span.id, path=self.span.path)
        try:
            with boundary(ToolError, f"tool {name!r} failed"):
                if inspect.iscoroutinefunction(tool):
                    answer = await tool(**arguments)
                else:
                    answer = await in_thread(tool, **arguments)
        except BaseException as error:
            span.end(error=error)
            raise
        span.end()
        return answer


class _Told(msgspec.Struct, frozen=True, array_like=True):
    """A finished span as a worker tells it; its numbers are the worker's own."""

    number: int
    parent: int | None
    kind: SpanKind
    name: str
    path: str
    start_ns: int
    end_ns: int
    error: str | None = None
    attributes: dict[str, object] = {}

    def span(self, answerer: Answerer, *, trace_id: str, behind: int) -> Span:
        """Return it as a span of the caller's trace."""
        return Span(
            trace_id=trace_id,
            span_id=answerer.number(self.number),
            parent_id=answerer.number(self.parent),
            kind=self.kind,
            name=self.name,
            path=answerer.place(self.path),
            start_ns=self.start_ns + behind,
            end_ns=self.end_ns + behind,
            status="ok" if self.error is None else "error",
            error=self.error,
            attributes=self.attributes,
        )


def _chat_request(args: Mapping[str, Any], context: RunContext, model: LanguageModel) -> Request:
    settings = {name: args[name] for name in ("temperature", "max_tokens", "top_p") if name in args}
    stop = args.get("stop", ())
    rollout = args.get("rollout")
    seed = args.get("seed", context.seed if rollout is None else rollout)
    return Request(
        messages=tuple(Message(item["role"], item["content"]) for item in args["messages"]),
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
        seed=seed if "seed" in model.capabilities else None,
        response_schema=args.get("response_schema"),
        json_mode=bool(args.get("json_mode")),
        rollout=rollout if isinstance(rollout, int) else 0,
        **settings,
    )
