"""Models with the OpenAI chat-completions protocol: OpenAI, vLLM, Ollama, llama.cpp and many more.

Protocol: the public API reference of OpenAI, "Create chat completion".
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from dspex.arguments import checks_names
from dspex.errors import RefusedError
from dspex.execution.clients.address import ServerAddress
from dspex.execution.clients.chat_parts import chat_content
from dspex.execution.clients.chunk_forwarder import ChunkForwarder
from dspex.execution.clients.endpoint import ModelEndpoint, arguments_of, usage_of
from dspex.execution.clients.identity import server_identity
from dspex.execution.clients.language_model import Capability, Emit, Request, Response
from dspex.execution.clients.modalities import Capable, Modality, check_media, modalities_of
from dspex.execution.clients.prices import Price
from dspex.execution.clients.transport import Transport
from dspex.language.records import Message, ToolCall, Usage


class _Function(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: str | None = None


class _Call(msgspec.Struct, gc=False):
    function: _Function
    id: str | None = None
    index: int = 0


class _Message(msgspec.Struct, gc=False):
    content: str | None = None
    refusal: str | None = None
    tool_calls: list[_Call] | None = None


class _Choice(msgspec.Struct, gc=False):
    message: _Message
    finish_reason: str | None = None


class _InputDetails(msgspec.Struct, gc=False):
    cached_tokens: int | None = 0


class _OutputDetails(msgspec.Struct, gc=False):
    reasoning_tokens: int | None = 0


class _Usage(msgspec.Struct, gc=False):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: _InputDetails | None = None
    completion_tokens_details: _OutputDetails | None = None


class _Reply(msgspec.Struct, gc=False):
    choices: list[_Choice]
    usage: _Usage | None = None


class _Step(msgspec.Struct, gc=False):
    delta: _Message | None = None
    finish_reason: str | None = None


class _Chunk(msgspec.Struct, gc=False):
    choices: list[_Step] = []
    usage: _Usage | None = None
    error: Any = None


_decode = msgspec.json.Decoder(_Reply).decode
_decode_chunk = msgspec.json.Decoder(_Chunk).decode


@checks_names
class OpenAIModel:
    """One model at one endpoint. The key is sent in a header and used nowhere else."""

    def __init__(
        self,
        model: str,
        *,
        base_url: str = "https://api.openai.com/v1",
        api_key: str | None = None,
        name: str | None = None,
        transport: Transport | None = None,
        revision: str = "",
        media: Iterable[Modality] | None = None,
    ) -> None:
        """Take the model's name and address.

        Args:
            model: the name in the request body.
            base_url: up to and including the version, without `/chat/completions`; credentials in
                it are kept secret.
            api_key: sent as a bearer token; None sends no credentials.
            name: the display name, by default the model's name; one such as "openai/gpt-4o-mini"
                names the provider, and so the price.
            transport: shared connections; by default the model opens its own.
            revision: distinguishes versions that are served under one name.
            media: "vision", "audio" and "documents", as far as the model takes them; by default
                what is known of its name.
        """
        address = ServerAddress.of(base_url)
        self.name = name or model
        self.identity = server_identity(model, address, name=name, revision=revision)
        self.capabilities: frozenset[Capability] = frozenset(
            {"response_schema", "json_mode", "seed", "tools", "streaming"}
        )
        self.capabilities |= modalities_of(model, media)
        self._model = model
        headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
        self._endpoint = ModelEndpoint(
            self.name, address, "chat/completions", headers=headers, transport=transport
        )
        # newer models of OpenAI refuse the old name of the limit, other servers do not know the new
        # one
        self._limit = (
            "max_completion_tokens"
            if address.base_url.startswith("https://api.openai.com/")
            else "max_tokens"
        )
        self._price: Price | None = self.identity.price

    def __repr__(self) -> str:
        return f"OpenAIModel({self._model!r}, url={self._endpoint.url!r})"

    async def complete(self, request: Request) -> Response:
        """Answer `request` with one POST; see `LanguageModel.complete`."""
        answer = await self._endpoint.post(self._body(request))
        return self._read_response(self._endpoint.check(answer))

    async def stream(self, request: Request, emit: Emit) -> Response:
        """Answer `request` in chunks; see `StreamingModel.stream`."""
        forwarder = ChunkForwarder(request, emit)
        buffer = _StreamBuffer(self._endpoint, forwarder)
        body = {**self._body(request), "stream": True, "stream_options": {"include_usage": True}}
        reply = await self._endpoint.events(body, buffer.take)
        if reply is not None:
            return await forwarder.end(self._read_response(reply))
        response = self._response(
            buffer.message(), buffer.usage, finish_reason=buffer.finish_reason
        )
        return await forwarder.end(response)

    async def aclose(self) -> None:
        """Close this loop's connections."""
        await self._endpoint.aclose()

    def _read_response(self, body: bytes) -> Response:
        reply = self._endpoint.read(_decode, body)
        if not reply.choices:
            raise self._endpoint.unreadable_error(ValueError("it has no choices"), body)
        choice = reply.choices[0]
        return self._response(choice.message, reply.usage, finish_reason=choice.finish_reason)

    def _response(
        self, message: _Message, usage: _Usage | None, *, finish_reason: str | None
    ) -> Response:
        if message.content is None and message.refusal:
            raise RefusedError(f"{self.name} refuses: {message.refusal}")
        calls = (
            tuple(
                ToolCall(
                    call.id or f"call_{n}",
                    call.function.name or "",
                    arguments_of(call.function.arguments),
                )
                for n, call in enumerate(message.tool_calls)
            )
            if message.tool_calls
            else ()
        )
        token_usage, ignored = _usage(self._price, usage or _Usage())
        return Response(
            text=message.content or "",
            usage=token_usage,
            ignored=ignored,
            model=self.name,
            identity=self.identity,
            finish_reason=finish_reason,
            tool_calls=calls,
        )

    def _body(self, request: Request) -> dict[str, Any]:
        has_media = check_media(self, request.messages)
        body: dict[str, Any] = {"model": self._model, "messages": request.messages}
        for name in ("temperature", "top_p", "seed"):
            if (value := getattr(request, name)) is not None:
                body[name] = value
        if request.max_tokens is not None:
            body[self._limit] = request.max_tokens
        if request.stop:
            body["stop"] = request.stop
        if request.response_schema is not None:
            shape = {"name": "outputs", "strict": True, "schema": request.response_schema}
            body["response_format"] = {"type": "json_schema", "json_schema": shape}
        elif request.json_mode:
            body["response_format"] = {"type": "json_object"}
        if has_media or request.tools:
            body["messages"] = [_turn(self, message) for message in request.messages]
        if request.tools:
            body["tools"] = [{"type": "function", "function": tool} for tool in request.tools]
            choice = request.tool_choice
            is_word = choice in {"auto", "required", "none"}
            body["tool_choice"] = (
                choice if is_word else {"type": "function", "function": {"name": choice}}
            )
        return body


