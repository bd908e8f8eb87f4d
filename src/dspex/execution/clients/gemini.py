"""Models of Google, through the Gemini API.

Protocol: the public API reference, "generateContent" and "streamGenerateContent" (v1beta).
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from dspex.arguments import checks_names
from dspex.errors import RefusedError
from dspex.execution.clients.address import ServerAddress
from dspex.execution.clients.chunk_forwarder import ChunkForwarder
from dspex.execution.clients.endpoint import ModelEndpoint, usage_of
from dspex.execution.clients.identity import server_identity
from dspex.execution.clients.language_model import Capability, Emit, Request, Response
from dspex.execution.clients.modalities import Modality, check_media, modalities_of
from dspex.execution.clients.transport import Transport
from dspex.language.records import Message, ToolCall
from dspex.language.records.message import Part, TextPart


class _Call(msgspec.Struct):
    name: str
    args: dict[str, Any] | None = None


class _Part(msgspec.Struct, rename="camel"):
    text: str = ""
    thought: bool = False
    function_call: _Call | None = None


class _Content(msgspec.Struct):
    parts: list[_Part] = []


class _Candidate(msgspec.Struct, rename="camel"):
    content: _Content | None = None
    finish_reason: str | None = None


class _Usage(msgspec.Struct, rename="camel"):
    prompt_token_count: int = 0
    candidates_token_count: int = 0
    thoughts_token_count: int = 0
    cached_content_token_count: int = 0


class _PromptFeedback(msgspec.Struct, rename="camel"):
    block_reason: str | None = None


class _Reply(msgspec.Struct, rename="camel"):
    candidates: list[_Candidate] = []
    usage_metadata: _Usage | None = None
    prompt_feedback: _PromptFeedback | None = None
    error: Any = None


_decode = msgspec.json.Decoder(_Reply).decode


@checks_names
class GeminiModel:
    """One model of Google. The key goes into a header, not into the URL, which logs would keep."""

    def __init__(
        self,
        model: str,
        *,
        api_key: str | None = None,
        base_url: str = "https://generativelanguage.googleapis.com/v1beta",
        transport: Transport | None = None,
        media: Iterable[Modality] | None = None,
    ) -> None:
        """Take the model's name; `media` is as in `OpenAIModel`."""
        address = ServerAddress.of(base_url)
        self.name = f"gemini/{model}"
        self.identity = server_identity(model, address, name=self.name)
        self.capabilities: frozenset[Capability] = frozenset(
            {"response_schema", "json_mode", "seed", "tools", "streaming"}
        )
        self.capabilities |= modalities_of(model, media)
        self._model = model
        self._path = f"models/{model}"
        headers = {"x-goog-api-key": api_key} if api_key else {}
        self._endpoint = ModelEndpoint(
            self.name,
            address,
            f"{self._path}:generateContent",
            headers=headers,
            transport=transport,
        )
        self._price = self.identity.price

    def __repr__(self) -> str:
        return f"GeminiModel({self._model!r}, url={self._endpoint.url!r})"

    async def complete(self, request: Request) -> Response:
        """Answer `request` with one POST; see `LanguageModel.complete`."""
        body = self._endpoint.check(await self._endpoint.post(self._body(request)))
        return self._response([self._read(body)], body)

    async def stream(self, request: Request, emit: Emit) -> Response:
        """Answer `request` in chunks; see `StreamingModel.stream`."""
        chunks: list[_Reply] = []
        forwarder = ChunkForwarder(request, emit)

        async def take(data: bytes) -> None:
            chunk = self._read(data)
            if chunk.error is not None:
                raise self._endpoint.stream_error(chunk.error)
            chunks.append(chunk)
            await forwarder.text(_text(chunk))
            for part in _candidate_parts(chunk):
                if part.function_call is not None:
                    await forwarder.values(part.function_call.args)

        path = f"{self._path}:streamGenerateContent?alt=sse"
        body = await self._endpoint.events(self._body(request), take, path=path)
        if body is not None:
            return await forwarder.end(self._response([self._read(body)], body))
        is_finished = any(
            candidate.finish_reason for chunk in chunks for candidate in chunk.candidates[:1]
        )
        if not is_finished and not any(chunk.prompt_feedback for chunk in chunks):
            raise self._endpoint.truncated_error()
        return await forwarder.end(self._response(chunks, b""))

    async def aclose(self) -> None:
        """Close this loop's connections."""
        await self._endpoint.aclose()

    def _read(self, body: bytes) -> _Reply:
        return self._endpoint.read(_decode, body)

    def _response(self, chunks: list[_Reply], body: bytes) -> Response:
        candidates = [chunk.candidates[0] for chunk in chunks if chunk.candidates]
        if not candidates:
            block_reason = next(
                (c.prompt_feedback.block_reason for c in chunks if c.prompt_feedback), None
            )
            if block_reason:
                raise RefusedError(f"{self.name} refuses the prompt: {block_reason}")
            raise self._endpoint.unreadable_error(ValueError("it has no candidates"), body)
        parts = [
            part
            for candidate in candidates
            for part in (candidate.content.parts if candidate.content else ())
        ]
        counts = next(
            (chunk.usage_metadata for chunk in reversed(chunks) if chunk.usage_metadata), _Usage()
        )
        usage, ignored = usage_of(
            self._price,
            input_counts=(counts.prompt_token_count,),
            output_counts=(counts.candidates_token_count, counts.thoughts_token_count),
            cached=counts.cached_content_token_count,
            reasoning=counts.thoughts_token_count,
        )
        return Response(
            text="".join(_text(chunk) for chunk in chunks),
            usage=usage,
            ignored=ignored,
            model=self.name,
            identity=self.identity,
            finish_reason=next(
                (
                    candidate.finish_reason
                    for candidate in reversed(candidates)
                    if candidate.finish_reason
                ),
                None,
            ),
            tool_calls=tuple(
                ToolCall(f"call_{n}", part.function_call.name, part.function_call.args or {})
                for n, part in enumerate(parts)
                if part.function_call is not None
            ),
        )

    def _body(self, request: Request) -> dict[str, Any]:
        check_media(self, request.messages)
        body: dict[str, Any] = {"contents": _turns(request.messages)}
        if system := "\n\n".join(
            message.text for message in request.messages if message.role == "system"
        ):
            body["systemInstruction"] = {"parts": [{"text": system}]}
        if settings := _settings(request):
            body["generationConfig"] = settings
        if request.tools:
            body["tools"] = [
                {
                    "functionDeclarations": [
                        {
                            "name": tool.name,
                            "description": tool.description,
                            "parametersJsonSchema": tool.parameters,
                        }
                        for tool in request.tools
                    ]
                }
            ]
            choices = {
                "auto": {"mode": "AUTO"},
                "required": {"mode": "ANY"},
                "none": {"mode": "NONE"},
            }
            choice = {"mode": "ANY", "allowedFunctionNames": [request.tool_choice]}
            body["toolConfig"] = {"functionCallingConfig": choices.get(request.tool_choice, choice)}
        return body


