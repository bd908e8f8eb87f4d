"""Models of Anthropic, by the Messages API.

Protocol: the public API reference, "Messages" (version 2023-06-01).
"""

from typing import Any

import msgspec

from dspex.execution.clients.address import ServerAddress
from dspex.execution.clients.endpoint import Endpoint, arguments_of, usage_of
from dspex.execution.clients.identity import served
from dspex.execution.clients.language_model import Capability, Emit, Request, Response
from dspex.execution.clients.telling import Telling
from dspex.execution.clients.transport import Transport
from dspex.language.records import Message, ToolCall, Usage


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


class _End(msgspec.Struct):
    type: str = ""
    text: str = ""
    partial_json: str = ""
    stop_reason: str | None = None


class _Event(msgspec.Struct):
    type: str
    index: int = 0
    message: _Reply | None = None
    content_block: _Block | None = None
    delta: _End | None = None
    usage: _Usage | None = None
    error: Any = None


_decode = msgspec.json.Decoder(_Reply).decode
_decode_event = msgspec.json.Decoder(_Event).decode


class AnthropicModel:
    """One model of Anthropic. It follows no schema by force: the chat layout suits it, or the adapter "tools"."""

    def __init__(
        self,
        model: str,
        *,
        api_key: str | None = None,
        base_url: str = "https://api.anthropic.com/v1",
        max_tokens: int = 4096,
        transport: Transport | None = None,
    ) -> None:
        """Take the model's name; `max_tokens` is the limit of a reply where a request sets none (the API wants one)."""
        address = ServerAddress.of(base_url)
        self.name = f"anthropic/{model}"
        self.identity = served(model, address, name=self.name)
        self.capabilities: frozenset[Capability] = frozenset({"tools", "streaming"})
        self._model = model
        self.reply_limit = max_tokens
        headers = {"anthropic-version": "2023-06-01", **({"x-api-key": api_key} if api_key else {})}
        self._endpoint = Endpoint(self.name, address, "messages", headers=headers, transport=transport)
        self._price = self.identity.price

    def __repr__(self) -> str:
        return f"AnthropicModel({self._model!r}, url={self._endpoint.url!r})"

    async def complete(self, request: Request) -> Response:
        """Answer `request` with one POST; see `LanguageModel.complete`."""
        return self._whole(self._endpoint.checked(await self._endpoint.post(self._body(request))))

    async def stream(self, request: Request, emit: Emit) -> Response:
        """Answer `request` piece by piece; see `StreamingModel.stream`."""
        telling = Telling(request, emit)
        gathered = _Gathered(self._endpoint, telling)
        whole = await self._endpoint.events({**self._body(request), "stream": True}, gathered.take)
        return await telling.end(self._response(gathered.reply()) if whole is None else self._whole(whole))

    async def aclose(self) -> None:
        """Close this loop's connections."""
        await self._endpoint.aclose()

    def _whole(self, body: bytes) -> Response:
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
            tool_calls=tuple(ToolCall(b.id, b.name, b.input) for b in reply.content if b.type == "tool_use"),
        )

    def _usage(self, found: _Usage) -> tuple[Usage, str | None]:
        cached = found.cache_read_input_tokens or 0  # the API counts these apart from its input tokens
        given = (found.input_tokens or 0, cached, found.cache_creation_input_tokens or 0)
        return usage_of(self._price, given=given, made=(found.output_tokens or 0,), cached=cached)

    def _body(self, request: Request) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self._model,
            "max_tokens": request.max_tokens or self.reply_limit,
            "messages": _turns(request.messages),
        }
        if system := "\n\n".join(message.content for message in request.messages if message.role == "system"):
            body["system"] = system
        for name in ("temperature", "top_p"):
            if (value := getattr(request, name)) is not None:
                body[name] = value
        if request.stop:
            body["stop_sequences"] = request.stop
        if request.tools:
            body["tools"] = [
                {"name": tool.name, "description": tool.description, "input_schema": tool.parameters}
                for tool in request.tools
            ]
            words = {"auto": {"type": "auto"}, "required": {"type": "any"}, "none": {"type": "none"}}
            body["tool_choice"] = words.get(request.tool_choice, {"type": "tool", "name": request.tool_choice})
        return body


def _turns(messages: tuple[Message, ...]) -> list[dict[str, Any]]:
    """Return the turns; results of tools are the user's, and turns of one role in a row are one."""
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
        return [{"type": "tool_result", "tool_use_id": message.tool_call_id, "content": message.content}]
    text = [{"type": "text", "text": message.content}] if message.content else []
    calls = [
        {"type": "tool_use", "id": call.id, "name": call.name, "input": call.arguments} for call in message.tool_calls
    ]
    return [*text, *calls]


class _Gathered:
    """The events of one stream, put together."""

    def __init__(self, endpoint: Endpoint, telling: Telling) -> None:
        self._endpoint = endpoint
        self._telling = telling
        self._blocks: dict[int, _Block] = {}
        self._json: dict[int, str] = {}
        self._usage = _Usage()
        self._stop_reason: str | None = None
        self._is_whole = False

    async def take(self, data: bytes) -> None:
        """Take one event in, and tell its text."""
        event = self._endpoint.read(_decode_event, data)
        if event.type == "error":
            raise self._endpoint.failed(event.error)
        if event.type == "message_start" and event.message is not None:
            self._usage = event.message.usage or self._usage
        elif event.type == "content_block_start" and event.content_block is not None:
            self._blocks[event.index] = event.content_block
        elif event.type == "content_block_delta" and event.delta is not None:
            await self._more(event.index, event.delta)
        elif event.type == "message_delta" and event.delta is not None:
            self._stop_reason = event.delta.stop_reason
            if event.usage is not None:
                self._usage.output_tokens = event.usage.output_tokens
        self._is_whole = self._is_whole or event.type == "message_stop"

    async def _more(self, index: int, delta: _End) -> None:
        block = self._blocks.setdefault(index, _Block(type="text"))
        if delta.type == "input_json_delta":
            self._json[index] = self._json.get(index, "") + delta.partial_json
            await self._telling.arguments(delta.partial_json, index)
        elif delta.text:
            block.text += delta.text
            await self._telling.text(delta.text)

    def reply(self) -> _Reply:
        """Return the whole reply; a stream without an end is an error."""
        if not self._is_whole:
            raise self._endpoint.cut_off()
        for index, text in self._json.items():
            self._blocks[index].input = arguments_of(text)
        blocks = [self._blocks[index] for index in sorted(self._blocks)]
        return _Reply(blocks, self._stop_reason, self._usage)
