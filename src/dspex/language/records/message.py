"""One turn of a conversation with a model, and the parts that it may consist of."""

import base64
import hashlib
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

Role = Literal["system", "user", "assistant", "tool"]
_PREVIEW = 48  # bytes


class ToolCall(msgspec.Struct, frozen=True, gc=False):
    """A request of a model to call the tool `name`; its result has the same `id`."""

    id: str
    name: str
    arguments: dict[str, Any]


class TextPart(msgspec.Struct, frozen=True, gc=False, tag="text"):
    """A text within a message of several parts."""

    text: str


class MediaPart(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A picture, recording or file: its bytes, or a URL that the provider reads.

    `media_type` is empty for a URL of unknown type.
    """

    media_type: str = ""
    data: bytes = b""
    url: str = ""

    @property
    def base64(self) -> str:
        """Return the bytes as base64."""
        return base64.b64encode(self.data).decode("ascii")

    @property
    def address(self) -> str:
        """Return the URL, or the bytes as a data URI."""
        return self.url or f"data:{self.media_type};base64,{self.base64}"

    def digest(self) -> dict[str, Any]:
        """Return the part as data, with size, SHA-256 and first bytes in place of its bytes."""
        fields = msgspec.to_builtins(self, builtin_types=(bytes,))
        if data := fields.pop("data", None):
            preview = base64.b64encode(data[:_PREVIEW]).decode("ascii")
            sha256 = hashlib.sha256(data).hexdigest()
            fields |= {"size": len(data), "sha256": sha256, "preview": preview}
        return fields  # type: ignore[no-any-return]  # msgspec types it as Any

    def __str__(self) -> str:
        return f"({self.media_type or 'media'}, {self.url or f'{len(self.data)} bytes'})"


class ImagePart(MediaPart, frozen=True, gc=False, tag="image"):
    """A picture; `detail` selects the resolution, for providers that offer the choice."""

    detail: str | None = None


class AudioPart(MediaPart, frozen=True, gc=False, tag="audio"):
    """A recording."""


class FilePart(MediaPart, frozen=True, gc=False, tag="file"):
    """A file, for example a PDF."""

    name: str | None = None


Part = TextPart | ImagePart | AudioPart | FilePart
Content = str | tuple[Part, ...]


class Message(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A role and its text, or the parts of a message that is more than text.

    An assistant message may have `tool_calls`; a message with the role "tool" is the result of the
    call `tool_call_id`.
    """

    role: Role
    content: Content
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None

    @property
    def text(self) -> str:
        """Return the text; each picture, recording or file is shown as a note in parentheses."""
        if isinstance(self.content, str):
            return self.content
        return "".join(
            part.text if isinstance(part, TextPart) else str(part) for part in self.content
        )


def join_content(*pieces: Content) -> Content:
    """Return the pieces as one content: text if all are text, else parts without empty texts."""
    try:
        return "".join(pieces)  # type: ignore[arg-type]  # the other type raises
    except TypeError:
        pass
    parts: list[Part] = []
    for piece in pieces:
        for part in (TextPart(piece),) if isinstance(piece, str) else piece:
            if isinstance(part, TextPart) and parts and isinstance(parts[-1], TextPart):
                parts[-1] = TextPart(parts[-1].text + part.text)
            elif not isinstance(part, TextPart) or part.text:
                parts.append(part)
    return tuple(parts)


def without_bytes(messages: Sequence[Message]) -> Sequence[Any]:
    """Return messages as traces and recordings hold them; see `MediaPart.digest`."""
    if all(type(message.content) is str for message in messages):
        return messages
    return [
        message
        if isinstance(message.content, str)
        else {
            **msgspec.to_builtins(msgspec.structs.replace(message, content="")),
            "content": [
                msgspec.to_builtins(part) if isinstance(part, TextPart) else part.digest()
                for part in message.content
            ],
        }
        for message in messages
    ]
