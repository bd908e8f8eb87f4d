"""A passage: a part of a document that a search returned."""

from typing import Any

import msgspec


class Passage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A part of a document, as a search returns it.

    `id` is unique in its collection. `score` orders the passages of one search, higher is better;
    scores of different searches are not comparable. `metadata` is that of the document, plus what
    the chunker knows ("heading", for example). `document` is the key of the document, `version` the
    version that was searched. `start` and `end` are offsets in characters into the document's text:
    `text == document_text[start:end]`.
    """

    id: str
    text: str
    score: float = 0.0
    metadata: dict[str, Any] = {}
    document: str | None = None
    version: int | None = None
    start: int | None = None
    end: int | None = None
