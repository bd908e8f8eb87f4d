"""Responses and their errors, as REST and GraphQL share them."""

import logging
from typing import Any, Final

from starlette.types import Send

from dspex import errors
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
_STATUSES: tuple[tuple[type[DspexError], int], ...] = (
    (InvalidError, 422),
    (NotFoundError, 404),
    (ConflictError, 409),
    (ForbiddenError, 403),
    (QuotaError, 403),
)
_log = logging.getLogger("dspex.api")


class RequestError(InvalidError):
    """A request that cannot be read; `status` is its HTTP status."""

    def __init__(self, message: str, /, *, status: int) -> None:
        super().__init__(message)
        self.status = status


def status_of(error: DspexError) -> int:
    """Return the HTTP status of an error."""
    if isinstance(error, RequestError):
        return error.status
    for kind, status in _STATUSES:
        if isinstance(error, kind):
            return status
    return 503 if error.is_retryable or isinstance(error, ConfigurationError) else 500


def extensions_of(error: DspexError) -> dict[str, Any]:
    """Return what a client program needs to know about an error."""
    extensions: dict[str, Any] = {
        "type": _public_type(error),
        "code": error.code,
        "retryable": error.is_retryable,
        "fields": [field.to_dict() for field in error.fields],
    }
    if error.execution_id is not None:
        extensions["executionId"] = error.execution_id
    return extensions


def _public_type(error: DspexError) -> str:
    """Return the name of the error's class, or of its nearest base class in `dspex.errors`."""
    return next(cls.__name__ for cls in type(error).mro() if cls.__module__ == errors.__name__)


def is_public(error: DspexError) -> bool:
    """Return whether callers see the message of an error; other messages are only logged."""
    return isinstance(error, ActionError | ConfigurationError) or error.is_retryable


def public_message(error: DspexError) -> str:
    """Return the message that callers see, and log the message if it is another one."""
    if not is_public(error):
        _log.error("request failed: %s: %s", type(error).__name__, error.message)
        return FAULT
    if error.public_message != error.message:
        _log.warning("%s", error.message)
    return error.public_message


def error_body(error: DspexError) -> dict[str, Any]:
    """Return the body of a REST response to an error."""
    return {"error": {**extensions_of(error), "message": public_message(error)}}


def timeout_message(seconds: float) -> str:
    """Return the message for a request that took too long."""
    return f"not answered within {seconds:g} s; what ran was cancelled"


async def send_json(
    send: Send,
    body: Any,
    *,
    status: int = 200,
    headers: tuple[tuple[bytes, bytes], ...] = (),
) -> None:
    """Respond with a JSON value."""
    await send_bytes(send, json_bytes(body), status=status, headers=headers)


async def send_bytes(
    send: Send,
    data: bytes,
    *,
    status: int = 200,
    headers: tuple[tuple[bytes, bytes], ...] = (),
    kind: bytes = b"application/json",
) -> None:
    """Respond with bytes of the media type `kind`."""
    fixed = ((b"content-type", kind), (b"content-length", str(len(data)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": [*fixed, *headers]})
    await send({"type": "http.response.body", "body": data})
