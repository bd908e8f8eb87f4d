"""The first and last that happens to every request."""

import asyncio
import logging
import time
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dspex.errors import DspexError
from dspex.operations.framework.access import GUEST, Actor
from dspex.operations.tenancy.keyring import Holder
from dspex.surfaces.api.addresses import client_of, host_name, is_same_origin
from dspex.surfaces.api.connection_watch import ClientDisconnected
from dspex.surfaces.api.gateway.authenticator import Authenticator, CallerSession, Unauthenticated
from dspex.surfaces.api.gateway.metrics import ServerMetrics
from dspex.surfaces.api.gateway.rate_limits import RateLimited
from dspex.surfaces.api.responses import error_body, send_json, status_of, timeout_message

CLIENT_CLOSED: Final = 499  # what nginx counts it as; nobody gets it
_ONCE: Final = (
    b"host",
    b"origin",
    b"authorization",
    b"x-api-key",
    b"content-type",
    b"content-length",
)
BROWSER_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)
"""What browsers may do with an answer: nothing. A page says otherwise in `browser_headers` of its scope."""
OPEN: Final = frozenset({"/", "/explorer", "/healthz", "/readyz", "/v1/openapi.json"})
_log = logging.getLogger("dspex.api")


class _Answer(Exception):  # noqa: N818  # it is an answer, not a fault
    def __init__(
        self, status: int, message: str, *, code: str, headers: tuple[tuple[bytes, bytes], ...] = ()
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers
        self.body = {
            "error": {"type": None, "code": code, "message": message, "retryable": status == 429}
        }


class Gateway:
    """Checks the host, the origin, the size, the key and the rate of a request, limits its time, and counts it."""

    def __init__(
        self, app: ASGIApp, *, authenticator: Authenticator, metrics: ServerMetrics
    ) -> None:
        """Take the application behind it."""
        self._app = app
        self._authenticator = authenticator
        self._config = authenticator.config
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
                message["headers"] = [
                    *message["headers"],
                    *(scope.get("browser_headers") or BROWSER_HEADERS),
                ]
            await send(message)

        try:
            await self._checked(scope, receive, sending)
        except (_Answer, DspexError) as error:
            if status:
                raise
            await _send(sending, error)
        except ClientDisconnected:
            status = CLIENT_CLOSED
        except TimeoutError:
            if status:
                raise
            await _send(
                sending, _Answer(504, timeout_message(self._config.timeout_s), code="timeout")
            )
        except Exception:
            _log.exception("a fault in dspex")
            if status:
                raise
            await _send(
                sending, _Answer(500, "a fault in dspex; its log says more", code="internal")
            )
        finally:
            metrics.running -= 1
            metrics.answered(_label(scope), status, seconds=time.perf_counter() - begun)

    async def _checked(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = _headers(scope)
        self._check_origin(headers)
        if int(headers.get(b"content-length", b"0") or b"0") > self._config.body_bytes:
            raise _Answer(
                413, f"a body has at most {self._config.body_bytes} bytes", code="too_large"
            )
        if not self._config.needs_key or scope["path"] in OPEN:
            scope["actor"] = GUEST
            await self._timed(scope, receive, send)
            return
        try:
            holder = await self._holder(scope, _key(headers))
            with self._authenticator.counted(holder):
                await self._timed(scope, receive, send)
        except RateLimited as refused:
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
            if host_name(host) is None:
                said = f"{host!r} is not a host: send a name or address, with or without a port"
                raise _Answer(400, said, code="host")
            raise _Answer(
                400,
                f"the host {host!r} is not served here; --allow-host and DSPEX_ALLOWED_HOSTS add "
                "names",
                code="host",
            )
        origin = headers.get(b"origin")
        if origin is not None and not is_same_origin(origin.decode("latin-1"), host):
            named = origin.decode("latin-1")
            raise _Answer(
                403,
                f"pages of {named!r} are not answered: the host that was called is {host!r}",
                code="origin",
            )

    async def _holder(self, scope: Scope, text: str | None) -> Holder:
        try:
            holder = await self._authenticator.holder(text, peer=_peer(scope))
        except Unauthenticated as denied:
            raise _unknown(denied.message) from None
        scope["actor"] = holder.actor
        return holder

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            headers = _headers(scope)
            self._check_origin(headers)
        except _Answer:
            await send({"type": "websocket.close", "code": 4403, "reason": "Forbidden"})
            return
        scope["caller"] = CallerSession(
            authenticator=self._authenticator, peer=_peer(scope), text=_key(headers)
        )
        await self._app(scope, receive, send)


def actor_of(scope: Scope) -> Actor:
    """Return who asks, as the gate found out."""
    found: Actor = scope["actor"]
    return found


def caller_of(authenticator: Authenticator, scope: Scope) -> CallerSession:
    """Return who asked for a stream, to be asked again while it lasts."""
    return CallerSession(authenticator=authenticator, peer=_peer(scope), text=_key(_headers(scope)))


def _peer(scope: Scope) -> str:
    return client_of(str((scope.get("client") or ("?",))[0]))


def _headers(scope: Scope) -> dict[bytes, bytes]:
    """Return the headers by name.

    Raises:
        _Answer: one that decides something is there twice: what reads the first and what reads the
        last would differ.
    """
    pairs = scope["headers"]
    headers = dict(pairs)
    if len(headers) != len(pairs):
        names = [name for name, _ in pairs]
        for name in _ONCE:
            if names.count(name) > 1:
                raise _Answer(
                    400, f"the header {name.decode()!r} is there more than once", code="headers"
                )
    return headers


def _key(headers: dict[bytes, bytes]) -> str | None:
    given = headers.get(b"authorization")
    if given is not None and given[:7].lower() == b"bearer ":
        return given[7:].strip().decode("latin-1")
    given = headers.get(b"x-api-key")
    return None if given is None else given.decode("latin-1")


def _unknown(message: str) -> _Answer:
    return _Answer(
        401, message, code=Unauthenticated.code, headers=((b"www-authenticate", b"Bearer"),)
    )


def _too_many(refused: RateLimited) -> _Answer:
    after = str(refused.whole_seconds).encode()
    return _Answer(429, refused.message, code=refused.code, headers=((b"retry-after", after),))


def _label(scope: Scope) -> str:
    return scope.get("label") or "other"


async def _send(send: Send, error: _Answer | DspexError) -> None:
    status, body, headers = (
        (error.status, error.body, error.headers)
        if isinstance(error, _Answer)
        else (status_of(error), error_body(error), ())
    )
    await send_json(send, body, status=status, headers=headers)
