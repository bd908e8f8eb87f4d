"""Models behind the OpenAI chat-completions protocol: OpenAI itself, vLLM, Ollama, llama.cpp and many more.

Protocol: the public API reference of OpenAI, "Create chat completion".
"""

from typing import Any, NoReturn

import msgspec

from dspex.errors import (
    ContextTooLongError,
    ModelError,
    ModelUnavailableError,
    RateLimitedError,
    RefusedError,
    shorten,
)
from dspex.execution.clients.language_model import Capability, Request, Response
from dspex.execution.clients.prices import Price, price_of
from dspex.execution.clients.transport import Answer, Transport
from dspex.language.records import Usage


class _Message(msgspec.Struct):
    content: str | None = None
    refusal: str | None = None


class _Choice(msgspec.Struct):
    message: _Message
    finish_reason: str | None = None


class _InputDetails(msgspec.Struct):
    cached_tokens: int | None = 0


class _OutputDetails(msgspec.Struct):
    reasoning_tokens: int | None = 0


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: _InputDetails | None = None
    completion_tokens_details: _OutputDetails | None = None


class _Reply(msgspec.Struct):
    choices: list[_Choice]
    usage: _Usage | None = None


_decode = msgspec.json.Decoder(_Reply).decode
_encode = msgspec.json.Encoder().encode


class OpenAIModel:
    """One model at one endpoint. The key goes into a header and nowhere else."""

    def __init__(
        self,
        model: str,
        *,
        base_url: str = "https://api.openai.com/v1",
        api_key: str | None = None,
        name: str | None = None,
        transport: Transport | None = None,
    ) -> None:
        """Take what the endpoint calls the model.

        Args:
            model: the name in the request body.
            base_url: up to and including the version, without `/chat/completions`.
            api_key: sent as a bearer token; None sends no credentials.
            name: what usage and prices go by ("openai/gpt-4o-mini"); the model's name by default.
            transport: shared connections; its own by default.
        """
        self.name = name or model
        self.capabilities: frozenset[Capability] = frozenset({"response_schema", "json_mode", "seed"})
        self._model = model
        self._url = f"{base_url.rstrip('/')}/chat/completions"
        self._headers = {"content-type": "application/json"}
        if api_key:
            self._headers["authorization"] = f"Bearer {api_key}"
        self._transport = transport or Transport()
        self._price: Price | None = price_of(self.name)

    def __repr__(self) -> str:
        return f"OpenAIModel({self._model!r}, url={self._url!r})"

    async def complete(self, request: Request) -> Response:
        """Answer `request` with one POST; see `LanguageModel.complete`."""
        answer = await self._transport.post(self._url, _encode(self._body(request)), self._headers)
        if answer.status != 200:
            self._fail(answer)
        try:
            reply = _decode(answer.body)
            choice = reply.choices[0]
        except (msgspec.DecodeError, IndexError, UnicodeDecodeError) as error:
            raise ModelError(
                f"{self._url} answered with something that is no chat completion: {error}; the body begins "
                f"{shorten(answer.body[:120])}. Check that the URL ends in the API version (such as /v1)"
            ) from error
        if choice.message.content is None and choice.message.refusal:
            raise RefusedError(f"{self.name} refuses: {choice.message.refusal}")
        return Response(
            text=choice.message.content or "",
            usage=self._usage(reply.usage or _Usage()),
            model=self.name,
            finish_reason=choice.finish_reason,
        )

    async def aclose(self) -> None:
        """Close this loop's connections."""
        await self._transport.aclose()

    def _body(self, request: Request) -> dict[str, Any]:
        body: dict[str, Any] = {"model": self._model, "messages": request.messages}
        for name in ("temperature", "max_tokens", "top_p", "seed"):
            if (value := getattr(request, name)) is not None:
                body[name] = value
        if request.stop:
            body["stop"] = request.stop
        if request.response_schema is not None:
            shape = {"name": "outputs", "strict": True, "schema": request.response_schema}
            body["response_format"] = {"type": "json_schema", "json_schema": shape}
        elif request.json_mode:
            body["response_format"] = {"type": "json_object"}
        return body

    def _usage(self, found: _Usage) -> Usage:
        cached = (found.prompt_tokens_details and found.prompt_tokens_details.cached_tokens) or 0
        price = self._price
        return Usage(
            input_tokens=found.prompt_tokens,
            output_tokens=found.completion_tokens,
            cached_tokens=cached,
            reasoning_tokens=(found.completion_tokens_details and found.completion_tokens_details.reasoning_tokens)
            or 0,
            calls=1,
            cost_usd=None
            if price is None
            else price.cost(found.prompt_tokens, found.completion_tokens, cached_tokens=cached),
        )

    def _fail(self, answer: Answer) -> NoReturn:
        code, said = _error_of(answer.body)
        message = f"{self.name} at {self._url} answered {answer.status}: {said}"
        if code == "context_length_exceeded" or (answer.status == 400 and "context length" in said.lower()):
            raise ContextTooLongError(message)
        if answer.status == 429:
            raise RateLimitedError(message, retry_after=_seconds(answer.headers.get("retry-after")))
        if answer.status >= 500 or answer.status == 408:
            raise ModelUnavailableError(message, retry_after=_seconds(answer.headers.get("retry-after")))
        hint = {401: " Is the API key set and right?", 404: " Is the model's name right, and the base URL?"}
        raise RefusedError(message + hint.get(answer.status, ""), status=answer.status)


def _error_of(body: bytes) -> tuple[str, str]:
    """Return (code, message) of an error body, whatever shape it has."""
    try:
        found = msgspec.json.decode(body)
        error = found.get("error", found)
        if isinstance(error, dict):
            return str(error.get("code") or ""), str(error.get("message") or error)
        return "", str(error)
    except (msgspec.DecodeError, AttributeError, UnicodeDecodeError):
        return "", shorten(body[:200].decode(errors="replace"))


def _seconds(text: str | None) -> float | None:
    """Read Retry-After in its form of seconds; the form of a date is not used by model providers."""
    try:
        return None if text is None else max(0.0, float(text))
    except ValueError:
        return None
