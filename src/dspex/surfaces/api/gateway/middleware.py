"""The middleware around all routes."""

import asyncio
import logging
import time
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dspex.errors import DspexError
from dspex.operations.framework.access import GUEST, Actor
from dspex.surfaces.api.addresses import client_of, host_name, is_same_origin
from dspex.surfaces.api.connection_watch import ClientDisconnected
from dspex.surfaces.api.gateway.authenticator import Authenticator, CallerSession, Unauthenticated
from dspex.surfaces.api.gateway.metrics import ServerMetrics
from dspex.surfaces.api.gateway.rate_limits import RateLimited
from dspex.surfaces.api.responses import FAULT, error_body, send_json, status_of, timeout_message

CLIENT_CLOSED: Final = 499  # nginx's status for it; only counted, never sent
_UNIQUE_HEADERS: Final = (
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
"""Browsers may do nothing with a response. An HTML page sets `browser_headers` in its scope."""
PUBLIC_PATHS: Final = frozenset(
    {"/", "/explorer", "/docs", "/feedback", "/healthz", "/readyz", "/v1/openapi.json"}
)
PERSONAL_PATHS: Final = frozenset({"/v1/openapi.json"})
"""Public paths that say more to the holder of a key."""
_log = logging.getLogger("dspex.api")
_request_log = logging.getLogger("dspex.requests")
_LONGEST_PATH: Final = 200


class _Rejection(Exception):  # noqa: N818  # a response, not a fault
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
    """Checks host, origin, size, key and rate of each request, limits its time, and counts it."""

    def __init__(
        self, app: ASGIApp, *, authenticator: Authenticator, metrics: ServerMetrics
    ) -> None:
        """Take the application behind it."""
        self._app = app
        self._authenticator = authenticator
        self._config = authenticator.config
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Reject a request or pass it on."""
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        start, status = time.perf_counter(), 0
        metrics = self._metrics
        metrics.running += 1

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message["headers"],
                    *(scope.get("browser_headers") or BROWSER_HEADERS),
                ]
            await send(message)

        try:
            await self._check_and_run(scope, receive, send_with_headers)
        except ClientDisconnected:
            status = CLIENT_CLOSED
        except (_Rejection, DspexError, TimeoutError) as error:
            if status:
                raise
            if isinstance(error, TimeoutError):
                error = _Rejection(504, timeout_message(self._config.timeout_s), code="timeout")
            await _send_error(send_with_headers, error)
        except Exception:
            _log.exception("a fault in dspex")
            if status:
                raise
            await _send_error(send_with_headers, _Rejection(500, FAULT, code="internal"))
        finally:
            metrics.running -= 1
            seconds = time.perf_counter() - start
            metrics.count_request(scope.get("label") or "other", status, seconds=seconds)
            if self._config.logs_requests:
                _request_log.info("%s %s %d %.1f ms", *_target(scope), status, seconds * 1e3)

    async def _check_and_run(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = _headers(scope)
        self._check_origin(headers)
        if int(headers.get(b"content-length", b"0") or b"0") > self._config.body_bytes:
            raise _Rejection(
                413, f"a body has at most {self._config.body_bytes} bytes", code="too_large"
            )
        key = _key(headers)
        try:
            if not self._config.needs_key or _is_public(scope["path"], key):
                scope["actor"] = GUEST
                await self._run(scope, receive, send)
                return
            holder = await self._authenticator.authenticate(key, peer=_peer(scope))
            scope["actor"] = holder.actor
            with self._authenticator.count_call(holder):
                await self._run(scope, receive, send)
        except Unauthenticated as error:
            challenge = ((b"www-authenticate", b"Bearer"),)
            raise _Rejection(401, error.message, code=error.code, headers=challenge) from None
        except RateLimited as error:
            retry_after = ((b"retry-after", str(error.whole_seconds).encode()),)
            raise _Rejection(429, error.message, code=error.code, headers=retry_after) from None

    async def _run(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/graphql/stream":  # a subscription lasts as long as its reader
            await self._app(scope, receive, send)
            return
        async with asyncio.timeout(self._config.timeout_s):
            await self._app(scope, receive, send)

    def _check_origin(self, headers: dict[bytes, bytes]) -> None:
        host = headers.get(b"host", b"").decode("latin-1")
        if not self._config.serves(host):
            problem = (
                f"{host!r} is not a host: send a name or address, with or without a port"
                if host_name(host) is None
                else f"the host {host!r} is not served here; --allow-host and DSPEX_ALLOWED_HOSTS "
                "add names"
            )
            raise _Rejection(400, problem, code="host")
        origin = headers.get(b"origin", b"").decode("latin-1")
        if b"origin" in headers and not is_same_origin(origin, host):
            raise _Rejection(
                403,
                f"pages of {origin!r} are not answered: the host that was called is {host!r}",
                code="origin",
            )

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            headers = _headers(scope)
            self._check_origin(headers)
        except _Rejection:
            await send({"type": "websocket.close", "code": 4403, "reason": "Forbidden"})
            return
        scope["caller"] = session_of(self._authenticator, scope)
        await self._app(scope, receive, send)


def _is_public(path: str, key: str | None) -> bool:
    return path in PUBLIC_PATHS and (key is None or path not in PERSONAL_PATHS)


def actor_of(scope: Scope) -> Actor:
    """Return the actor of a request that passed the gateway."""
    actor: Actor = scope["actor"]
    return actor


def session_of(authenticator: Authenticator, scope: Scope) -> CallerSession:
    """Return the caller of a request as a session, whose key can be checked again."""
    return CallerSession(
        authenticator=authenticator, peer=_peer(scope), key=_key(dict(scope["headers"]))
    )


def _target(scope: Scope) -> tuple[str, str]:
    """Return method and path as they were sent: without the query, which may hold secrets."""
    path = scope["raw_path"].decode("ascii", "backslashreplace")
    return scope["method"], path if len(path) <= _LONGEST_PATH else f"{path[:_LONGEST_PATH]}..."


def _peer(scope: Scope) -> str:
    return client_of(str((scope.get("client") or ("?",))[0]))


def _headers(scope: Scope) -> dict[bytes, bytes]:
    """Return the headers by name.

    Raises:
        _Rejection: a header that decides something occurs twice; programs differ in whether they
            read the first or the last one.
    """
    pairs = scope["headers"]
    headers = dict(pairs)
    if len(headers) != len(pairs):
        names = [name for name, _ in pairs]
        for name in _UNIQUE_HEADERS:
            if names.count(name) > 1:
                raise _Rejection(
                    400, f"the header {name.decode()!r} is there more than once", code="headers"
                )
    return headers


def _key(headers: dict[bytes, bytes]) -> str | None:
    authorization = headers.get(b"authorization", b"")
    if authorization[:7].lower() == b"bearer ":
        return authorization[7:].strip().decode("latin-1")
    key = headers.get(b"x-api-key")
    return None if key is None else key.decode("latin-1")


async def _send_error(send: Send, error: _Rejection | DspexError) -> None:
    status, body, headers = (
        (error.status, error.body, error.headers)
        if isinstance(error, _Rejection)
        else (status_of(error), error_body(error), ())
    )
    await send_json(send, body, status=status, headers=headers)