def _text(chunk: _Reply) -> str:
    return "".join(part.text for part in _candidate_parts(chunk) if not part.thought)


def _candidate_parts(chunk: _Reply) -> list[_Part]:
    content = chunk.candidates[0].content if chunk.candidates else None
    return content.parts if content is not None else []


def _settings(request: Request) -> dict[str, Any]:
    settings = {
        "temperature": request.temperature,
        "maxOutputTokens": request.max_tokens,
        "topP": request.top_p,
        "seed": request.seed,
        "stopSequences": request.stop or None,
        "responseJsonSchema": request.response_schema,
        "responseMimeType": "application/json"
        if request.response_schema or request.json_mode
        else None,
    }
    return {name: value for name, value in settings.items() if value is not None}


def _turns(messages: tuple[Message, ...]) -> list[dict[str, Any]]:
    turns: list[dict[str, Any]] = []
    names: dict[str, str] = {
        call.id: call.name for message in messages for call in message.tool_calls
    }
    for message in messages:
        if message.role == "system":
            continue
        role = "model" if message.role == "assistant" else "user"
        parts = _parts(message, names)
        if turns and turns[-1]["role"] == role:
            turns[-1]["parts"] += parts
        else:
            turns.append({"role": role, "parts": parts})
    return turns


def _parts(message: Message, names: dict[str, str]) -> list[dict[str, Any]]:
    if message.role == "tool":
        name = names.get(message.tool_call_id or "", "")
        return [{"functionResponse": {"name": name, "response": {"result": message.text}}}]
    content = message.content
    parts = (TextPart(content),) if isinstance(content, str) else content
    return [
        *(_part(part) for part in parts if not isinstance(part, TextPart) or part.text),
        *(
            {"functionCall": {"name": call.name, "args": call.arguments}}
            for call in message.tool_calls
        ),
    ]


def _part(part: Part) -> dict[str, Any]:
    if isinstance(part, TextPart):
        return {"text": part.text}
    if part.url:
        media_type = {"mimeType": part.media_type} if part.media_type else {}
        return {"fileData": {**media_type, "fileUri": part.url}}
    return {"inlineData": {"mimeType": part.media_type, "data": part.base64}}
