"""Prompts are text: refuse images, recordings and files before anything is sent."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from dspex.errors import MediaError
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


class MediaGuard:
    """Refuses values that hold media. Fields that cannot hold any are never checked."""

    __slots__ = ("_fields",)

    def __init__(self, fields: Iterable[Field]) -> None:
        """Take the fields whose values go into a prompt."""
        self._fields = tuple((field.name, field.type) for field in fields if _may_hold(field.type))

    def check(self, values: Mapping[str, Any]) -> None:
        """Raise if an input or a demonstration holds media, as an instance or in JSON form.

        Raises:
            MediaError: a value holds media; the message names its place.
        """
        for name, type_ in self._fields:
            value = values.get(name)
            if value is None or (type(value) in _PLAIN and type_.kind in _OPEN):
                continue
            media = next(_declared_media(type_, value, name), None) or first_media(value, name)
            if media is not None:
                path, kind = media
                raise MediaError(
                    f"{path} holds {_WORDS[kind]} ({kind}), but prompts of this version are text "
                    "and would contain "
                    "its bytes. Run the program on the backend 'dspy', which sends media, or pass "
                    "text instead; "
                    "nothing was sent",
                    path=path,
                    kind=kind,
                )


_PLAIN: Final = frozenset({str, int, float, bool})


def _may_hold(type_: Type) -> bool:
    if type_.kind in _WORDS or type_.kind in _OPEN:
        return True
    if (
        type_.kind in {"list", "set", "tuple", "dict", "object"}
        and not type_.args
        and not type_.members
    ):
        return True  # its parts may be anything
    return any(
        _may_hold(part) for part in (*type_.args, *(member.type for member in type_.members))
    )


def _declared_media(type_: Type, value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Yield the media that the type declares in the JSON form of a value; ignore instances."""
    if value is None:
        return
    if type_.kind in _WORDS:
        if type_.kind != "Document" or _is_bytes(value):
            yield path, type_.kind
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


def first_media(value: object, path: str) -> tuple[str, str] | None:
    """Return (place, kind) of the first image, recording or file inside a value, or None."""
    stack: list[tuple[str, Any]] = [(path, value)]
    for _ in range(_MAX_VALUES):
        if not stack:
            break
        place, part = stack.pop()
        if isinstance(part, _CLASSES):
            return place, type(part).__name__
        if isinstance(part, Document):
            if _is_bytes(part):
                return place, "Document"
        elif type(part) not in _PLAIN:
            stack.extend(_parts(part, place))
    return None


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
