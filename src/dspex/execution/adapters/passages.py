"""Passages as text in prompts."""

from collections.abc import Sequence

from dspex.language.records import Passage
from dspex.language.signatures import Type


def is_passages(type_: Type) -> bool:
    """Whether values of a type are lists of passages."""
    return type_.kind == "list" and [arg.kind for arg in type_.args] == ["Passage"]


def passages_text(passages: Sequence[Passage], texts: Sequence[str] = (), *, first: int = 1) -> str:
    """Return passages with their numbers, from `first` on, and their documents and headings.

    `texts` are shown instead of the texts of the passages.
    """
    parts = []
    for number, passage in enumerate(passages, first):
        text = texts[number - first] if texts else passage.text
        heading = passage.metadata.get("heading") or passage.metadata.get("title")
        labels = [str(label) for label in (passage.document, heading) if label]
        parts.append(f"[{number}] {', '.join(labels)}".rstrip() + f"\n{text}")
    return "\n\n".join(parts) or "(none)"
