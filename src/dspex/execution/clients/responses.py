"""Models with the OpenAI Responses protocol.

Protocol: the public API reference of OpenAI, "Responses".
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from dspex.arguments import checks_names
from dspex.errors import RefusedError
from dspex.execution.clients.address import ServerAddress
from dspex.execution.clients.chunk_forwarder import ChunkForwarder
from dspex.execution.clients.endpoint import ModelEndpoint, arguments_of, usage_of
from dspex.execution.clients.identity import server_identity
from dspex.execution.clients.language_model import Capability, Emit, Request, Response
from dspex.execution.clients.modalities import Modality, check_media, modalities_of
from dspex.execution.clients.transport import Transport
from dspex.language.records import Message, ToolCall
from dspex.language.records.message import FilePart, Part, TextPart


class _Content(msgspec.Struct):
    type: str
    text: str = ""
    refusal: str = ""


class _Item(msgspec.Struct):
    type: str
    content: list[_Content] | None = None
    call_id: str = ""
    name: str = ""
    arguments: str = ""


class _InputDetails(msgspec.Struct):
    cached_tokens: int = 0


class _OutputDetails(msgspec.Struct):
    reasoning_tokens: int = 0


class _Usage(msgspec.Struct):
    input_tokens: int = 0
    output_tokens: int = 0
    input_tokens_details: _InputDetails | None = None
    output_tokens_details: _OutputDetails | None = None


class _Reply(msgspec.Struct):
    output: list[_Item]
    status: str = "completed"
    usage: _Usage | None = None
    error: Any = None


class _Event(msgspec.Struct):
    type: str
    delta: Any = None
    response: _Reply | None = None
    message: str = ""
    output_index: int = 0


_decode = msgspec.json.Decoder(_Reply).decode
_decode_event = msgspec.json.Decoder(_Event).decode


@checks_names
class ResponsesModel:
    """One model at one endpoint of the Responses protocol. The provider stores nothing."""

    def __init__(
        self,
        model: str,
        *,
        api_key: str | None = None,
        base_url: str = "https://api.openai.com/v1",
        name: str | None = None,
        transport: Transport | None = None,
        revision: str = "",
        media: Iterable[Modality] | None = None,
    ) -> None:
        """Take the model's name and address; the arguments are those of `OpenAIModel`.

        This protocol has no recordings.
        """
        address = ServerAddress.of(base_url)
        self.name = name or model
        self.identity = server_identity(model, address, name=name, revision=revision)
        self.capabilities: frozenset[Capability] = frozenset(
            {"response_schema", "json_mode", "tools", "streaming"}
        )
        self.capabilities |= modalities_of(model, media) - {"audio"}
        self._model = model
        headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
        self._endpoint = ModelEndpoint(
            self.name, address, "responses", headers=headers, transport=transport
        )
        self._price = self.identity.price

    def __repr__(self) -> str:
        return f"ResponsesModel({self._model!r}, url={self._endpoint.url!r})"

    async def complete(self, request: Request) -> Response:
        """Answer `request` with one POST; see `LanguageModel.complete`."""
        return self._read_response(
            self._endpoint.check(await self._endpoint.post(self._body(request)))
        )

    async def stream(self, request: Request, emit: Emit) -> Response:
        """Answer `request` in chunks; see `StreamingModel.stream`."""
        replies: list[_Reply] = []
        forwarder = ChunkForwarder(request, emit)

        async def take(data: bytes) -> None:
            if data == b"[DONE]":
                return
            event = self._endpoint.read(_decode_event, data)
            if event.type == "response.output_text.delta" and isinstance(event.delta, str):
                await forwarder.text(event.delta)
            elif event.type == "response.function_call_arguments.delta" and isinstance(
                event.delta, str
            ):
                await forwarder.arguments(event.delta, event.output_index)
            elif (
                event.type in {"response.completed", "response.incomplete"}
                and event.response is not None
            ):
                replies.append(event.response)
            elif event.type in {"response.failed", "error"}:
                raise self._endpoint.stream_error(
                    event.response.error if event.response else event.message
                )

        body = await self._endpoint.events({**self._body(request), "stream": True}, take)
        if body is not None:
            return await forwarder.end(self._read_response(body))
        if not replies:
            raise self._endpoint.truncated_error()
        return await forwarder.end(self._response(replies[-1]))

    async def aclose(self) -> None:
        """Close this loop's connections."""
        await self._endpoint.aclose()

    def _read_response(self, body: bytes) -> Response:
        return self._response(self._endpoint.read(_decode, body))

    def _response(self, reply: _Reply) -> Response:
        if reply.error is not None:
            raise self._endpoint.stream_error(reply.error)
        parts = [
            part for item in reply.output if item.type == "message" for part in item.content or ()
        ]
        refusals = [part.refusal for part in parts if part.type == "refusal"]
        calls = [item for item in reply.output if item.type == "function_call"]
        text = "".join(part.text for part in parts if part.type == "output_text")
        if refusals and not text:
            raise RefusedError(f"{self.name} refuses: {refusals[0]}")
        counts = reply.usage or _Usage()
        usage, ignored = usage_of(
            self._price,
            input_counts=(counts.input_tokens,),
            output_counts=(counts.output_tokens,),
            cached=counts.input_tokens_details.cached_tokens if counts.input_tokens_details else 0,
            reasoning=counts.output_tokens_details.reasoning_tokens
            if counts.output_tokens_details
            else 0,
        )
        return Response(
            text=text,
            usage=usage,
            ignored=ignored,
            model=self.name,
            identity=self.identity,
            finish_reason="length" if reply.status == "incomplete" else "stop",
            tool_calls=tuple(
                ToolCall(item.call_id, item.name, arguments_of(item.arguments)) for item in calls
            ),
        )

    def _body(self, request: Request) -> dict[str, Any]:
        check_media(self, request.messages)
        items = [item for message in request.messages for item in _items(message)]
        body: dict[str, Any] = {"model": self._model, "input": items, "store": False}
        for name, value in (
            ("temperature", request.temperature),
            ("top_p", request.top_p),
            ("max_output_tokens", request.max_tokens),
        ):
            if value is not None:
                body[name] = value
        if request.response_schema is not None:
            schema = request.response_schema
            body["text"] = {
                "format": {
                    "type": "json_schema",
                    "name": "outputs",
                    "strict": True,
                    "schema": schema,
                }
            }
        elif request.json_mode:
            body["text"] = {"format": {"type": "json_object"}}
        if request.tools:
            body["tools"] = [
                {
                    "type": "function",
                    "name": tool.name,
                    "description": tool.description,
                    "parameters": tool.parameters,
                    "strict": False,
                }
                for tool in request.tools
            ]
            choice = request.tool_choice
            is_word = choice in {"auto", "required", "none"}
            body["tool_choice"] = choice if is_word else {"type": "function", "name": choice}
        return body


def _items(message: Message) -> list[dict[str, Any]]:
    if message.role == "tool":
        return [
            {
                "type": "function_call_output",
                "call_id": message.tool_call_id,
                "output": message.text,
            }
        ]
    calls = [
        {
            "type": "function_call",
            "call_id": call.id,
            "name": call.name,
            "arguments": msgspec.json.encode(call.arguments).decode(),
        }
        for call in message.tool_calls
    ]
    content = (
        message.content
        if isinstance(message.content, str)
        else [_part(part) for part in message.content]
    )
    text = [{"role": message.role, "content": content}] if content or not calls else []
    return [*text, *calls]


def _part(part: Part) -> dict[str, Any]:
    if isinstance(part, TextPart):
        return {"type": "input_text", "text": part.text}
    if isinstance(part, FilePart):
        if part.url:
            return {"type": "input_file", "file_url": part.url}
        name = part.name or "file.pdf"
        return {"type": "input_file", "filename": name, "file_data": part.address}
    detail = getattr(part, "detail", None) or "auto"
    return {"type": "input_image", "image_url": part.address, "detail": detail}
