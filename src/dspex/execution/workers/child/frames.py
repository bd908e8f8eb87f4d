"""Frames on a byte stream: 4 bytes of length (big-endian), 1 byte of codec, then the payload.

The length counts the codec byte and the payload. Parent and child both use this module.
"""

import struct

JSON = 1
MSGPACK = 2
CODECS = (JSON, MSGPACK)
LIMIT = 64 * 1024 * 1024

_HEADER = struct.Struct(">IB")
_LENGTH = struct.Struct(">I")


class FrameError(ValueError):
    """Bytes that are not a frame. `kind` is "oversize", "garbage" or "truncated"."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def pack(codec: int, payload: bytes, limit: int = LIMIT) -> bytes:
    """Return `payload` as one frame.

    Raises:
        FrameError: the frame is larger than `limit`.
    """
    size = len(payload) + 1
    if size > limit:
        raise FrameError(
            "oversize",
            f"a message of {size} bytes is over the limit of {limit} bytes for one frame",
        )
    return _HEADER.pack(size, codec) + payload


class FrameSplitter:
    """Splits a stream into frames, in whatever pieces its bytes arrive.

    After a FrameError the stream is unusable; do not feed it any further.
    """

    __slots__ = ("_buffer", "_limit")

    def __init__(self, limit: int = LIMIT) -> None:
        """Reject frames larger than `limit` as soon as their length arrives."""
        self._buffer = bytearray()
        self._limit = limit

    def feed(self, data: "bytes | memoryview") -> "list[tuple[int, bytes]]":
        """Add bytes and return the frames that they complete, each as codec and payload.

        Raises:
            FrameError: the stream is not a sequence of frames.
        """
        buffer = self._buffer
        if not buffer:  # the common case: whole frames need no buffering
            frames, start = self._split(data)
            buffer += data[start:]
            return frames
        buffer += data
        frames, start = self._split(buffer)
        if start:
            del buffer[:start]
        return frames

    def _split(
        self, data: "bytes | bytearray | memoryview"
    ) -> "tuple[list[tuple[int, bytes]], int]":
        """Return the whole frames at the start of `data`, and where they end."""
        frames: list[tuple[int, bytes]] = []
        start, end = 0, len(data)
        with memoryview(data) as view:
            while end - start >= 4:
                (size,) = _LENGTH.unpack_from(view, start)
                self._check(size, view, start)
                if end - start < 4 + size:
                    break
                frames.append((view[start + 4], bytes(view[start + 5 : start + 4 + size])))
                start += 4 + size
        return frames, start

    def _check(self, size: int, buffer: memoryview, start: int) -> None:
        if size > self._limit:
            raise FrameError(
                "oversize", f"a frame announces {size} bytes; the limit is {self._limit} bytes"
            )
        if size == 0:
            raise FrameError(
                "garbage", "a frame announces 0 bytes; the smallest frame has 1 byte, its codec"
            )
        if len(buffer) - start > 4 and buffer[start + 4] not in CODECS:
            raise FrameError(
                "garbage", f"a frame has the codec byte {buffer[start + 4]}; codecs are 1 and 2"
            )

    def close(self) -> None:
        """Check that the stream ended between frames.

        Raises:
            FrameError: it ended inside a frame.
        """
        if self._buffer:
            raise FrameError(
                "truncated",
                f"the stream ended inside a frame, after its first {len(self._buffer)} bytes",
            )
