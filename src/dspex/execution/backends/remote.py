"""What a program in a worker asks of this process while it runs: answers of models, tools and metrics."""

import asyncio
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from dspex.errors import ConfigurationError, DefinitionError, ToolError, boundary
from dspex.execution.clients import Capability, LanguageModel, Request, Response
from dspex.execution.clients.budgeted import ask_within
from dspex.execution.context import THREE_WAYS, OpenSpan, RunContext, payload
from dspex.language.records import Message
from dspex.telemetry import Event

Tools = Mapping[str, Callable[..., Any]]
Metric = Callable[[Mapping[str, Any], Mapping[str, Any]], float]


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
    """Answers the callbacks of one run, under that run's context: its model, its trace, its budget.

    Nothing of a model but its name and abilities is known in the worker; keys stay here.
    """

    context: RunContext
    span: OpenSpan
    model: LanguageModel
    tools: Tools = field(default_factory=dict)
    metric: Metric | None = None
    on_progress: Callable[[str, Any], None] = lambda _event, _data: None

    async def on_callback(self, command: str, args: Any) -> Any:  # noqa: ANN401  # any JSON value
        """Answer one callback."""
        match command:
            case "lm":
                return await self._ask(_chat_request(args, self.context, self.model))
            case "complete":
                model = self.model if args["model"] is None else self.context.model_for(args["model"])
                return msgspec.to_builtins(await self._complete(msgspec.convert(args["request"], Request), model))
            case "model":
                return about(self.context.model_for(args["name"]))
            case "tool":
                return await self._use(args["name"], args["arguments"])
            case "metric" if self.metric is not None:
                with boundary(DefinitionError, "the metric failed"):
                    return float(self.metric(args["example"], args["prediction"]))
        raise DefinitionError(f"a program in a worker asked for {command!r}, which this run does not offer")

    def on_event(self, event: str, data: Any) -> None:  # noqa: ANN401
        """Pass an event on to the caller and the observer."""
        self.on_progress(event, data)
        shown = data if isinstance(data, dict) else {"data": data}
        self.context.say(
            Event(name="progress", message=event, trace_id=self.span.run.trace_id, attributes={"event": event, **shown})
        )

    async def _ask(self, request: Request) -> dict[str, Any]:
        response = await self._complete(request, self.model)
        usage = response.usage
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

    async def _complete(self, request: Request, model: LanguageModel) -> Response:
        span = self.span.run.begin("model", model.name, parent_id=self.span.id, path=self.span.path)
        if self.context.records_payloads:
            span.inputs = payload(request.messages)
        try:
            self.context.check()
            if self.context.budget is None:
                response = await model.complete(request)
            else:
                response = await ask_within(self.context.budget, model, request, emit=None)
        except BaseException as error:
            span.end(error=error)
            raise
        span.end(
            usage=response.usage.of_model(response.model),
            attributes={"finish_reason": response.finish_reason},
            outputs=payload(response.text) if self.context.records_payloads else None,
        )
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
                    answer = await asyncio.to_thread(tool, **arguments)
        except BaseException as error:
            span.end(error=error)
            raise
        span.end()
        return answer


def _chat_request(args: Mapping[str, Any], context: RunContext, model: LanguageModel) -> Request:
    settings = {name: args[name] for name in ("temperature", "max_tokens", "top_p") if name in args}
    stop = args.get("stop", ())
    seed = args.get("seed", args.get("rollout", context.seed))
    return Request(
        messages=tuple(Message(item["role"], item["content"]) for item in args["messages"]),
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
        seed=seed if "seed" in model.capabilities else None,
        response_schema=args.get("response_schema"),
        json_mode=bool(args.get("json_mode")),
        **settings,
    )
