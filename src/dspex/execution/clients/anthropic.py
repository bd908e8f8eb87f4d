"""Models of Anthropic, through the Messages API.

Protocol: the public API reference, "Messages" (version 2023-06-01).
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from dspex.argument_values import Count
from dspex.arguments import checks_names
from dspex.execution.clients.address import ServerAddress
from dspex.execution.clients.chunk_forwarder import ChunkForwarder
from dspex.execution.clients.endpoint import ModelEndpoint, arguments_of, usage_of
from dspex.execution.clients.identity import server_identity
from dspex.execution.clients.language_model import Capability, Emit, Request, Response
from dspex.execution.clients.modalities import Modality, check_media, modalities_of
from dspex.execution.clients.transport import Transport
from dspex.language.records import Message, ToolCall, Usage
from dspex.language.records.message import FilePart, Part, TextPart


class _Block(msgspec.Struct):
    type: str = ""
    text: str = ""
    id: str = ""
    name: str = ""
    input: dict[str, Any] = {}
    partial_json: str = ""


class _Usage(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None


class _Reply(msgspec.Struct):
    content: list[_Block]
    stop_reason: str | None = None
    usage: _Usage | None = None


class _Delta(msgspec.Struct):
    type: str = ""
    text: str = ""
    partial_json: str = ""
    stop_reason: str | None = None


class _Event(msgspec.Struct):
    type: str
    index: int = 0
    message: _Reply | None = None
    content_block: _Block | None = None
    delta: _Delta | None = None
    usage: _Usage | None = None
    error: Any = None


_decode = msgspec.json.Decoder(_Reply).decode
_decode_event = msgspec.json.Decoder(_Event).decode


@checks_names
class AnthropicModel:
    """One model of Anthropic.

    It does not enforce schemas: use the chat layout or the adapter "tools".
    """

    def __init__(
        self,
        model: str,
        *,
        api_key: str | None = None,
        base_url: str = "https://api.anthropic.com/v1",
        max_tokens: Count = 4096,
        transport: Transport | None = None,
        media: Iterable[Modality] | None = None,
    ) -> None:
        """Take the model's name, and the reply limit for requests without one.

        `media` is as in `OpenAIModel`; this protocol has no recordings.
        """
        address = ServerAddress.of(base_url)
        self.name = f"anthropic/{model}"
        self.identity = server_identity(model, address, name=self.name)
        self.capabilities: frozenset[Capability] = frozenset({"tools", "streaming"})
        self.capabilities |= modalities_of(model, media) - {"audio"}
        self._model = model
        self.reply_limit = max_tokens
        headers = {"anthropic-version": "2023-06-01", **({"x-api-key": api_key} if api_key else {})}
        self._endpoint = ModelEndpoint(
            self.name, address, "messages", headers=headers, transport=transport
        )
        self._price = self.identity.price

    def __repr__(self) -> str:
        return f"AnthropicModel({self._model!r}, url={self._endpoint.url!r})"

    async def complete(self, request: Request) -> Response:
        """Answer `request` with one POST; see `LanguageModel.complete`."""
        return self._read_response(
            self._endpoint.check(await self._endpoint.post(self._body(request)))
        )

    async def stream(self, request: Request, emit: Emit) -> Response:
        """Answer `request` in chunks; see `StreamingModel.stream`."""
        forwarder = ChunkForwarder(request, emit)
        buffer = _StreamBuffer(self._endpoint, forwarder)
        body = await self._endpoint.events({**self._body(request), "stream": True}, buffer.take)
        return await forwarder.end(
            self._response(buffer.reply()) if body is None else self._read_response(body)
        )

    async def aclose(self) -> None:
        """Close this loop's connections."""
        await self._endpoint.aclose()

    def _read_response(self, body: bytes) -> Response:
        return self._response(self._endpoint.read(_decode, body))

    def _response(self, reply: _Reply) -> Response:
        usage, ignored = self._usage(reply.usage or _Usage())
        return Response(
            text="".join(block.text for block in reply.content if block.type == "text"),
            usage=usage,
            ignored=ignored,
            model=self.name,
            identity=self.identity,
            finish_reason=reply.stop_reason,
            tool_calls=tuple(
                ToolCall(b.id, b.name, b.input) for b in reply.content if b.type == "tool_use"
            ),
        )

    def _usage(self, counts: _Usage) -> tuple[Usage, str | None]:
        cached = counts.cache_read_input_tokens or 0  # not included in the input tokens of the API
        input_counts = (counts.input_tokens or 0, cached, counts.cache_creation_input_tokens or 0)
        return usage_of(
            self._price,
            input_counts=input_counts,
            output_counts=(counts.output_tokens or 0,),
            cached=cached,
        )

    def _body(self, request: Request) -> dict[str, Any]:
        check_media(self, request.messages)
        body: dict[str, Any] = {
            "model": self._model,
            "max_tokens": request.max_tokens or self.reply_limit,
            "messages": _turns(request.messages),
        }
        if system := "\n\n".join(
            message.text for message in request.messages if message.role == "system"
        ):
            body["system"] = system
        for name in ("temperature", "top_p"):
            if (value := getattr(request, name)) is not None:
                body[name] = value
        if request.stop:
            body["stop_sequences"] = request.stop
        if request.tools:
            body["tools"] = [
                {
                    "name": tool.name,
                    "description": tool.description,
                    "input_schema": tool.parameters,
                }
                for tool in request.tools
            ]
            choices = {
                "auto": {"type": "auto"},
                "required": {"type": "any"},
                "none": {"type": "none"},
            }
            body["tool_choice"] = choices.get(
                request.tool_choice, {"type": "tool", "name": request.tool_choice}
            )
        return body


