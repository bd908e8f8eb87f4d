"""Answers the callbacks of a program in a worker: model calls, tool calls and metrics."""

import inspect
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from dspex.clock import SystemClock
from dspex.errors import ConfigurationError, DefinitionError, InputError, ToolError, boundary
from dspex.execution.backends.event_forwarder import EventForwarder
from dspex.execution.backends.remote_memory import RemoteMemory
from dspex.execution.clients import Capability, LanguageModel, Request, Response
from dspex.execution.clients.budgeted import ask_within
from dspex.execution.clients.chat_parts import read_chat_content
from dspex.execution.clients.embedding_request import EmbedderModel, EmbeddingRequest
from dspex.execution.clients.modalities import check_media
from dspex.execution.context import THREE_WAYS, RunContext, use_context
from dspex.execution.effects import call_tool
from dspex.execution.frame import OpenSpan, payload
from dspex.execution.modules.model_call import with_advice
from dspex.execution.workers.connection import SilentHandler
from dspex.language.programs import ModulePath
from dspex.language.records import Message, Span, SpanKind, Usage
from dspex.language.records.message import without_bytes
from dspex.sync import in_thread
from dspex.telemetry import Event

Tools = Mapping[str, Callable[..., Any]]
Rewards = Mapping[str, Callable[[Mapping[str, Any], Mapping[str, Any]], Awaitable[float]]]
_CLOCK = SystemClock()
Score = float | Mapping[str, Any]
Metric = Callable[[Mapping[str, Any], Mapping[str, Any]], Score | Awaitable[Score]]


async def score_row(
    metric: Metric, row: Mapping[str, Any], outputs: Mapping[str, Any]
) -> float | dict[str, Any]:
    """Return the result of a sync or async metric for one row.

    The result is a score, or `{"score": ..., "feedback": "why"}` for optimizers that read feedback.

    Raises:
        DefinitionError: the metric failed, or did not return a finite score.
    """
    with boundary(DefinitionError, "the metric failed"):
        result = metric(row, outputs)
        verdict = await result if inspect.isawaitable(result) else result
        score = float(verdict["score"] if isinstance(verdict, Mapping) else verdict)
        if not math.isfinite(score):
            raise DefinitionError(
                f"the metric returned {score!r}, which is not a score; return a finite number"
            )
    if not isinstance(verdict, Mapping):
        return score
    feedback = verdict.get("feedback")
    return {"score": score, **({} if feedback is None else {"feedback": str(feedback)})}


def find_non_finite(value: Any, path: str = "") -> str | None:
    """Return the place of the first nan or infinity in `value`, None if JSON can represent it."""
    if isinstance(value, float):
        return None if math.isfinite(value) else f"{path}: {value!r}"
    if isinstance(value, Mapping):
        return next(
            (
                place
                for key, part in value.items()
                if (place := find_non_finite(part, f"{path}.{key}"))
            ),
            None,
        )
    if isinstance(value, list):
        return next(
            (
                place
                for n, part in enumerate(value)
                if (place := find_non_finite(part, f"{path}[{n}]"))
            ),
            None,
        )
    return None


def check_sendable(inputs: Mapping[str, Any]) -> Mapping[str, Any]:
    """Check that inputs can be sent to a worker, and return them.

    Raises:
        InputError: an input holds nan or an infinity, which would arrive as null.
    """
    if place := find_non_finite(inputs):
        raise InputError(
            f"an input is not a finite number ({place.lstrip('.')}), and workers receive JSON: "
            "leave it out"
        )
    return inputs


async def embed_for_worker(context: RunContext, args: Mapping[str, Any]) -> dict[str, Any]:
    """Return the reply to a worker that has texts to embed: their vectors and the usage."""
    model = EmbedderModel(context.embedder_for(args["name"]))
    response = await model.complete(EmbeddingRequest.of(args["texts"], args["kind"]))
    answer: dict[str, Any] = msgspec.to_builtins(
        msgspec.structs.replace(response, model=response.label, identity=None)
    )
    return answer


class LoadHandler(SilentHandler):
    """Answers a program that embeds texts while it is created, as `dspy.Embeddings` does."""

    def __init__(self, context: RunContext) -> None:
        """Take the context of whoever creates it."""
        self._context = context

    async def on_callback(self, command: str, args: Any) -> Any:
        """Embed; refuse everything else."""
        if command != "embed":
            return await super().on_callback(command, args)
        return await embed_for_worker(self._context, args)


class NoModel:
    """The model of a run without one, so that only programs that call a model fail."""

    name = "none"
    capabilities: frozenset[Capability] = frozenset()

    async def complete(self, request: Request) -> Response:
        """Raise an error that says how to set a model."""
        raise ConfigurationError(THREE_WAYS)

    async def aclose(self) -> None:
        """Do nothing."""


def model_for_run(context: RunContext, name: str | None) -> LanguageModel:
    """Return the model of a run in a worker; without one, only calling it raises."""
    return NoModel() if name is None and context.model is None else context.model_for(name)


