"""Decode compressed response bodies step by step, so that a limit can count the decoded bytes."""

import zlib
from collections.abc import Iterator
from typing import Final

from dspex.errors import ModelError

ACCEPTED: Final = "gzip, deflate"
# decoded bytes at a time; between steps the event loop may run other tasks
_STEP: Final = 1024 * 1024
_GZIP: Final = 16 + zlib.MAX_WBITS
_PLAIN: Final = frozenset({"", "identity"})


class Inflator:
    """Decodes one body from chunks of any size, at most `_STEP` bytes at a time."""

    __slots__ = ("_decoder", "_encoding", "_name")

    def __init__(self, encoding: str, name: str) -> None:
        """Take the content encoding, and the name of the server for errors.

        Raises:
            ModelError: the encoding is not supported.
        """
        self._encoding = encoding.strip().lower()
        self._name = name
        if self._encoding not in {"gzip", "x-gzip", "deflate"}:
            raise ModelError(
                f"{name} answered in the encoding {encoding[:40]!r}; supported are: {ACCEPTED}"
            )
        self._decoder: zlib._Decompress | None = None

    def feed(self, part: bytes) -> Iterator[bytes]:
        """Yield the decoded bytes of `part`.

        Raises:
            ModelError: the bytes are not in this encoding.
        """
        while part:
            decoder = self._decoder or self._begin(part)
            try:
                content = decoder.decompress(part, _STEP)
            except zlib.error as error:
                raise ModelError(
                    f"{self._name} answered with something that is not {self._encoding}"
                ) from error
            part = decoder.unconsumed_tail
            if decoder.eof:  # a gzip file may have several members
                part, self._decoder = decoder.unused_data, None
                if self._encoding == "deflate":
                    part = b""
            if content:
                yield content

    def _begin(self, part: bytes) -> "zlib._Decompress":
        # RFC 9110 means zlib by "deflate"; some servers send bare deflate data
        is_zlib = part[0] & 0x0F == 8
        bare = zlib.MAX_WBITS if is_zlib else -zlib.MAX_WBITS
        self._decoder = zlib.decompressobj(bare if self._encoding == "deflate" else _GZIP)
        return self._decoder


def is_plain(encoding: str) -> bool:
    """Return whether the encoding leaves a body unchanged."""
    return encoding.strip().lower() in _PLAIN
