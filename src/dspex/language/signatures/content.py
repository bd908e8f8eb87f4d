"""The classes of the media types and the structured ML types: plain frozen values.

`Image("photo.png")` reads the file at once and holds its bytes as a data URI. Only these
constructors read files: validation builds the classes from URLs and never reads a path.
"""

import base64
import re
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

from dspex.errors import MediaError
from dspex.language.records.media_types import MAX_MEDIA_BYTES, media_type_of

Source = str | bytes | PathLike[str]
"""A URL, the bytes of a file, or the path of a file."""
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")  # a Windows drive has one letter


def is_url(text: str) -> bool:
    """Return whether `text` is a URL or data URI, and not a path."""
    return _URL.match(text) is not None


def read_media(path: Path, *, field: str = "") -> bytes:
    """Return the bytes of a file.

    Raises:
        MediaError: it cannot be read, or has more than 20 MiB; the message names `field`.
    """
    place = f"{field}: " if field else ""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_MEDIA_BYTES + 1)
    except (OSError, ValueError) as error:
        raise MediaError(f"{place}cannot read {str(path)!r}: {error}", path=field) from error
    if len(data) > MAX_MEDIA_BYTES:
        raise MediaError(
            f"{place}{str(path)!r} has more than {MAX_MEDIA_BYTES} bytes, which is the limit of a "
            "picture, recording or file",
            path=field,
        )
    return data


def data_uri(data: bytes, media_type: str) -> str:
    """Return the data URI with these bytes."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode('ascii')}"


def _load(source: Source, media_type: str | None, kind: str) -> tuple[str, str | None]:
    """Return URL and media type of a source; `kind` is how its media type has to begin."""
    if isinstance(source, str) and is_url(source):
        return source, media_type
    data, name = (source, "") if isinstance(source, bytes) else (read_media(Path(source)), source)
    media_type = media_type_of(data) or media_type or media_type_of(data, str(name))
    if media_type is None or not media_type.startswith(kind):
        what = f"{str(name)!r} is" if name else "these bytes are"
        raise MediaError(f"{what} not {kind}...: the media type is {media_type or 'unknown'}")
    return data_uri(data, media_type), media_type


@dataclass(frozen=True, slots=True, init=False)
class Image:
    """A picture. `detail` selects the resolution, for providers that offer the choice."""

    url: str
    media_type: str | None = None
    detail: str | None = None

    def __init__(
        self, url: Source, media_type: str | None = None, detail: str | None = None
    ) -> None:
        """Take a URL, a data URI, bytes, or the path of a file, which is read now.

        Raises:
            MediaError: the file cannot be read, is too large, or is not a picture.
        """
        url, media_type = _load(url, media_type, "image/")
        for name, value in (("url", url), ("media_type", media_type), ("detail", detail)):
            object.__setattr__(self, name, value)

    @classmethod
    def from_bytes(cls, data: bytes, *, media_type: str = "image/png") -> "Image":
        """Return the picture with these bytes; `media_type` counts if they do not show theirs."""
        return cls(data, media_type)


@dataclass(frozen=True, slots=True, init=False)
class Audio:
    """A recording."""

    url: str
    media_type: str | None = None

    def __init__(self, url: Source, media_type: str | None = None) -> None:
        """Take a URL, a data URI, bytes, or the path of a file; see `Image`."""
        url, media_type = _load(url, media_type, "audio/")
        object.__setattr__(self, "url", url)
        object.__setattr__(self, "media_type", media_type)

    @classmethod
    def from_bytes(cls, data: bytes, *, media_type: str = "audio/wav") -> "Audio":
        """Return the recording with these bytes; see `Image.from_bytes`."""
        return cls(data, media_type)


@dataclass(frozen=True, slots=True, init=False)
class File:
    """Any file, for example a PDF."""

    url: str
    name: str | None = None
    media_type: str | None = None

    def __init__(self, url: Source, name: str | None = None, media_type: str | None = None) -> None:
        """Take a URL, a data URI, bytes, or the path of a file; see `Image`."""
        if isinstance(url, bytes) or not is_url(str(url)):
            name = Path(url).name if name is None and not isinstance(url, bytes) else name
            media_type = media_type or media_type_of(b"", name or "") or "application/octet-stream"
        url, media_type = _load(url, media_type, "")
        for attribute, value in (("url", url), ("name", name), ("media_type", media_type)):
            object.__setattr__(self, attribute, value)

    @classmethod
    def from_bytes(cls, data: bytes, *, name: str, media_type: str | None = None) -> "File":
        """Return the file with these bytes; see `Image.from_bytes`."""
        return cls(data, name, media_type)


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
