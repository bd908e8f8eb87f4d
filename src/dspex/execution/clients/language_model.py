"""The seam between dspex and whatever answers: one asynchronous call from a frozen request to a frozen response."""

from typing import Any, Literal, Protocol

import msgspec

from dspex.language.records import Message, Usage

Capability = Literal["response_schema", "json_mode", "constrained_decoding", "seed"]


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What a model is asked. None means: the model's own default.

    `response_schema` is the JSON Schema (strict form) that the reply has to follow; `json_mode` asks for any JSON
    object.
    """

    messages: tuple[Message, ...]
    temperature: float | None = None
    max_tokens: int | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    response_schema: dict[str, Any] | None = None
    json_mode: bool = False


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """What a model answered. `finish_reason` is the provider's word ("stop", "length", ...)."""

    text: str
    usage: Usage
    model: str
    finish_reason: str | None = None


class LanguageModel(Protocol):
    """Answers requests; safe to share between tasks, threads and event loops.

    `name` is what usage is booked under. `capabilities` are asked before a request uses them: "response_schema"
    (follows a JSON Schema), "json_mode", "constrained_decoding" (cannot produce anything but the schema), "seed".
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
