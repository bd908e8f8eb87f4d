"""A passage: a part of a document that a search returned."""

from dataclasses import dataclass, field
from typing import Any

from dspex.notebook import lazy_html


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """A part of a document, as a search returns it.

    `id` is unique in its collection, and empty outside of one. `score` orders the passages of one
    search, higher is better; scores of different searches are not comparable. `metadata` is that of
    the document, plus what the chunker knows ("heading", for example). `document` is the key of the
    document, `version` the version that was searched. `start` and `end` are offsets in characters
    into the document's text: `text == document_text[start:end]`.
    """

    text: str
    id: str = ""
    score: float = 0.0
    metadata: dict[str, Any] = field(default_factory=dict)
    document: str | None = None
    version: int | None = None
    start: int | None = None
    end: int | None = None

    _repr_html_ = lazy_html("dspex.language.records.representation:passage_html")
