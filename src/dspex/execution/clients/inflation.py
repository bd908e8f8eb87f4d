"""Compressed bodies of answers, decoded step by step: what comes out is counted, not what went in."""

import zlib
from collections.abc import Iterator
from typing import Final

from dspex.errors import ModelError

ACCEPTED: Final = "gzip, deflate"
_STEP: Final = 1024 * 1024  # decoded bytes at a time; between two steps the loop may do something else
_GZIP: Final = 16 + zlib.MAX_WBITS
_PLAIN: Final = frozenset({"", "identity"})


class Inflator:
    """Decodes one body, wherever it is torn, at most `_STEP` bytes at a time. `name` is that of the server."""

    __slots__ = ("_decoder", "_encoding", "_name")

    def __init__(self, encoding: str, name: str) -> None:
        """Take the content encoding as the server says it.

        Raises:
            ModelError: it was not offered, and is not known.
        """
        self._encoding = encoding.strip().lower()
        self._name = name
        if self._encoding not in {"gzip", "x-gzip", "deflate"}:
            raise ModelError(f"{name} answered in the encoding {encoding[:40]!r}; it was offered: {ACCEPTED}")
        self._decoder: zlib._Decompress | None = None

    def feed(self, part: bytes) -> Iterator[bytes]:
        """Yield what `part` decodes to.

        Raises:
            ModelError: it is not what the encoding says.
        """
        while part:
            decoder = self._decoder or self._begin(part)
            try:
                content = decoder.decompress(part, _STEP)
            except zlib.error as error:
                raise ModelError(f"{self._name} answered with something that is not {self._encoding}") from error
            part = decoder.unconsumed_tail
            if decoder.eof:  # a gzip file may have several members
                part, self._decoder = decoder.unused_data, None
                if self._encoding == "deflate":
                    part = b""
            if content:
                yield content

    def _begin(self, part: bytes) -> "zlib._Decompress":
        is_zlib = part[0] & 0x0F == 8  # RFC 9110 means zlib by "deflate"; some servers send bare deflate data
        bare = zlib.MAX_WBITS if is_zlib else -zlib.MAX_WBITS
        self._decoder = zlib.decompressobj(bare if self._encoding == "deflate" else _GZIP)
        return self._decoder


def is_plain(encoding: str) -> bool:
    """Return whether a body comes as it is."""
    return encoding.strip().lower() in _PLAIN
