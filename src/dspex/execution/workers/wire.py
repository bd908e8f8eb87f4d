"""Messages as the parent reads and writes them; how they are cut into frames is `child.frames`."""

from typing import Any

import msgspec

from dspex.errors import FrameTooLargeError, WorkerProtocolError, shorten
from dspex.execution.workers.child.frames import JSON, LIMIT, MSGPACK, FrameError, Splitter, pack

PROTOCOL = 1

__all__ = ["JSON", "LIMIT", "MSGPACK", "PROTOCOL", "Fault", "FrameError", "Incoming", "Splitter", "decode", "encode"]


class Fault(msgspec.Struct, frozen=True):
    """What went wrong in the child. `call` names the callback whose own error this was."""

    code: str
    message: str
    traceback: str = ""
    type: str = ""
    call: int | None = None


class Incoming(msgspec.Struct, frozen=True):
    """One message from a child: a reply (`ok` or `error`), an event, or a callback (`call` and `cmd`)."""

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


_DECODERS = {JSON: msgspec.json.Decoder(Incoming).decode, MSGPACK: msgspec.msgpack.Decoder(Incoming).decode}
_ENCODERS = {JSON: msgspec.json.Encoder().encode, MSGPACK: msgspec.msgpack.Encoder().encode}


def decode(codec: int, payload: bytes) -> Incoming:
    """Return the message in one frame.

    Raises:
        WorkerProtocolError: the payload is no message.
    """
    try:
        message = _DECODERS[codec](payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise WorkerProtocolError(f"a frame holds no message ({error}): {shorten(payload)}") from error
    if message.is_reply + (message.event is not msgspec.UNSET) + (message.call is not msgspec.UNSET) != 1:
        raise WorkerProtocolError(f"a message is neither a reply nor an event nor a callback: {shorten(payload)}")
    return message


def encode(message: dict[str, Any], *, codec: int = JSON, limit: int = LIMIT) -> bytes:
    """Return one message as a frame.

    Raises:
        FrameTooLargeError: it is longer than a frame may be.
        WorkerProtocolError: it holds something that is no JSON value.
    """
    try:
        payload = _ENCODERS[codec](message)
    except (TypeError, ValueError, msgspec.EncodeError, RecursionError) as error:
        raise WorkerProtocolError(f"the message is no JSON value ({error}): {shorten(message)}") from error
    try:
        return pack(codec, payload, limit)
    except FrameError as error:
        raise FrameTooLargeError(f"{error}; pass less data, or raise frame_limit of the worker") from None
