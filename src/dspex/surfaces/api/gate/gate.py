"""The first and last that happens to every request."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dspex.bootstrap import Services
from dspex.errors import DspexError
from dspex.operations.resources import LOCAL, Actor
from dspex.operations.resources.keyring import Holder
from dspex.surfaces.api.answers import error_body, send_json, status_of
from dspex.surfaces.api.gate.configuration import ServerConfig
from dspex.surfaces.api.gate.metrics import Metrics
from dspex.surfaces.api.gate.rates import GUESSES_PER_MINUTE, Rates, Refused

OPEN: Final = frozenset({"/", "/explorer", "/healthz", "/readyz", "/v1/openapi.json"})
_log = logging.getLogger("dspex.api")


class _Answer(Exception):  # noqa: N818  # it is an answer, not a fault
    def __init__(self, status: int, message: str, *, code: str, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers
        self.body = {"error": {"type": None, "code": code, "message": message, "retryable": status == 429}}


class Gate:
    """Checks the host, the origin, the size, the key and the rate of a request, limits its time, and counts it."""

    def __init__(
        self, app: ASGIApp, *, services: Callable[[], Services], config: ServerConfig, rates: Rates, metrics: Metrics
    ) -> None:
        """Take the application behind it."""
        self._app = app
        self._services = services
        self._config = config
        self._rates = rates
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or let it through."""
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun, status = time.perf_counter(), 0
        metrics = self._metrics
        metrics.running += 1

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._checked(scope, receive, sending)
        except (_Answer, DspexError) as error:
            if status:
                raise
            await _send(sending, error)
        except TimeoutError:
            if status:
                raise
            seconds = self._config.timeout_s
            await _send(
                sending, _Answer(504, f"not answered within {seconds:g} s; what ran was cancelled", code="timeout")
            )
        except Exception:
            _log.exception("a fault in dspex")
            if status:
                raise
            await _send(sending, _Answer(500, "a fault in dspex; its log says more", code="internal"))
        finally:
            metrics.running -= 1
            metrics.answered(_label(scope), status, seconds=time.perf_counter() - begun)

    async def _checked(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = _headers(scope)
        self._check_origin(headers)
        if int(headers.get(b"content-length", b"0") or b"0") > self._config.body_bytes:
            raise _Answer(413, f"a body has at most {self._config.body_bytes} bytes", code="too_large")
        holder = None
        if not self._config.needs_key or scope["path"] in OPEN:
            scope["actor"] = LOCAL
        else:
            holder = await self._holder(scope, _key(headers))
            scope["actor"] = holder.actor
        if holder is None:
            await self._timed(scope, receive, send)
            return
        try:
            self._rates.take(holder.key_id, per_minute=holder.requests_per_minute or self._config.requests_per_minute)
            with self._rates.running(holder.key_id, at_once=holder.concurrency or self._config.concurrency):
                await self._timed(scope, receive, send)
        except Refused as refused:
            raise _too_many(refused) from None

    async def _timed(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/graphql/stream":  # a subscription lives as long as its reader
            await self._app(scope, receive, send)
            return
        async with asyncio.timeout(self._config.timeout_s):
            await self._app(scope, receive, send)

    def _check_origin(self, headers: dict[bytes, bytes]) -> None:
        host = headers.get(b"host", b"").decode("latin-1")
        if not self._config.serves(host):
            raise _Answer(
                400,
                f"the host {host!r} is not served here; --allow-host and DSPEX_ALLOWED_HOSTS add names",
                code="host",
            )
        origin = headers.get(b"origin")
        if origin is not None:
            named = urlsplit(origin.decode("latin-1")).netloc
            if named != host and not self._config.serves(named):
                raise _Answer(403, f"pages of {origin.decode('latin-1')!r} are not answered", code="origin")

    async def _holder(self, scope: Scope, text: str | None) -> Holder:
        if text is None:
            raise _unknown("a key is needed: send the header 'Authorization: Bearer dspx_...'")
        peer = (scope.get("client") or ("?",))[0]
        try:
            self._rates.check(f"guess {peer}", per_minute=GUESSES_PER_MINUTE)
            holder = await self._services().keys.holder(text)
            if holder is None:
                self._rates.take(f"guess {peer}", per_minute=GUESSES_PER_MINUTE)
        except Refused as refused:
            raise _too_many(refused) from None
        if holder is None:
            raise _unknown("this key is unknown, revoked or expired")
        return holder

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = _headers(scope)
        try:
            self._check_origin(headers)
            scope["actor"] = None if self._config.needs_key else LOCAL
            if self._config.needs_key and (text := _key(headers)) is not None:
                scope["actor"] = (await self._holder(scope, text)).actor
        except (_Answer, DspexError):
            await send({"type": "websocket.close", "code": 4403, "reason": "Forbidden"})
            return
        await self._app(scope, receive, send)


def actor_of(scope: Scope) -> Actor:
    """Return who asks, as the gate found out."""
    found: Actor = scope["actor"]
    return found


async def holder_of_text(services: Services, text: object) -> Actor | None:
    """Return who holds the key in `text` ("Bearer dspx_..." or the key alone), None where nobody does."""
    if not isinstance(text, str):
        return None
    holder = await services.keys.holder(text.removeprefix("Bearer ").strip())
    return None if holder is None else holder.actor


def _headers(scope: Scope) -> dict[bytes, bytes]:
    return dict(scope["headers"])


def _key(headers: dict[bytes, bytes]) -> str | None:
    given = headers.get(b"authorization")
    if given is not None and given[:7].lower() == b"bearer ":
        return given[7:].strip().decode("latin-1")
    given = headers.get(b"x-api-key")
    return None if given is None else given.decode("latin-1")


def _unknown(message: str) -> _Answer:
    return _Answer(401, message, code="unauthenticated", headers=((b"www-authenticate", b"Bearer"),))


def _too_many(refused: Refused) -> _Answer:
    after = str(max(1, round(refused.after_s + 0.5))).encode()
    return _Answer(429, refused.message, code="too_many_requests", headers=((b"retry-after", after),))


def _label(scope: Scope) -> str:
    return scope.get("label") or "other"


async def _send(send: Send, error: _Answer | DspexError) -> None:
    status, body, headers = (
        (error.status, error.body, error.headers)
        if isinstance(error, _Answer)
        else (status_of(error), error_body(error), ())
    )
    await send_json(send, body, status=status, headers=headers)
