"""Media in values: find pictures, recordings and files, and make parts of messages of them."""

import base64
import binascii
import dataclasses
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from dspex.errors import MediaError
from dspex.language.records.media_types import MAX_MEDIA_BYTES, media_type_of
from dspex.language.records.message import (
    AudioPart,
    Content,
    FilePart,
    ImagePart,
    Part,
    join_content,
)
from dspex.language.signatures import Field, Type
from dspex.language.signatures.content import Audio, Document, File, Image
from dspex.language.signatures.records import Record

_CLASSES: Final = (Image, Audio, File)
_WORDS: Final = {
    "Image": "a picture",
    "Audio": "a recording",
    "File": "a file",
    "Document": "a document of bytes",
}
_OPEN: Final = frozenset(
    {"any", "ref", "History", "model_output", "tool_result", "function_call", "ToolCalls"}
)
"""Kinds whose values may hold anything."""
_MAX_VALUES: Final = 100_000  # checked per field; a larger value would not fit a prompt
_DATA_URI: Final = re.compile(r"data:([^,;]*)(?:;[^,]*?)?;base64,")
_MEMBERS: Final = frozenset({"url", "media_type", "detail", "name", "text", "title", "source"})
_TYPES: Final = {"Image": "image/", "Audio": "audio/"}


class Media(NamedTuple):
    """A picture, recording or file inside a value: an instance, or its JSON form."""

    path: str
    kind: str
    value: Any

    @property
    def members(self) -> Mapping[str, Any]:
        """Return the members of the value; a bare text is its URL."""
        if isinstance(self.value, str):
            return {"text" if self.kind == "Document" else "url": self.value}
        if isinstance(self.value, Mapping):
            return self.value
        names = [field.name for field in dataclasses.fields(self.value)]
        return {name: getattr(self.value, name) for name in names}

    @property
    def url(self) -> str:
        """Return the URL or data URI."""
        return str(self.members["text" if self.kind == "Document" else "url"])

    def part(self) -> Part:
        """Return the part of a message.

        Raises:
            MediaError: it has neither bytes nor a URL that a provider can read.
        """
        members, url = self.members, self.url
        media_type = members.get("media_type") or ""
        if match := _DATA_URI.match(url):
            data = self._decode(url[match.end() :])
            source: dict[str, Any] = {
                "data": data,
                "media_type": media_type_of(data) or media_type or match[1] or "text/plain",
            }
            if not source["media_type"].startswith(_TYPES.get(self.kind, "")):
                raise self._error(f"holds {source['media_type']}, not {_WORDS[self.kind]}")
        elif url.startswith(("http://", "https://")):
            source = {
                "url": url,
                "media_type": media_type or media_type_of(b"", urlsplit(url).path) or "",
            }
        else:
            raise self._error(
                f"has the URL {url[:80]!r}, but only https://, http:// and base64 data: are sent; "
                "Image(...), Audio(...) and File(...) read files"
            )
        if self.kind == "Image":
            return ImagePart(**source, detail=members.get("detail"))
        if self.kind == "Audio":
            return AudioPart(**source)
        return FilePart(**source, name=members.get("name") or members.get("title"))

    def _decode(self, text: str) -> bytes:
        try:
            data = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError) as error:
            raise self._error(f"is not base64 ({error}); stored inputs lack the bytes") from error
        if len(data) > MAX_MEDIA_BYTES:
            raise self._error(f"has more than {MAX_MEDIA_BYTES} bytes")
        return data

    def _error(self, problem: str) -> MediaError:
        return MediaError(f"{self.path} {problem}", path=self.path, kind=self.kind)


class MediaGuard:
    """Refuses values that hold media. Fields that cannot hold any are never checked."""

    __slots__ = ("_fields",)

    def __init__(self, fields: Iterable[Field]) -> None:
        """Take the fields that a model writes; only inputs are sent as parts."""
        self._fields = tuple((field.name, field.type) for field in fields if may_hold(field.type))

    def check(self, values: Mapping[str, Any]) -> None:
        """Raise if an output of a demonstration holds media, as an instance or in JSON form.

        Raises:
            MediaError: a value holds media; the message names its place.
        """
        for name, type_ in self._fields:
            for path, kind, _ in media_in(type_, values.get(name), name):
                raise MediaError(
                    f"{path} holds {_WORDS[kind]} ({kind}), but answers of a model are text: a "
                    "demonstration cannot show one as an output; nothing was sent",
                    path=path,
                    kind=kind,
                )


def media_in(type_: Type, value: Any, path: str) -> Iterator[Media]:
    """Yield the media inside a value of a type, as instances or in JSON form."""
    if value is None or (type(value) in _PLAIN and type_.kind in _OPEN):
        return
    yield from _declared_media(type_, value, path)
    yield from instances_in(value, path)


