"""The seam between dspex and whatever answers: one asynchronous call from a frozen request to a frozen response."""

from collections.abc import Awaitable, Callable
from typing import Any, Literal, Protocol, cast

import msgspec

from dspex.execution.clients.identity import ModelIdentity
from dspex.language.records import Message, ToolCall, Usage

Capability = Literal["response_schema", "json_mode", "constrained_decoding", "seed", "tools", "streaming"]
Emit = Callable[[str], Awaitable[None]]
_WORDS = frozenset({"auto", "required", "none"})


class ToolSpec(msgspec.Struct, frozen=True, gc=False):
    """A tool as a model is told of it: `parameters` is the JSON Schema of its arguments."""

    name: str
    description: str
    parameters: dict[str, Any]


class Request(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What a model is asked. None means: the model's own default.

    `response_schema` is the JSON Schema (strict form) that the reply has to follow; `json_mode` asks for any JSON
    object. `tools` may be called in the reply; `tool_choice` is "auto", "required", "none" or the name of one.
    `rollout` sets a request apart from the same one before: no provider is sent it, but caches and journals know it.
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
    """What a model answered. `finish_reason` is the provider's word ("stop", "length", ...).

    `model` is its name for people, `identity` says which one it was, where the model knows that itself. `ignored` names
    the counts of tokens that the server gave and that can be none; `usage` is without them.
    `seconds` is how long the model itself took, without waiting for a turn or for another attempt; an answer that is
    given again says how long it took the first time. None where nobody has measured it.
    """

    text: str
    usage: Usage
    model: str
    finish_reason: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    seconds: float | None = None
    identity: ModelIdentity | None = None
    ignored: str | None = None

    @property
    def label(self) -> str:
        """What usage is booked under; see `ModelIdentity.label`."""
        return self.model if self.identity is None else self.identity.label

    def taking(self, seconds: float) -> "Response":
        """Return the response with how long it took, where nobody closer to the model has said so."""
        return self if self.seconds is not None else msgspec.structs.replace(self, seconds=seconds)

    def about(self) -> dict[str, object]:
        """Return what a span says about the response: the reason of its end, and its seconds where they are known."""
        attributes: dict[str, object] = {"finish_reason": self.finish_reason}
        if self.seconds is not None:
            attributes["seconds"] = self.seconds
        if self.ignored is not None:
            attributes["ignored_usage"] = self.ignored
        return attributes


class LanguageModel(Protocol):
    """Answers requests; safe to share between tasks, threads and event loops.

    `name` is for people. A model may have an `identity` (`ModelIdentity`), which caches, recordings, journals, usage
    and prices go by; they go by the name of one that has none. `capabilities` are asked before a request uses them:
    "response_schema" (follows a JSON Schema), "json_mode", "constrained_decoding" (cannot produce anything but the
    schema), "seed", "tools" (answers with tool calls), "streaming" (it is a `StreamingModel` too).
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
        """Free what the model holds on the running loop; it may be used again afterwards."""
        ...


class StreamingModel(LanguageModel, Protocol):
    """A model that tells the text of its reply as it comes; it declares the capability "streaming"."""

    async def stream(self, request: Request, emit: Emit) -> Response:
        """Answer `request`, giving each piece of text to `emit` in order, and return the whole response.

        A slow `emit` holds the model back. The pieces together are what `told` returns: the text, or the arguments of
        the tool that had to be called. Cancelling stops the request. After the first piece nothing is tried again.
        """
        ...


async def ask(model: LanguageModel, request: Request, emit: Emit | None) -> Response:
    """Answer `request` by `model`, in pieces where somebody listens; a model that cannot stream gives one piece."""
    if emit is None:
        return await model.complete(request)
    if "streaming" in model.capabilities:
        return await cast("StreamingModel", model).stream(request, emit)
    return await retold(request, await model.complete(request), emit)


async def retold(request: Request, response: Response, emit: Emit | None) -> Response:
    """Give all of a response to who listens, in one piece, and return it."""
    if emit is not None and (text := told(request, response)):
        await emit(text)
    return response


def told(request: Request, response: Response) -> str:
    """Return all that who listens to a reply hears: its text, or the arguments, as JSON, of the tool it had to call."""
    if request.forces_a_tool and response.tool_calls:
        return msgspec.json.encode(response.tool_calls[0].arguments).decode()
    return response.text
