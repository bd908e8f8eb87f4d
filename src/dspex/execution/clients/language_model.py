"""The protocol of language models: one async call from a frozen request to a frozen response."""

from collections.abc import Awaitable, Callable
from typing import Any, Final, Literal, Protocol, cast

import msgspec

from dspex.execution.clients.identity import ModelIdentity
from dspex.language.records import Message, ToolCall, Usage

Capability = Literal[
    "response_schema",
    "json_mode",
    "constrained_decoding",
    "seed",
    "tools",
    "streaming",
    "vision",
    "audio",
    "documents",
]
Emit = Callable[[str], Awaitable[None]]
CUT: Final = frozenset({"length", "max_tokens", "MAX_TOKENS", "incomplete"})
"""The finish reasons of replies that a limit on tokens has cut."""
_WORDS = frozenset({"auto", "required", "none"})


class ToolSpec(msgspec.Struct, frozen=True, gc=False):
    """The specification of a tool for a model; `parameters` is the JSON Schema of its arguments."""

    name: str
    description: str
    parameters: dict[str, Any]


class Request(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A request to a model. None means the model's default.

    `response_schema` is the JSON Schema (strict form) that the reply has to follow; `json_mode`
    asks for any JSON object. `tools` may be called in the reply; `tool_choice` is "auto",
    "required", "none" or the name of a tool. `rollout` distinguishes repetitions of the same
    request for caches and journals; providers do not receive it.
    """

    messages: tuple[Message, ...]
    temperature: float | None = None
    max_tokens: int | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    response_schema: dict[str, Any] | None = None
    json_mode: bool = False
    tools: tuple[ToolSpec, ...] = ()
    tool_choice: str = "auto"
    rollout: int = 0

    @property
    def forces_a_tool(self) -> bool:
        """Whether the reply has to be a call of the one tool that `tool_choice` names."""
        return bool(self.tools) and self.tool_choice not in _WORDS


class Response(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The response of a model. `finish_reason` is the provider's word ("stop", "length", ...).

    `model` is the display name; `identity` is None if the model does not know its own. `ignored`
    describes implausible token counts of the server, which `usage` omits. `seconds` is how long the
    model itself took, without queueing or other attempts; a cached response keeps its original
    duration. None if it was not measured. `route` says which model a `Route` chose and why.
    """

    text: str
    usage: Usage
    model: str
    finish_reason: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    seconds: float | None = None
    identity: ModelIdentity | None = None
    ignored: str | None = None
    route: dict[str, Any] | None = None

    @property
    def label(self) -> str:
        """The label under which usage is booked; see `ModelIdentity.label`."""
        return self.model if self.identity is None else self.identity.label

    def with_seconds(self, seconds: float) -> "Response":
        """Return the response with its duration, unless an inner wrapper has already set it."""
        return self if self.seconds is not None else msgspec.structs.replace(self, seconds=seconds)

    def span_attributes(self) -> dict[str, object]:
        """Return the span attributes: finish reason, and what else is known."""
        attributes: dict[str, object] = {"finish_reason": self.finish_reason}
        if self.seconds is not None:
            attributes["seconds"] = self.seconds
        if self.ignored is not None:
            attributes["ignored_usage"] = self.ignored
        if self.route is not None:
            attributes["route"] = self.route
        return attributes


class LanguageModel(Protocol):
    """Answers requests; safe to share between tasks, threads and event loops.

    `name` is for people. A model may have an `identity` (`ModelIdentity`), which is the key for
    caches, recordings, journals, usage and prices; otherwise its name is. Callers check
    `capabilities` before a request uses them: "response_schema" (follows a JSON Schema),
    "json_mode", "constrained_decoding" (cannot produce anything but the schema), "seed", "tools"
    (answers with tool calls), "streaming" (is also a `StreamingModel`), and "vision", "audio" and
    "documents" (user messages may hold pictures, recordings and files).
    """

    name: str
    capabilities: frozenset[Capability]

    async def complete(self, request: Request) -> Response:
        """Answer `request`.

        Raises:
            ModelError: the class says what happened, `is_retryable` whether to try again.
        """
        ...

    async def aclose(self) -> None:
        """Free the model's resources on the running loop; it may be used again afterwards."""
        ...


class StreamingModel(LanguageModel, Protocol):
    """A model that streams its replies; it declares the capability "streaming"."""

    async def stream(self, request: Request, emit: Emit) -> Response:
        """Answer `request`, passing each chunk to `emit` in order, and return the whole response.

        A slow `emit` slows the model down. The chunks together are what `streamed_text` returns:
        the text, or the arguments of the forced tool. Cancelling stops the request. After the first
        chunk nothing is retried.
        """
        ...


async def ask(model: LanguageModel, request: Request, emit: Emit | None) -> Response:
    """Answer `request` by `model`; with `emit` in chunks, or one chunk if it cannot stream."""
    if emit is None:
        return await model.complete(request)
    if "streaming" in model.capabilities:
        return await cast("StreamingModel", model).stream(request, emit)
    return await emit_whole(request, await model.complete(request), emit)


async def emit_whole(request: Request, response: Response, emit: Emit | None) -> Response:
    """Emit a whole response as one chunk, and return it."""
    if emit is not None and (text := streamed_text(request, response)):
        await emit(text)
    return response


def streamed_text(request: Request, response: Response) -> str:
    """Return what streaming emits in total: the text, or the JSON arguments of the forced tool."""
    if request.forces_a_tool and response.tool_calls:
        return msgspec.json.encode(response.tool_calls[0].arguments).decode()
    return response.text
