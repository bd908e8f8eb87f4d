"""Shared by all provider clients: post to one URL, and classify failures."""

import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NoReturn, TypeVar

import msgspec

from dspex.error_text import shorten
from dspex.errors import (
    ContextTooLongError,
    ModelError,
    ModelUnavailableError,
    RateLimitedError,
    RefusedError,
)
from dspex.execution.clients.address import ServerAddress
from dspex.execution.clients.prices import Price
from dspex.execution.clients.providers import SELF_HOSTED, provider_at
from dspex.execution.clients.transport import Answer, Transport
from dspex.language.records import Usage
from dspex.language.records.canonical import json_bytes

T = TypeVar("T")
Counts = tuple[int, ...]
LARGEST = 1_000_000_000  # tokens of one call; a larger number is not a plausible count
LONGEST = 86_400.0  # seconds that a server may ask to wait
_KEYED = {"authorization", "x-api-key", "x-goog-api-key"}
_SECRET = 16  # characters; a shorter key, such as "none" for a local server, is not a secret
_SHORT = 4  # the same for credentials in a URL
_NOT_QUOTED = "(its message is hidden, because a workspace chose that server)"
_SILENT = "(it gave no reason)"
_MAX_QUOTE = 2000  # characters of a server's error message
_TOO_LONG = (
    "context length",
    "context window",
    "prompt is too long",
    "maximum number of tokens",
    "context_length",
)


class ModelEndpoint:
    """One URL of a model server; `url` is without credentials and may be shown."""

    def __init__(
        self,
        name: str,
        address: ServerAddress,
        path: str,
        *,
        headers: Mapping[str, str],
        transport: Transport | None = None,
    ) -> None:
        """Take the URL and headers to post with.

        Error messages quote what a provider answers. Of any other server (which may be any service
        in the network) they quote only what looks like a model error, and nothing if the transport
        forbids it.

        `headers` and `address` may hold keys: these are removed from replies that repeat them.
        Credentials in the address replace a bearer token.
        """
        self.name = name
        self.url = address.public_url(path)
        provider = provider_at(address.base_url)
        self._is_provider = provider is not None
        self._address = address
        self._target = address.url(path)
        self._headers = {"content-type": "application/json", **headers, **address.headers}
        tokens = [
            value.removeprefix("Bearer ") for name, value in headers.items() if name in _KEYED
        ]
        keys = {key for key in tokens if len(key) >= _SECRET} | {
            key for key in address.secrets if len(key) >= _SHORT
        }
        self._keys = [key.encode() for key in sorted(keys, key=len, reverse=True)]
        self._transport = transport or Transport()
        self._quotes_errors = self._transport.quotes_errors or (
            self._is_provider and provider not in SELF_HOSTED
        )

    def post(self, body: Mapping[str, Any]) -> Awaitable[Answer]:
        """Send one request; pass the answer to `check`."""
        return self._transport.post(self._target, json_bytes(body), self._headers)

    def check(self, answer: Answer) -> bytes:
        """Return the body of a successful answer.

        Raises:
            ModelError: the answer is an error; the class says what happened.
        """
        if answer.status != 200:
            self._fail(answer)
        return self._without_keys(answer.body)

    async def events(
        self,
        body: Mapping[str, Any],
        take: Callable[[bytes], Awaitable[None]],
        *,
        path: str | None = None,
    ) -> bytes | None:
        """Pass the data of each event to `take`; return the body if the answer is not a stream.

        `path` is the path of streams, if it differs from that of other requests.

        Raises:
            ModelError: the class says what happened.
        """
        target = self._target if path is None else self._address.url(path)
        answer = await self._transport.events(
            target, json_bytes(body), headers=self._headers, take=take
        )
        if answer is not None and answer.status != 200:
            self._fail(answer)
        return None if answer is None else self._without_keys(answer.body)

    async def aclose(self) -> None:
        """Close this loop's connections."""
        await self._transport.aclose()

    def read(self, decode: Callable[[bytes], T], body: bytes) -> T:
        """Decode a body, or the data of an event.

        Raises:
            ModelError: it is not a model reply.
        """
        try:
            return decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise self.unreadable_error(error, body) from error

    def unreadable_error(self, error: Exception, body: bytes) -> ModelError:
        """Return the error for an answer that is not a model reply."""
        start = (
            f"; the body begins {shorten(self._without_keys(body)[:120])}"
            if self._is_provider
            else ""
        )
        return ModelError(
            f"{self.url} answered with something that is not a model reply: {error}, in "
            f"{len(body)} bytes{start}. Check that the URL ends in the API version (such as /v1)"
        )

    def truncated_error(self) -> ModelError:
        """Return the error for a stream that ended early."""
        return ModelUnavailableError(f"{self.url} ended its stream before the reply was complete")

    def stream_error(self, error: object) -> ModelError:
        """Return the error for an error event of a stream."""
        message = error.get("message") if isinstance(error, Mapping) else error
        if not isinstance(message, str):
            message = str(error)[:_MAX_QUOTE] if self._is_provider else _SILENT
        text = (
            self._without_keys(message[:_MAX_QUOTE].encode(errors="replace")).decode()
            if self._quotes_errors
            else _NOT_QUOTED
        )
        return ModelUnavailableError(
            f"{self.name} at {self.url} failed in the middle of its reply: {text}"
        )

    def _without_keys(self, body: bytes) -> bytes:
        for key in self._keys:
            if key in body:
                body = body.replace(key, b"(secret)")
        return body

    def _fail(self, answer: Answer) -> NoReturn:
        code, reason = _error_of(self._without_keys(answer.body), quotes_all=self._is_provider)
        text = reason if self._quotes_errors else _NOT_QUOTED
        message = f"{self.name} at {self.url} answered {answer.status}: {text}"
        is_long = answer.status in {400, 413, 422} and any(
            words in reason.lower() for words in _TOO_LONG
        )
        if code == "context_length_exceeded" or is_long:
            raise ContextTooLongError(message)
        if answer.status == 429:
            raise RateLimitedError(message, retry_after=_seconds(answer.headers.get("retry-after")))
        if answer.status >= 500 or answer.status == 408:
            after = _seconds(answer.headers.get("retry-after"))
            raise ModelUnavailableError(message, retry_after=after, status=answer.status)
        hint = {
            401: " Is the API key set and right?",
            404: " Is the model's name right, and the base URL?",
        }
        raise RefusedError(message + hint.get(answer.status, ""), status=answer.status)


