"""The classes of the media types and the structured ML types: plain frozen values.

Images, audio and files are given by URL, never by path; a `data:` URI can hold the bytes.
"""

import base64
from dataclasses import dataclass, field
from typing import Any


def _data_uri(data: bytes, media_type: str) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode('ascii')}"


@dataclass(frozen=True, slots=True)
class Image:
    """An image. `detail` selects the resolution, for providers that offer the choice."""

    url: str
    media_type: str | None = None
    detail: str | None = None

    @classmethod
    def from_bytes(cls, data: bytes, *, media_type: str = "image/png") -> "Image":
        """Return the image with these bytes, as a data URI."""
        return cls(_data_uri(data, media_type), media_type)


@dataclass(frozen=True, slots=True)
class Audio:
    """An audio recording."""

    url: str
    media_type: str | None = None

    @classmethod
    def from_bytes(cls, data: bytes, *, media_type: str = "audio/wav") -> "Audio":
        """Return the recording with these bytes, as a data URI."""
        return cls(_data_uri(data, media_type), media_type)


@dataclass(frozen=True, slots=True)
class File:
    """Any file, for example a PDF."""

    url: str
    name: str | None = None
    media_type: str | None = None

    @classmethod
    def from_bytes(
        cls, data: bytes, *, name: str, media_type: str = "application/octet-stream"
    ) -> "File":
        """Return the file with these bytes, as a data URI."""
        return cls(_data_uri(data, media_type), name, media_type)


@dataclass(frozen=True, slots=True)
class Document:
    """A text with its title and source."""

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
    """One function call that a model requests."""

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)
    id: str | None = None


@dataclass(frozen=True, slots=True)
class ToolResult:
    """The result of one tool call."""

    content: Any
    name: str | None = None
    id: str | None = None
    is_error: bool = False


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """Input and output tokens."""

    input_tokens: int = 0
    output_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Turn:
    """One earlier turn: the role of the speaker, and the text or fields of the message."""

    role: str
    content: Any


@dataclass(frozen=True, slots=True)
class History:
    """The earlier turns of a conversation, oldest first."""

    messages: list[Turn] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ToolCalls:
    """The function calls that a model requests together."""

    calls: list[FunctionCall] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Citation:
    """A passage and its source; `start` and `end` are character offsets in the source."""

    text: str
    source: str | None = None
    start: int | None = None
    end: int | None = None


@dataclass(frozen=True, slots=True)
class Citations:
    """Passages that support an answer."""

    items: list[Citation] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class CitedSource:
    """Where a statement comes from: a quote that occurs word for word in a document.

    `passage` and `sentence` are the numbers, from 1, that the model named; `start` and `end` are
    offsets in characters into that version of the document.
    """

    passage: int
    sentence: int | None = None
    quote: str = ""
    document: str | None = None
    version: int | None = None
    start: int | None = None
    end: int | None = None


@dataclass(frozen=True, slots=True)
class CitedStatement:
    """A part of an answer, with the sources that support it."""

    text: str
    sources: list[CitedSource] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Cited:
    """A text whose statements quote the passages that a program retrieved."""

    statements: list[CitedStatement] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The text without its sources."""
        return " ".join(statement.text for statement in self.statements)

    @property
    def sources(self) -> list[CitedSource]:
        """The sources of all statements, in order."""
        return [source for statement in self.statements for source in statement.sources]

    def __str__(self) -> str:
        """Return the text with numbers, and a line for each quote."""
        quotes: dict[tuple[str, str], int] = {}
        parts = []
        for statement in self.statements:
            keys = [(source.quote, source.document or "") for source in statement.sources]
            marks = [f"[{quotes.setdefault(key, len(quotes) + 1)}]" for key in keys]
            parts.append(" ".join([statement.text, "".join(dict.fromkeys(marks))]).strip())
        lines = [
            f'[{number}] "{quote}"{f" ({document})" if document else ""}'
            for (quote, document), number in quotes.items()
        ]
        return "\n".join([" ".join(parts), *lines])