def _turn(model: Capable, message: Message) -> object:
    content = message.content
    if isinstance(content, str) and not message.tool_calls:
        return message
    turn: dict[str, Any] = {"role": message.role, "content": chat_content(model, message) or None}
    if message.tool_calls:
        turn["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {
                    "name": call.name,
                    "arguments": msgspec.json.encode(call.arguments).decode(),
                },
            }
            for call in message.tool_calls
        ]
    return turn


def _usage(price: Price | None, counts: _Usage) -> tuple[Usage, str | None]:
    input_details, output_details = counts.prompt_tokens_details, counts.completion_tokens_details
    return usage_of(
        price,
        input_counts=(counts.prompt_tokens,),
        output_counts=(counts.completion_tokens,),
        cached=(input_details.cached_tokens or 0) if input_details else 0,
        reasoning=(output_details.reasoning_tokens or 0) if output_details else 0,
    )


class _StreamBuffer:
    """Collects the chunks of one stream into a message."""

    def __init__(self, endpoint: ModelEndpoint, forwarder: ChunkForwarder) -> None:
        self.usage: _Usage | None = None
        self.finish_reason: str | None = None
        self._endpoint = endpoint
        self._forwarder = forwarder
        self._text: list[str] = []
        self._refusal = ""
        self._calls: dict[int, _Call] = {}

    async def take(self, data: bytes) -> None:
        """Take one event, and forward its text."""
        if data == b"[DONE]":
            self.finish_reason = self.finish_reason or "stop"
            return
        chunk = self._endpoint.read(_decode_chunk, data)
        if chunk.error is not None:
            raise self._endpoint.stream_error(chunk.error)
        self.usage = chunk.usage or self.usage
        for step in chunk.choices[:1]:
            self.finish_reason = step.finish_reason or self.finish_reason
            if step.delta is not None:
                await self._add(step.delta)

    async def _add(self, delta: _Message) -> None:
        self._refusal += delta.refusal or ""
        for call in delta.tool_calls or ():
            target = self._calls.setdefault(call.index, _Call(function=_Function(arguments="")))
            target.id = target.id or call.id
            target.function.name = target.function.name or call.function.name
            target.function.arguments = (
                f"{target.function.arguments}{call.function.arguments or ''}"
            )
            await self._forwarder.arguments(call.function.arguments, call.index)
        if delta.content:
            self._text.append(delta.content)
            await self._forwarder.text(delta.content)

    def message(self) -> _Message:
        """Return the complete message; raise if the stream ended early."""
        if self.finish_reason is None:
            raise self._endpoint.truncated_error()
        calls = [self._calls[index] for index in sorted(self._calls)]
        return _Message("".join(self._text) or None, self._refusal or None, calls or None)
