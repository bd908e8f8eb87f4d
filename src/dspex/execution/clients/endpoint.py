"""What all providers' clients share: posting to one URL, and telling failures apart."""

import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NoReturn, TypeVar

import msgspec

from dspex.errors import (
    ContextTooLongError,
    ModelError,
    ModelUnavailableError,
    RateLimitedError,
    RefusedError,
    shorten,
)
from dspex.execution.clients.address import ServerAddress
from dspex.execution.clients.prices import Price
from dspex.execution.clients.providers import SELF_HOSTED, provider_at
from dspex.execution.clients.transport import Answer, Transport
from dspex.language.records import Usage
from dspex.language.records.canonical import json_bytes

T = TypeVar("T")
Counts = tuple[int, ...]
LARGEST = 1_000_000_000  # tokens of one call; more is no count
LONGEST = 86_400.0  # seconds that a server may ask to wait
_KEYED = {"authorization", "x-api-key", "x-goog-api-key"}
_SECRET = 16  # characters; what is shorter, such as "none" for a server of one's own, is no secret
_SHORT = 4  # the same for credentials in a URL, which are there because they are some
_UNQUOTED = "(what it said is not shown: the server is none of this one's)"
_SILENT = "(it did not say why)"
_MOST = 2000  # characters of what a server says about an error
_TOO_LONG = ("context length", "context window", "prompt is too long", "maximum number of tokens", "context_length")


class Endpoint:
    """What is posted to at a server, with the name of the model behind it; `url` is shown, without credentials."""

    def __init__(
        self,
        name: str,
        address: ServerAddress,
        path: str,
        *,
        headers: Mapping[str, str],
        transport: Transport | None = None,
    ) -> None:
        """Take where to post.

        Error messages quote what a provider answers, and of any other server what has the form of an error of a model
        (it may be any service of a network), unless the transport says that nothing of it may be shown.

        `headers` and `address` may hold keys: these go nowhere else, also where the other side repeats them.
        Credentials in the address take the place of a bearer token.
        """
        self.name = name
        self.url = address.shown(path)
        provider = provider_at(address.base_url)
        self._is_provider = provider is not None
        self._address = address
        self._target = address.url(path)
        self._headers = {"content-type": "application/json", **headers, **address.headers}
        given = [value.removeprefix("Bearer ") for name, value in headers.items() if name in _KEYED]
        keys = {key for key in given if len(key) >= _SECRET} | {key for key in address.secrets if len(key) >= _SHORT}
        self._keys = [key.encode() for key in sorted(keys, key=len, reverse=True)]
        self._transport = transport or Transport()
        self._quotes_errors = self._transport.quotes_errors or (self._is_provider and provider not in SELF_HOSTED)

    def post(self, body: Mapping[str, Any]) -> Awaitable[Answer]:
        """Send one request; `checked` tells a good answer from a bad one."""
        return self._transport.post(self._target, json_bytes(body), self._headers)

    def checked(self, answer: Answer) -> bytes:
        """Return the body of a good answer.

        Raises:
            ModelError: it is none; the class says what happened.
        """
        if answer.status != 200:
            self._fail(answer)
        return self._keyless(answer.body)

    async def events(
        self, body: Mapping[str, Any], take: Callable[[bytes], Awaitable[None]], *, path: str | None = None
    ) -> bytes | None:
        """Give the data of each event to `take`; return the body of a good answer that is no stream.

        `path` is where streams are posted to, if not where everything else is.

        Raises:
            ModelError: the class says what happened.
        """
        target = self._target if path is None else self._address.url(path)
        answer = await self._transport.events(target, json_bytes(body), headers=self._headers, take=take)
        if answer is not None and answer.status != 200:
            self._fail(answer)
        return None if answer is None else self._keyless(answer.body)

    async def aclose(self) -> None:
        """Close this loop's connections."""
        await self._transport.aclose()

    def read(self, decode: Callable[[bytes], T], body: bytes) -> T:
        """Return what a body, or the data of an event, says.

        Raises:
            ModelError: it is no reply of a model.
        """
        try:
            return decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise self.unreadable(error, body) from error

    def unreadable(self, error: Exception, body: bytes) -> ModelError:
        """Return the error for an answer that is none."""
        start = f"; the body begins {shorten(self._keyless(body)[:120])}" if self._is_provider else ""
        return ModelError(
            f"{self.url} answered with something that is no reply of a model: {error}, in {len(body)} bytes{start}. "
            "Check that the URL ends in the API version (such as /v1)"
        )

    def cut_off(self) -> ModelError:
        """Return the error for a stream that ended before its end."""
        return ModelUnavailableError(f"{self.url} ended its stream before the reply was whole")

    def failed(self, said: object) -> ModelError:
        """Return the error that a stream carries as one of its events."""
        message = said.get("message") if isinstance(said, Mapping) else said
        if not isinstance(message, str):
            message = str(said)[:_MOST] if self._is_provider else _SILENT
        text = self._keyless(message[:_MOST].encode(errors="replace")).decode() if self._quotes_errors else _UNQUOTED
        return ModelUnavailableError(f"{self.name} at {self.url} failed in the middle of its reply: {text}")

    def _keyless(self, body: bytes) -> bytes:
        for key in self._keys:
            if key in body:
                body = body.replace(key, b"(secret)")
        return body

    def _fail(self, answer: Answer) -> NoReturn:
        code, said = _error_of(self._keyless(answer.body), quotes_all=self._is_provider)
        text = said if self._quotes_errors else _UNQUOTED
        message = f"{self.name} at {self.url} answered {answer.status}: {text}"
        is_long = answer.status in {400, 413, 422} and any(words in said.lower() for words in _TOO_LONG)
        if code == "context_length_exceeded" or is_long:
            raise ContextTooLongError(message)
        if answer.status == 429:
            raise RateLimitedError(message, retry_after=_seconds(answer.headers.get("retry-after")))
        if answer.status >= 500 or answer.status == 408:
            after = _seconds(answer.headers.get("retry-after"))
            raise ModelUnavailableError(message, retry_after=after, status=answer.status)
        hint = {401: " Is the API key set and right?", 404: " Is the model's name right, and the base URL?"}
        raise RefusedError(message + hint.get(answer.status, ""), status=answer.status)