def _turns(messages: tuple[Message, ...]) -> list[dict[str, Any]]:
    """Return the turns: tool results become user turns, adjacent turns of a role are merged."""
    turns: list[dict[str, Any]] = []
    for message in messages:
        if message.role == "system":
            continue
        role = "assistant" if message.role == "assistant" else "user"
        blocks = _blocks(message)
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        else:
            turns.append({"role": role, "content": blocks})
    return turns


def _blocks(message: Message) -> list[dict[str, Any]]:
    if message.role == "tool":
        return [
            {"type": "tool_result", "tool_use_id": message.tool_call_id, "content": message.text}
        ]
    content = message.content
    parts = (TextPart(content),) if isinstance(content, str) else content
    blocks = [_block(part) for part in parts if not isinstance(part, TextPart) or part.text]
    calls = [
        {"type": "tool_use", "id": call.id, "name": call.name, "input": call.arguments}
        for call in message.tool_calls
    ]
    return [*blocks, *calls]


def _block(part: Part) -> dict[str, Any]:
    if isinstance(part, TextPart):
        return {"type": "text", "text": part.text}
    source = {"type": "base64", "media_type": part.media_type, "data": part.base64}
    if part.url:
        source = {"type": "url", "url": part.url}
    elif part.media_type.startswith("text/"):
        source = {
            "type": "text",
            "media_type": "text/plain",
            "data": part.data.decode(errors="replace"),
        }
    if isinstance(part, FilePart):
        return {
            "type": "document",
            "source": source,
            **({"title": part.name} if part.name else {}),
        }
    return {"type": "image", "source": source}


class _StreamBuffer:
    """Collects the events of one stream into a reply."""

    def __init__(self, endpoint: ModelEndpoint, forwarder: ChunkForwarder) -> None:
        self._endpoint = endpoint
        self._forwarder = forwarder
        self._blocks: dict[int, _Block] = {}
        self._json: dict[int, str] = {}
        self._usage = _Usage()
        self._stop_reason: str | None = None
        self._is_complete = False

    async def take(self, data: bytes) -> None:
        """Take one event, and forward its text."""
        event = self._endpoint.read(_decode_event, data)
        if event.type == "error":
            raise self._endpoint.stream_error(event.error)
        if event.type == "message_start" and event.message is not None:
            self._usage = event.message.usage or self._usage
        elif event.type == "content_block_start" and event.content_block is not None:
            self._blocks[event.index] = event.content_block
        elif event.type == "content_block_delta" and event.delta is not None:
            await self._add_delta(event.index, event.delta)
        elif event.type == "message_delta" and event.delta is not None:
            self._stop_reason = event.delta.stop_reason
            if event.usage is not None:
                self._usage.output_tokens = event.usage.output_tokens
        self._is_complete = self._is_complete or event.type == "message_stop"

    async def _add_delta(self, index: int, delta: _Delta) -> None:
        block = self._blocks.setdefault(index, _Block(type="text"))
        if delta.type == "input_json_delta":
            self._json[index] = self._json.get(index, "") + delta.partial_json
            await self._forwarder.arguments(delta.partial_json, index)
        elif delta.text:
            block.text += delta.text
            await self._forwarder.text(delta.text)

    def reply(self) -> _Reply:
        """Return the complete reply; raise if the stream ended early."""
        if not self._is_complete:
            raise self._endpoint.truncated_error()
        for index, text in self._json.items():
            self._blocks[index].input = arguments_of(text)
        blocks = [self._blocks[index] for index in sorted(self._blocks)]
        return _Reply(blocks, self._stop_reason, self._usage)
