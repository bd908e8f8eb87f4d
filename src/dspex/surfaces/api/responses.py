"""Bodies in and answers out: what REST and GraphQL share."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Final

from starlette.types import Receive, Scope, Send

from dspex.errors import (
    ActionError,
    ConfigurationError,
    ConflictError,
    DspexError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    QuotaError,
)
from dspex.language.records.canonical import json_bytes

FAULT: Final = "a fault in dspex; its log says more"
BODY_SECONDS: Final = 30.0
_STATUSES: tuple[tuple[type[DspexError], int], ...] = (
    (InvalidError, 422),
    (NotFoundError, 404),
    (ConflictError, 409),
    (ForbiddenError, 403),
    (QuotaError, 403),
)
_log = logging.getLogger("dspex.api")


def status_of(error: DspexError) -> int:
    """Return the HTTP status of an error."""
    given = error.context.get("http_status")
    if isinstance(given, int):
        return given
    found = next((status for kind, status in _STATUSES if isinstance(error, kind)), None)
    if found is not None:
        return found
    return 503 if error.is_retryable or isinstance(error, ConfigurationError) else 500


def extensions_of(error: DspexError) -> dict[str, Any]:
    """Return what a client's program needs of an error."""
    found: dict[str, Any] = {
        "type": type(error).__name__,
        "code": error.code,
        "retryable": error.is_retryable,
        "fields": [field.to_dict() for field in error.fields],
    }
    if "execution_id" in error.context:
        found["executionId"] = error.context["execution_id"]
    return found


def is_public(error: DspexError) -> bool:
    """Return whether callers see the message; what they do not see is logged."""
    return isinstance(error, ActionError | ConfigurationError) or error.is_retryable


def public_message(error: DspexError) -> str:
    """Return what callers are told of an error, and log what they are not."""
    if not is_public(error):
        _log.error("request failed: %s: %s", type(error).__name__, error.message)
        return FAULT
    public = error.context.get("public")
    if public is None:
        return error.message
    _log.warning("%s", error.message)
    return str(public)


def error_body(error: DspexError) -> dict[str, Any]:
    """Return the body of a REST answer to an error."""
    return {"error": {**extensions_of(error), "message": public_message(error)}}


async def read_body(scope: Scope, receive: Receive, *, limit: int) -> bytes:
    """Return the body of a request that says it is JSON; a page of another site cannot say so unasked.

    Who calls this limits how long it waits for the beginning.

    Raises:
        InvalidError: it is not JSON by its content type, too long, or its rest did not come within
        30 seconds.
    """
    kind = next((value for name, value in scope["headers"] if name == b"content-type"), b"")
    if (
        kind != b"application/json"
        and kind.partition(b";")[0].strip().lower() != b"application/json"
    ):
        raise InvalidError("send the header 'Content-Type: application/json'", http_status=415)
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body", False):
        body: bytes = message.get("body", b"")
        if len(body) > limit:
            raise InvalidError(f"a body has at most {limit} bytes", http_status=413)
        return body
    return await _rest(message, receive, limit=limit)


async def _rest(message: Mapping[str, Any], receive: Receive, *, limit: int) -> bytes:
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await _gathered(message, receive, limit=limit)
    except TimeoutError:
        raise InvalidError(
            f"the body was not sent within {BODY_SECONDS:g} seconds", http_status=408
        ) from None


async def _gathered(message: Mapping[str, Any], receive: Receive, *, limit: int) -> bytes:
    body = bytearray()
    while message["type"] == "http.request":
        body += message.get("body", b"")
        if len(body) > limit:
            raise InvalidError(f"a body has at most {limit} bytes", http_status=413)
        if not message.get("more_body", False):
            return bytes(body)
        message = await receive()
    raise InvalidError("the connection was closed before the body was sent", http_status=400)


def timeout_message(seconds: float) -> str:
    """Return what is said of a request that took too long."""
    return f"not answered within {seconds:g} s; what ran was cancelled"


async def send_json(
    send: Send,
    body: Any,
    *,
    status: int = 200,
    headers: tuple[tuple[bytes, bytes], ...] = (),
) -> None:
    """Answer with one JSON value."""
    await send_bytes(send, json_bytes(body), status=status, headers=headers)


async def send_bytes(
    send: Send,
    data: bytes,
    *,
    status: int = 200,
    headers: tuple[tuple[bytes, bytes], ...] = (),
    kind: bytes = b"application/json",
) -> None:
    """Answer with ready bytes."""
    fixed = ((b"content-type", kind), (b"content-length", str(len(data)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": [*fixed, *headers]})
    await send({"type": "http.response.body", "body": data})