def describe_model(model: LanguageModel) -> dict[str, Any]:
    """Return the parts of a model that a worker may know: its name and capabilities."""
    return {"name": model.name, "capabilities": sorted(model.capabilities)}


@dataclass(slots=True, kw_only=True)
class Answerer:
    """Answers the callbacks of one run with its context: its model, trace, budget and listener.

    The worker only knows the names and capabilities of models; keys stay here. `reply` is the last
    reply of the model.
    """

    context: RunContext
    span: OpenSpan
    model: LanguageModel
    tools: Tools = field(default_factory=dict)
    rewards: Rewards = field(default_factory=dict)
    metric: Metric | None = None
    on_progress: Callable[[str, Any], None] = lambda _event, _data: None
    forwarder: EventForwarder | None = None
    reply: str = ""
    memory: RemoteMemory = field(init=False)
    _span_ids: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Begin without calls in progress."""
        self.memory = RemoteMemory(self.context)

    async def on_callback(self, command: str, args: Any) -> Any:
        """Answer one callback."""
        if self.forwarder is not None:
            await self.forwarder.flush()
        answers: Mapping[str, Callable[[Any], Awaitable[Any]]] = {
            "lm": self._answer_chat,
            "complete": self._answer_request,
            "model": self._describe_model,
            "embedder": self._describe_embedder,
            "embed": self._embed,
            "tool": self._call_tool,
            "reward": self._reward,
            "metric": self._score,
            "turn": self._count_turn,
            "ask": self._ask,
            "recall": self.memory.recall,
            "effect": self.memory.end,
        }
        if command not in answers:
            raise DefinitionError(
                f"a program in a worker asked for {command!r}, which this run does not offer"
            )
        return await answers[command](args)

    async def _answer_chat(self, args: Any) -> dict[str, Any]:
        model = self.model if args.get("own") is None else self.context.model_for(args["own"])
        return await self._complete_chat(_chat_request(args, self.context, model), model, args)

    async def _answer_request(self, args: Any) -> Any:
        model = self.model if args["model"] is None else self.context.model_for(args["model"])
        response = await self._complete(msgspec.convert(args["request"], Request), model, args)
        return msgspec.to_builtins(msgspec.structs.replace(response, identity=None))

    async def _describe_model(self, args: Any) -> dict[str, Any]:
        return describe_model(self.context.model_for(args["name"]))

    async def _describe_embedder(self, args: Any) -> dict[str, Any]:
        embedder = self.context.embedder_for(args["name"])
        return {
            "name": embedder.name,
            "fingerprint": embedder.fingerprint,
            "dimensions": embedder.dimensions,
        }

    async def _embed(self, args: Any) -> Any:
        """Embed texts; without a `path`, a span of the worker has the usage."""
        self.context.check()
        if "path" not in args:
            return await embed_for_worker(self.context, args)
        parent, path = self.span_id(args.get("span")), self.full_path(args["path"])
        span = self.span.run.begin("retrieval", str(args["name"]), parent_id=parent, path=path)
        try:
            answer = await embed_for_worker(self.context, args)
        except BaseException as error:
            span.end(error=error)
            raise
        usage = msgspec.convert(answer["usage"], Usage).of_model(answer["model"])
        span.end(usage=usage, attributes={"embedder": answer["model"], "texts": len(args["texts"])})
        return answer

    async def _reward(self, args: Any) -> float:
        with use_context(self.context.below(self.span)):
            return await self.rewards[args["place"]](args["inputs"], args["outputs"])

    async def _score(self, args: Any) -> Score:
        if self.metric is None:
            raise DefinitionError("a program in a worker asked for a metric, and runs without one")
        return await score_row(self.metric, args["example"], args["prediction"])

    async def _count_turn(self, _args: Any) -> None:
        team = self.context.frame.team
        for run in [] if team is None else team.runs():
            run.count_turn()

    async def _ask(self, args: Any) -> Any:
        with use_context(self.context.below(self.span)):
            return await self.memory.ask(args)

    def on_event(self, event: str, data: Any) -> None:
        """Record spans and predictor calls; forward other events to the caller and the observer."""
        if event == "spans":
            self._record_spans(data)
            return
        if event == "calls":
            self._record_calls(data)
            return
        if event == "effect_begun":
            self.memory.begin(data)
            return
        if event == "effect_failed":
            self.memory.fail(data["number"])
            return
        fields = data if isinstance(data, dict) else {"data": data}
        if event == "stream" and self.forwarder is not None:
            self.forwarder.queue_status(self.full_path(str(fields.get("path", ""))), fields)
        self.on_progress(event, data)
        self.context.say(
            Event(
                name="progress",
                message=event,
                trace_id=self.span.run.trace_id,
                attributes={"event": event, **fields},
            )
        )

    def _record_spans(self, data: Any) -> None:
        try:
            items = msgspec.convert(data, list[_WorkerSpan])
        except msgspec.ValidationError as error:
            self.context.say(Event(name="log", message=f"the worker sent invalid spans: {error}"))
            return
        run = self.span.run
        # the caller may use another clock
        clock_offset = run.clock.monotonic_ns() - _CLOCK.monotonic_ns()
        for item in items:
            run.add(item.to_span(self, trace_id=run.trace_id, clock_offset=clock_offset))

    def _record_calls(self, data: Any) -> None:
        on_call = self.context.frame.on_call
        if on_call is None:
            return
        for path, inputs, outputs in data:
            on_call(self.full_path(path), inputs, outputs)

    def span_id(self, inner: int | None) -> int:
        """Return the id in this trace of a span that the worker numbers differently."""
        if inner is None:
            return self.span.id
        if inner not in self._span_ids:
            self._span_ids[inner] = self.span.run.begin("module", "", parent_id=None, path="").id
        return self._span_ids[inner]

    def full_path(self, inner: str) -> str:
        """Return the path in the whole program of a module in the part that the worker runs."""
        return str(ModulePath.of(self.span.path).join(ModulePath.of(inner)))

    async def _complete_chat(
        self, request: Request, model: LanguageModel, args: Mapping[str, Any]
    ) -> dict[str, Any]:
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

    async def _complete(
        self, request: Request, model: LanguageModel, args: Mapping[str, Any]
    ) -> Response:
        parent, path = self.span_id(args.get("span")), self.full_path(args.get("path", ""))
        if self.context.frame.advice:
            request = with_advice(request, self.context.frame.advice, path)
        span = self.span.run.begin("model", model.name, parent_id=parent, path=path)
        if self.context.records_payloads:
            span.inputs = payload(without_bytes(request.messages))
        try:
            self.context.check()
            check_media(model, request.messages)
            if self.forwarder is None and self.context.budget is None:
                response = await model.complete(request)
            else:
                response = await self._complete_guarded(request, model, args)
        except BaseException as error:
            span.end(error=error)
            raise
        span.end(
            usage=response.usage.of_model(response.label),
            attributes=response.span_attributes(),
            outputs=payload(response.text) if self.context.records_payloads else None,
        )
        return response

    async def _complete_guarded(
        self, request: Request, model: LanguageModel, args: Mapping[str, Any]
    ) -> Response:
        events = None
        if self.forwarder is not None and (fields := args.get("fields")):
            events = await self.forwarder.start_reply(
                self.full_path(args["path"]), module=args["span"], fields=fields
            )
        emit = None if events is None else events.take
        response = await ask_within(self.context.budget, model, request, emit=emit)
        if events is not None:
            await events.end()
        return response

    async def _call_tool(self, args: Any) -> Any:
        name, arguments = args["name"], args["arguments"]
        tool = self.tools.get(name)
        if tool is None:
            raise ToolError(
                f"this process has no tool {name!r}; tools are: {', '.join(self.tools) or 'none'}"
            )

        async def call() -> Any:
            with boundary(ToolError, f"tool {name!r} failed"):
                if inspect.iscoroutinefunction(tool):
                    return await tool(**arguments)
                return await in_thread(tool, **arguments)

        span = self.span.run.begin("tool", name, parent_id=self.span.id, path=self.span.path)
        context = self.context.below(span)
        try:
            with use_context(context):
                answer = await call_tool(context, name, arguments, call=call)
        except BaseException as error:
            span.end(error=error)
            raise
        span.end()
        return answer


class _WorkerSpan(msgspec.Struct, frozen=True, array_like=True):
    """A finished span as a worker sends it, with the worker's numbers."""

    number: int
    parent: int | None
    kind: SpanKind
    name: str
    path: str
    start_ns: int
    end_ns: int
    error: str | None = None
    attributes: dict[str, object] = {}
    usage: Usage | None = None

    def to_span(self, answerer: Answerer, *, trace_id: str, clock_offset: int) -> Span:
        """Return it as a span of this process's trace."""
        return Span(
            trace_id=trace_id,
            span_id=answerer.span_id(self.number),
            parent_id=answerer.span_id(self.parent),
            kind=self.kind,
            name=self.name,
            path=answerer.full_path(self.path),
            start_ns=self.start_ns + clock_offset,
            end_ns=self.end_ns + clock_offset,
            status="ok" if self.error is None else "error",
            error=self.error,
            attributes=self.attributes,
            usage=self.usage,
        )


def _chat_request(args: Mapping[str, Any], context: RunContext, model: LanguageModel) -> Request:
    settings = {name: args[name] for name in ("temperature", "max_tokens", "top_p") if name in args}
    stop = args.get("stop", ())
    rollout = args.get("rollout")
    seed = args.get("seed", context.seed if rollout is None else rollout)
    return Request(
        messages=tuple(
            Message(item["role"], read_chat_content(item["content"])) for item in args["messages"]
        ),
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
        seed=seed if "seed" in model.capabilities else None,
        response_schema=args.get("response_schema"),
        json_mode=bool(args.get("json_mode")),
        rollout=rollout if isinstance(rollout, int) else 0,
        **settings,
    )
