"""Encodes and decodes the parent's messages; `child.frames` splits the stream into frames."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from dspex.error_text import CodeFrame, shorten
from dspex.errors import FrameTooLargeError, NotJsonError, WorkerProtocolError
from dspex.execution.workers.child.frames import (
    JSON,
    LIMIT,
    MSGPACK,
    FrameError,
    FrameSplitter,
    pack,
)

PROTOCOL = 1
_ENCODE_ERRORS = (TypeError, ValueError, OverflowError, RecursionError, msgspec.EncodeError)
_MAX_DEPTH = 50  # levels; a message may contain itself

__all__ = [
    "JSON",
    "LIMIT",
    "MSGPACK",
    "PROTOCOL",
    "Fault",
    "FrameError",
    "FrameSplitter",
    "Incoming",
    "decode",
    "encode",
]


class Fault(msgspec.Struct, frozen=True):
    """An error in the child. `call` is the callback that failed, if the error came from one.

    `frames` are the lines of user code that it passed there.
    """

    code: str
    message: str
    traceback: str = ""
    type: str = ""
    call: int | None = None
    frames: list[CodeFrame] = []


class Incoming(msgspec.Struct, frozen=True):
    """A message from a child: a reply (`ok`, `error`), an event, or a callback (`call`, `cmd`)."""

    id: int
    ok: Any = msgspec.UNSET
    error: Fault | msgspec.UnsetType = msgspec.UNSET
    event: str | msgspec.UnsetType = msgspec.UNSET
    call: int | msgspec.UnsetType = msgspec.UNSET
    cmd: str | msgspec.UnsetType = msgspec.UNSET
    data: Any = None

    @property
    def is_reply(self) -> bool:
        """Whether it answers a request."""
        return self.ok is not msgspec.UNSET or self.error is not msgspec.UNSET


_DECODERS = {
    JSON: msgspec.json.Decoder(Incoming).decode,
    MSGPACK: msgspec.msgpack.Decoder(Incoming).decode,
}
_ENCODERS = {JSON: msgspec.json.Encoder().encode, MSGPACK: msgspec.msgpack.Encoder().encode}


def decode(codec: int, payload: bytes) -> Incoming:
    """Return the message in one frame.

    Raises:
        WorkerProtocolError: the payload is not a message.
    """
    try:
        message = _DECODERS[codec](payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise WorkerProtocolError(
            f"a frame does not hold a message ({error}): {shorten(payload)}"
        ) from error
    if (
        message.is_reply
        + (message.event is not msgspec.UNSET)
        + (message.call is not msgspec.UNSET)
        != 1
    ):
        raise WorkerProtocolError(
            f"a message is neither a reply nor an event nor a callback: {shorten(payload)}"
        )
    return message


def encode(message: dict[str, Any], *, codec: int = JSON, limit: int = LIMIT) -> bytes:
    """Return one message as a frame.

    Raises:
        FrameTooLargeError: the message is larger than the frame limit.
        NotJsonError: the message holds a value that JSON cannot represent; the error names its
            place.
    """
    try:
        payload = _ENCODERS[codec](message)
    except _ENCODE_ERRORS as error:
        where, value = _find_unencodable(message, _ENCODERS[codec])
        raise NotJsonError(
            f"{where} is not a JSON value: {shorten(value)} ({error}); pass text, numbers, lists "
            "and mappings",
            where=where,
        ) from error
    try:
        return pack(codec, payload, limit)
    except FrameError as error:
        raise FrameTooLargeError(
            f"{error}; pass less data, or raise frame_limit of the worker"
        ) from None


def _find_unencodable(message: dict[str, Any], encoder: Callable[[Any], bytes]) -> tuple[str, Any]:
    """Return the path of the value that cannot be encoded, and the value."""
    where = ""
    value: Any = message
    for _ in range(_MAX_DEPTH):
        inside: Iterable[tuple[object, Any]] = ()
        if isinstance(value, Mapping):
            inside = value.items()
        elif isinstance(value, list | tuple):
            inside = enumerate(value)
        for key, item in inside:
            if not _is_encodable(item, encoder) or not _is_encodable({key: None}, encoder):
                where = f"{where}[{key!r}]" if where else str(key)
                value = item if not _is_encodable(item, encoder) else key
                break
        else:
            break
    return where, value


def _is_encodable(value: object, encoder: Callable[[Any], bytes]) -> bool:
    try:
        encoder(value)
    except _ENCODE_ERRORS:
        return False
    return True
