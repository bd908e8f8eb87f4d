"""The values of one type as the content of an XML element, in both directions."""

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from dspex.execution.adapters.replies import Reader, reader_of, takes_text
from dspex.execution.adapters.turns import json_writer, text_of, writer_of
from dspex.execution.adapters.xml_text import XMLElement, element, escape
from dspex.language.signatures import Type
from dspex.language.signatures.types import make

_NESTED: Final = frozenset({"list", "tuple", "dict", "object"})
_ITEM: Final = "item"
_ANY: Final = make("any")


class XMLValue:
    """Writes and reads the values of a type.

    Lists, tuples, dicts and objects are elements inside the element; anything else is text, as in
    the other layouts. A list or an object that a model wrote as JSON is read, too.
    """

    __slots__ = ("_classes", "_parts", "_plain", "_read_text", "_type", "_write_text", "shape")

    def __init__(self, type_: Type, classes: Mapping[str, Type] | None = None) -> None:
        """Take the type, and the objects around it, to which it may refer."""
        self._type = type_
        shape = _shape(type_, classes or {})
        self._classes = (
            {**(classes or {}), shape.title: shape} if shape and shape.title else classes
        )
        self.shape = shape
        self._plain = json_writer(type_)
        self._read_text: Reader = reader_of(type_)
        self._write_text: Callable[[Any], str] = writer_of(type_) or text_of
        self._parts: dict[str | int, XMLValue] = {}

    @property
    def is_nested(self) -> bool:
        """Whether values have elements inside."""
        return self.shape is not None

    def write(self, value: Any) -> str:
        """Return the content of the element that holds a value."""
        return self.write_data(self._plain(value) if self.is_nested else value)

    def read(self, *elements: XMLElement) -> Any:
        """Return the value that elements of one name hold, for the validator of the field."""
        first = elements[0]
        if self.shape is not None:
            return self._read_nested(elements)
        if first.children and not takes_text(self._type) and self._type.kind != "atom":
            return _read_free(first)
        return self._read_text(first.text)

    def write_data(self, data: Any) -> str:
        """Return the content of the element that holds a value in JSON form."""
        shape = self.shape
        if shape is not None and isinstance(data, list) and shape.kind in {"list", "tuple"}:
            parts = [
                element(_ITEM, self._item(place).write_data(part))
                for place, part in enumerate(data)
            ]
            return "".join(parts) or self._empty("[]")
        if shape is not None and isinstance(data, dict) and shape.kind in {"dict", "object"}:
            parts = [
                element(
                    str(name),
                    self._member(name).write_data(part),
                    key=str(name) if shape.kind == "dict" else None,
                )
                for name, part in data.items()
            ]
            return "".join(parts) or self._empty("{}")
        if data is None and self._type.is_optional:
            return ""
        text = self._write_text(data)
        if self._type.kind == "any" and not _is_same(self._read_text(text), data):
            text = json.dumps(text_data(data), ensure_ascii=False)
        return escape(text)

    def _empty(self, text: str) -> str:
        """Return the content of an empty list or dict; of an optional one, none at all is null."""
        return text if self._type.is_optional else ""

    def skeleton(self, name: str, around: frozenset[str] = frozenset()) -> str:
        """Return a content with names in braces instead of values; `around` are the objects."""
        shape = self.shape
        if shape is None:
            return f"{{{name}}}"
        if shape.title in around:
            return "..."
        around |= {shape.title} if shape.title else set()
        if shape.kind == "dict":
            return element("", self._member("").skeleton("value", around), key="{key}")
        if shape.kind == "object":
            names = [member.name for member in shape.members]
            return "".join(element(key, self._member(key).skeleton(key, around)) for key in names)
        places = range(len(shape.args) if shape.kind == "tuple" and shape.args else 1)
        return "".join(
            element(_ITEM, self._item(place).skeleton(_ITEM, around)) for place in places
        )

    def _read_nested(self, elements: tuple[XMLElement, ...]) -> Any:
        first, kind = elements[0], "" if self.shape is None else self.shape.kind
        is_list = kind in {"list", "tuple"}
        if not first.children and len(elements) == 1:
            text = first.text.strip()
            if not text:
                return None if self._type.is_optional else [] if is_list else {}
            value = self._read_text(text)
            is_item = is_list and value is not None and not isinstance(value, list)
            return [self._item(0).read(first)] if is_item else value
        if not is_list:
            groups = _groups(first)
            return {name: self._member(name).read(*group) for name, group in groups.items()}
        items = [
            item
            for part in elements
            for item in (
                _groups(part).get(_ITEM) or ([part] if part.children or part.text.strip() else [])
            )
        ]
        return [self._item(place).read(item) for place, item in enumerate(items)]

    def _item(self, place: int) -> "XMLValue":
        args = () if self.shape is None else self.shape.args
        number = place if self.shape is not None and self.shape.kind == "tuple" else 0
        return self._part(number, args[number] if number < len(args) else _ANY)

    def _member(self, name: str) -> "XMLValue":
        shape = self.shape
        if shape is not None and shape.kind == "dict":
            return self._part(1, shape.args[1] if len(shape.args) == 2 else _ANY)
        members = () if shape is None else shape.members
        type_ = next((member.type for member in members if member.name == name), _ANY)
        return self._part(name, type_) if type_ is not _ANY else XMLValue(_ANY)

    def _part(self, key: str | int, type_: Type) -> "XMLValue":
        part = self._parts.get(key)
        if part is None:  # made when needed, since an object may refer to itself
            part = self._parts[key] = XMLValue(type_, self._classes)
        return part


def _shape(type_: Type, classes: Mapping[str, Type]) -> Type | None:
    """Return the list, tuple, dict or object among the values of a type, if all others are null."""
    parts = type_.args if type_.kind == "union" else (type_,)
    parts = tuple(part for part in parts if part.kind != "none")
    if len(parts) != 1:
        return None
    part = classes.get(parts[0].title, parts[0]) if parts[0].kind == "ref" else parts[0]
    return part if part.kind in _NESTED else None


def _groups(parent: XMLElement) -> dict[str, list[XMLElement]]:
    groups: dict[str, list[XMLElement]] = {}
    for child in parent.children:
        groups.setdefault(child.name, []).append(child)
    return groups


def _read_free(parent: XMLElement) -> Any:
    """Read an element whose type does not tell its form."""
    if not parent.children:
        return _FREE(parent.text)
    groups = _groups(parent)
    if groups.keys() == {_ITEM}:
        return [_read_free(item) for item in groups[_ITEM]]
    return {name: _read_free(group[0]) for name, group in groups.items()}


_FREE: Final = reader_of(_ANY)


def text_data(value: Any) -> Any:
    """Return a value as JSON data."""
    return json_writer(_ANY)(value)


def _is_same(first: Any, second: Any) -> bool:
    return type(first) is type(second) and bool(first == second)
