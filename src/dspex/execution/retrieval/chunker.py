"""The protocol of chunkers: pure functions from a document's text to its chunks."""

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec


class Chunk(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A part of a document's text: `text == document[start:end]`, offsets in characters.

    `metadata` is what the chunker knows about it, such as the headings above it.
    """

    text: str
    start: int
    end: int
    metadata: dict[str, Any] = {}


class Chunker(Protocol):
    """Divides texts into chunks; pure, so that the same text always has the same chunks.

    `fingerprint` names the method and its settings; it changes whenever chunks may.
    """

    @property
    def fingerprint(self) -> str:
        """Return the fingerprint of the chunks."""
        ...

    def divide(self, text: str) -> Sequence[Chunk]:
        """Return the chunks of a text in order, none for a text without visible characters.

        Chunks may overlap; together they cover every visible character.
        """
        ...