def usage_of(
    price: Price | None, *, given: Counts, made: Counts, cached: int = 0, reasoning: int = 0
) -> tuple[Usage, str | None]:
    """Return the usage of one call, and which counts of the server were ignored because they can be none.

    The cost is None where the price is unknown, and where input or output was ignored: then both are 0, which budgets
    take for an answer without counts.

    Args:
        price: of the model.
        given: tokens of the prompt, in parts where the server counts them so.
        made: tokens of the reply, in the same way.
        cached: how many of the first came from a cache.
        reasoning: how many of the second are reasoning.
    """
    if _are_counts(given) and _are_counts(made):
        inside, outside = sum(given), sum(made)
        if 0 <= cached <= inside and 0 <= reasoning <= LARGEST:
            cost = None if price is None else price.cost(inside, outside, cached_tokens=cached)
            usage = Usage(
                input_tokens=inside,
                output_tokens=outside,
                cached_tokens=cached,
                reasoning_tokens=reasoning,
                calls=1,
                cost_usd=cost,
            )
            return usage, None
        usage, _ = usage_of(price, given=given, made=made)
        return usage, f"cached {shorten(cached, 40)}, reasoning {shorten(reasoning, 40)}"
    return Usage(calls=1, cost_usd=None), f"input {shorten(given, 80)}, output {shorten(made, 80)}"


def _are_counts(parts: Counts) -> bool:
    return all(0 <= part <= LARGEST for part in parts)


def arguments_of(text: str | None) -> dict[str, Any]:
    """Return the arguments of a tool call that come as JSON text; text that is no object is kept under `""`.

    The tool's own validation then says what is wrong with it, and the model gets to read that.
    """
    try:
        found = msgspec.json.decode(text or "{}")
    except msgspec.DecodeError:
        return {"": text}
    return found if isinstance(found, dict) else {"": text}


def _error_of(body: bytes, *, quotes_all: bool) -> tuple[str, str]:
    """Return (code, message) of an error body; of one without the form of an error the beginning, or its size."""
    try:
        found = msgspec.json.decode(body)
        found = found[0] if isinstance(found, list) else found
        error = found.get("error", found)
        code = str(error.get("code") or error.get("type") or "") if isinstance(error, dict) else ""
        message = error.get("message") if isinstance(error, dict) else error
        if isinstance(message, str) and message:
            return code, message[:_MOST]
        if quotes_all:
            return code, str(error)[:_MOST]
    except (msgspec.DecodeError, AttributeError, UnicodeDecodeError, IndexError):
        if quotes_all:
            return "", shorten(body[:200].decode(errors="replace"))
    return "", f"{len(body)} bytes that are no error of a model"


def _seconds(text: str | None) -> float | None:
    """Read Retry-After in its form of seconds; the form of a date is not used by model providers."""
    try:
        seconds = 0.0 if text is None else float(text)
    except ValueError:
        return None
    return None if text is None or not math.isfinite(seconds) else min(max(0.0, seconds), LONGEST)
