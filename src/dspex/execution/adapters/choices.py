"""Format the values of a choice for prompts and read them back from replies, as the same value."""

import json
import re
from collections.abc import Callable
from typing import Any

import msgspec

from dspex.language.signatures import Type

_decode = msgspec.json.Decoder().decode
_QUOTES = "\"'`"
_WRAPPED = re.compile(r"(?:Literal|str)\[(.*)\]", re.DOTALL)  # models copy the type from the prompt


class Choices:
    """The values of one choice type, as prompts and replies write them."""

    __slots__ = ("_by_text", "_names", "_non_texts", "_texts", "values")

    def __init__(self, type_: Type) -> None:
        """Take a choice type; replies may also name the members of an enumeration."""
        self.values: tuple[Any, ...] = type_.constraint("one_of")
        self._texts = {value for value in self.values if isinstance(value, str)}
        self._non_texts = {
            (type(value), value): value for value in self.values if not isinstance(value, str)
        }
        self._by_text = {str(value): value for value in self.values if not isinstance(value, str)}
        members = type_.python.__members__ if type_.python is not None else {}
        self._names = {name: member.value for name, member in members.items()}

    def format(self, value: object) -> str:
        """Return one value as a prompt shows it: unquoted if unambiguous, otherwise as JSON."""
        plain = str(value)
        is_plain = (
            plain == plain.strip().strip(_QUOTES)
            and plain
            and not any(mark in plain for mark in ";\n")
        )
        return (
            plain
            if is_plain and _is_same(self.read(plain), value)
            else json.dumps(value, ensure_ascii=False)
        )

    def format_all(self) -> str:
        """Return all values as a prompt shows them."""
        return "; ".join(map(self.format, self.values))

    def read(self, text: str) -> Any:
        """Return the value that the text of a reply means; return other text stripped."""
        decoded = _json(text)
        if not isinstance(decoded, str) and (type(decoded), decoded) in self._non_texts:
            return self._non_texts[type(decoded), decoded]
        bare = text.strip()
        for candidate in (decoded, text.strip("\r\n"), bare):
            if candidate in self._texts:
                return candidate
        return self._read_inside(bare)

    def fit(self, value: Any) -> Any:
        """Return the choice that a value inside a JSON reply means; keep other values."""
        if isinstance(value, str):
            return value if value in self._texts else self.read(value)
        if isinstance(value, bool | int | float) and (type(value), value) not in self._non_texts:
            text = json.dumps(value)
            return text if text in self._texts else value
        return value

    def _read_inside(self, text: str) -> Any:
        """Strip quotes and type names, layer by layer, until a value remains."""
        rest = text
        while True:
            for values in (self._by_text, self._names):
                if rest in values:
                    return values[rest]
            if rest in self._texts:
                return rest
            inner = _without_wrapping(rest)
            if inner == rest:
                break
            rest = inner
        bare = text.strip(f"{_QUOTES} ")
        return bare if bare in self._texts else self._by_text.get(bare, self._names.get(bare, bare))


def _without_wrapping(text: str) -> str:
    if len(text) > 1 and text[0] == text[-1] and text[0] in _QUOTES:
        return text[1:-1]
    if wrapped := _WRAPPED.fullmatch(text):
        return wrapped[1]
    return text.strip()


def _is_same(first: object, second: object) -> bool:
    return type(first) is type(second) and first == second


def _json(text: str) -> Any:
    try:
        value = _decode(text.strip())
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, str | int | float | bool | None) else text


def choices_in(type_: Type) -> tuple[Choices, ...]:
    """Return the choices among the members of a union, or `type_` itself if it is a choice."""
    parts = type_.args if type_.kind == "union" else (type_,)
    return tuple(Choices(part) for part in parts if part.kind == "atom")


def choice_reader(choices: tuple[Choices, ...]) -> Callable[[str], tuple[bool, Any]]:
    """Return a function that maps the text of a reply to (is one of the values, the value)."""

    def read(text: str) -> tuple[bool, Any]:
        for choice in choices:
            value = choice.read(text)
            if any(_is_same(value, choice_value) for choice_value in choice.values):
                return True, value
        return False, None

    return read
