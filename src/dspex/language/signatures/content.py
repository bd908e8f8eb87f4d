"""The classes behind the media types and the structured ML types: plain frozen values, by reference, never by path.

A picture, a recording or a file is named by a URL, which may be a `data:` URI that holds the bytes themselves.
"""

import base64
from dataclasses import dataclass, field
from typing import Any


def _data_uri(data: bytes, media_type: str) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode('ascii')}"


@dataclass(frozen=True, slots=True)
class Image:
    """A picture. `detail` is the resolution that the model should look at, where a provider knows such a choice."""

    url: str
    media_type: str | None = None
    detail: str | None = None

    @classmethod
    def from_bytes(cls, data: bytes, *, media_type: str = "image/png") -> "Image":
        """Return the picture that `data` encodes, held in a data URI."""
        return cls(_data_uri(data, media_type), media_type)


@dataclass(frozen=True, slots=True)
class Audio:
    """A recording."""

    url: str
    media_type: str | None = None

    @classmethod
    def from_bytes(cls, data: bytes, *, media_type: str = "audio/wav") -> "Audio":
        """Return the recording that `data` encodes, held in a data URI."""
        return cls(_data_uri(data, media_type), media_type)


@dataclass(frozen=True, slots=True)
class File:
    """Any file, a PDF for instance."""

    url: str
    name: str | None = None
    media_type: str | None = None

    @classmethod
    def from_bytes(cls, data: bytes, *, name: str, media_type: str = "application/octet-stream") -> "File":
        """Return the file with these contents, held in a data URI."""
        return cls(_data_uri(data, media_type), name, media_type)


@dataclass(frozen=True, slots=True)
class Document:
    """A text to be read, with where it comes from."""

    text: str
    title: str | None = None
    source: str | None = None


@dataclass(frozen=True, slots=True)
class Code:
    """A text in a programming language."""

    text: str
    language: str | None = None


@dataclass(frozen=True, slots=True)
class FunctionCall:
    """One call that a model asks for."""

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)
    id: str | None = None


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool answered to one call."""

    content: Any
    name: str | None = None
    id: str | None = None
    is_error: bool = False


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """Tokens that went in and came out."""

    input_tokens: int = 0
    output_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Turn:
    """One earlier turn: who spoke, and the text or the fields that were said."""

    role: str
    content: Any


@dataclass(frozen=True, slots=True)
class History:
    """The earlier turns of a conversation, oldest first."""

    messages: list[Turn] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ToolCalls:
    """The calls of functions that a model asks for together."""

    calls: list[FunctionCall] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Citation:
    """A passage and where it stands; `start` and `end` count characters of the source."""

    text: str
    source: str | None = None
    start: int | None = None
    end: int | None = None


@dataclass(frozen=True, slots=True)
class Citations:
    """Passages that support an answer."""

    items: list[Citation] = field(default_factory=list)