def media_content(
    type_: Type, value: Any, path: str, *, write: Callable[[Any], str], plain: Callable[[Any], Any]
) -> Content:
    """Return the content that shows a value: its JSON, with each medium in its place.

    Args:
        type_: the declared type.
        value: the value.
        path: its place, for errors.
        write: returns the text of a value, and of JSON data.
        plain: returns a value as JSON data.
    """
    media = {item.url: item for item in media_in(type_, value, path)}
    if not media:
        return write(value)
    parts = [item.part() for item in media.values()]
    token = secrets.token_hex(8)  # nobody can guess it, so no text of the value looks like it
    names = {url: f"{token}:{number}:" for number, url in enumerate(media)}
    texts = {url: names[url] for url, item in media.items() if isinstance(item.value, str)}
    text = write(_with_names(plain(value), names, texts))
    return join_content(
        *(
            (parts[int(piece)],) if number % 2 else piece
            for number, piece in enumerate(re.split(f'"?{token}:(\\d+):"?', text))
        )
    )


def _with_names(data: Any, names: Mapping[str, str], texts: Mapping[str, str]) -> Any:
    """Return JSON data with names for the media: objects with their URLs, or `texts`."""
    if isinstance(data, Mapping):
        url = data.get("url", data.get("text"))
        if isinstance(url, str) and url in names and data.keys() <= _MEMBERS:
            return names[url]
        return {key: _with_names(item, names, texts) for key, item in data.items()}
    if isinstance(data, list):
        return [_with_names(item, names, texts) for item in data]
    return texts.get(data, data) if isinstance(data, str) else data


_PLAIN: Final = frozenset({str, int, float, bool})


def is_media(type_: Type) -> bool:
    """Return whether the values of a type are pictures, recordings or files."""
    kinds = {part.kind for part in (type_.args if type_.kind == "union" else (type_,))}
    return kinds <= {"Image", "Audio", "File", "none"}


def may_hold(type_: Type) -> bool:
    """Return whether values of a type may hold media."""
    if type_.kind in _WORDS or type_.kind in _OPEN:
        return True
    if (
        type_.kind in {"list", "set", "tuple", "dict", "object"}
        and not type_.args
        and not type_.members
    ):
        return True  # its parts may be anything
    return any(may_hold(part) for part in (*type_.args, *(member.type for member in type_.members)))


def _declared_media(type_: Type, value: Any, path: str) -> Iterator[Media]:
    """Yield the media that the type declares in the JSON form of a value; ignore instances."""
    if value is None:
        return
    if type_.kind in _WORDS:
        has_url = isinstance(value, str) or (isinstance(value, Mapping) and "url" in value)
        if _is_bytes(value) if type_.kind == "Document" else has_url:
            yield Media(path, type_.kind, value)
        return
    for part, inner, place in _typed_parts(type_, value, path):
        yield from _declared_media(part, inner, place)


def _typed_parts(type_: Type, value: Any, path: str) -> Iterator[tuple[Type, Any, str]]:
    kind, args = type_.kind, type_.args
    if kind == "union":
        is_reference = isinstance(value, Mapping) and "url" in value
        yield from ((arg, value, path) for arg in args if is_reference or arg.kind not in _WORDS)
    elif (
        kind in {"list", "set", "tuple"}
        and args
        and isinstance(value, list | tuple | set | frozenset)
    ):
        types = args if kind == "tuple" and len(args) == len(value) else args[:1] * len(value)
        pairs = zip(types, value, strict=True)
        yield from ((arg, part, f"{path}[{number}]") for number, (arg, part) in enumerate(pairs))
    elif isinstance(value, Mapping):
        if kind == "dict" and len(args) == 2:
            yield from ((args[1], part, f"{path}.{key}") for key, part in value.items())
        members = type_.members if kind == "object" else ()
        yield from (
            (member.type, value.get(member.name), f"{path}.{member.name}") for member in members
        )


def instances_in(value: object, path: str) -> Iterator[Media]:
    """Yield the images, recordings and files inside a value."""
    stack: list[tuple[str, Any]] = [(path, value)]
    for _ in range(_MAX_VALUES):
        if not stack:
            break
        place, part = stack.pop()
        if isinstance(part, _CLASSES):
            yield Media(place, type(part).__name__, part)
        elif isinstance(part, Document):
            if _is_bytes(part):
                yield Media(place, "Document", part)
        elif type(part) not in _PLAIN:
            stack.extend(reversed([*_parts(part, place)]))


def _parts(value: Any, place: str) -> Iterator[tuple[str, Any]]:
    from pydantic import BaseModel

    if isinstance(value, Record):
        value = value.to_dict()
    if isinstance(value, Mapping):
        yield from ((f"{place}.{name}", part) for name, part in value.items())
    elif isinstance(value, list | tuple | set | frozenset):
        yield from ((f"{place}[{number}]", part) for number, part in enumerate(value))
    elif isinstance(value, BaseModel):
        yield from ((f"{place}.{name}", part) for name, part in value)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for part in dataclasses.fields(value):
            yield f"{place}.{part.name}", getattr(value, part.name)


def _is_bytes(value: object) -> bool:
    text = value.text if isinstance(value, Document) else value
    text = text.get("text") if isinstance(text, Mapping) else text
    return isinstance(text, str) and text.startswith("data:") and ";base64," in text[:200]