def usage_of(
    price: Price | None,
    *,
    input_counts: Counts,
    output_counts: Counts,
    cached: int = 0,
    reasoning: int = 0,
) -> tuple[Usage, str | None]:
    """Return the usage of one call, and a text with the implausible counts that were ignored.

    The cost is None if the price is unknown, or if the input or output counts were ignored: then
    both are 0, which budgets treat as an answer without counts.

    Args:
        price: the price of the model.
        input_counts: tokens of the prompt, in the parts that the server counts.
        output_counts: tokens of the reply, in the parts that the server counts.
        cached: how many input tokens came from a cache.
        reasoning: how many output tokens are reasoning.
    """
    if _are_counts(input_counts) and _are_counts(output_counts):
        input_tokens, output_tokens = sum(input_counts), sum(output_counts)
        if 0 <= cached <= input_tokens and 0 <= reasoning <= LARGEST:
            cost = (
                None
                if price is None
                else price.cost(input_tokens, output_tokens, cached_tokens=cached)
            )
            usage = Usage(
                input_tokens=input_tokens,
                output_tokens=output_tokens,
                cached_tokens=cached,
                reasoning_tokens=reasoning,
                calls=1,
                cost_usd=cost,
            )
            return usage, None
        usage, _ = usage_of(price, input_counts=input_counts, output_counts=output_counts)
        return usage, f"cached {shorten(cached, 40)}, reasoning {shorten(reasoning, 40)}"
    return Usage(
        calls=1, cost_usd=None
    ), f"input {shorten(input_counts, 80)}, output {shorten(output_counts, 80)}"


def _are_counts(parts: Counts) -> bool:
    return min(parts, default=0) >= 0 and max(parts, default=0) <= LARGEST


def arguments_of(text: str | None) -> dict[str, Any]:
    """Parse the JSON arguments of a tool call; text that is not an object is returned under `""`.

    The tool's validation then reports the error to the model.
    """
    try:
        arguments = msgspec.json.decode(text or "{}")
    except msgspec.DecodeError:
        return {"": text}
    return arguments if isinstance(arguments, dict) else {"": text}


def _error_of(body: bytes, *, quotes_all: bool) -> tuple[str, str]:
    """Return (code, message) of an error body; for any other body its beginning or its size."""
    try:
        content = msgspec.json.decode(body)
        content = content[0] if isinstance(content, list) else content
        error = content.get("error", content)
        code = str(error.get("code") or error.get("type") or "") if isinstance(error, dict) else ""
        message = error.get("message") if isinstance(error, dict) else error
        if isinstance(message, str) and message:
            return code, message[:_MAX_QUOTE]
        if quotes_all:
            return code, str(error)[:_MAX_QUOTE]
    except (msgspec.DecodeError, AttributeError, UnicodeDecodeError, IndexError):
        if quotes_all:
            return "", shorten(body[:200].decode(errors="replace"))
    return "", f"{len(body)} bytes that are not a model error"


def _seconds(text: str | None) -> float | None:
    """Parse Retry-After in seconds; model providers do not use the date form."""
    try:
        seconds = 0.0 if text is None else float(text)
    except ValueError:
        return None
    return None if text is None or not math.isfinite(seconds) else min(max(0.0, seconds), LONGEST)
