"""Generates texts that match a pattern."""

import re
import string
from collections.abc import Callable, Iterator
from itertools import count, islice
from typing import Any

from pydantic_core import SchemaValidator, ValidationError, core_schema

from dspex.errors import SignatureError
from dspex.language.signatures.patterns import engine_pattern

_TRIES = 40
_STEPS = 10_000
_CANDIDATES = (
    *string.ascii_lowercase,
    *string.digits,
    *string.ascii_uppercase,
    *" _-.,:;/@#+()[]{}!?'\"%&*=<>|~^$`\\\t\n",
)
_CLASSES = {
    "CATEGORY_DIGIT": string.digits,
    "CATEGORY_SPACE": " ",
    "CATEGORY_WORD": f"{string.ascii_lowercase}{string.digits}_",
    "CATEGORY_NOT_DIGIT": string.ascii_lowercase,
    "CATEGORY_NOT_SPACE": string.ascii_lowercase,
    "CATEGORY_NOT_WORD": "-",
}


def matching_text(
    pattern: str, number: int, *, min_length: int = 0, max_length: float = float("inf")
) -> str:
    """Return a text of `min_length` to `max_length` characters that matches `pattern`.

    Different `number`s give different texts, as far as the pattern allows.

    Raises:
        SignatureError: no text was found.
    """
    matches = _search(pattern)
    for text in islice(_candidates(pattern, number, min_length), _TRIES):
        padded = text if len(text) >= min_length else text.ljust(min_length, "x")
        for candidate in (text, padded):
            if min_length <= len(candidate) <= max_length and matches(candidate):
                return candidate
    raise SignatureError(
        f"no text was found that matches the pattern {pattern!r}; give one in a script or as a "
        "default"
    )


def _search(pattern: str) -> Callable[[str], bool]:
    """Return a function that searches a text for `pattern` in linear time."""
    validator = SchemaValidator(
        core_schema.str_schema(pattern=engine_pattern(pattern), regex_engine="rust-regex")
    )

    def matches(text: str) -> bool:
        try:
            validator.validate_python(text)
        except ValidationError:
            return False
        return True

    return matches


def _candidates(pattern: str, number: int, min_length: int) -> Iterator[str]:
    from re import _parser  # type: ignore[attr-defined]  # the only parser of patterns

    try:
        tree = _parser.parse(pattern)
    except (re.error, RecursionError, OverflowError):
        # a pattern that only the linear-time engine knows
        return
    for extra in count():
        try:
            yield _TextWriter(number + extra, extra if extra < 8 else min_length).sequence(tree)
        except (NotImplementedError, RecursionError, IndexError, ZeroDivisionError):
            return


class _TextWriter:
    """Writes one text that follows a parsed pattern."""

    def __init__(self, number: int, extra: int) -> None:
        self._number = number
        self._extra = extra  # additional repetitions of each repeated part
        self._groups: dict[int | None, str] = {}
        self._steps = 0

    def sequence(self, tree: Any) -> str:
        return "".join(self._element(str(code), argument) for code, argument in tree)

    def _element(self, code: str, argument: Any) -> str:
        self._steps += 1
        if self._steps > _STEPS:
            raise NotImplementedError("too long")
        match code:
            case "LITERAL":
                return chr(argument)
            case "ANY":
                return self._pick(list(string.ascii_lowercase))
            case "IN":
                return self._pick(_members(argument))
            case "NOT_LITERAL":
                return self._pick([char for char in _CANDIDATES if char != chr(argument)])
            case "AT" | "ASSERT" | "ASSERT_NOT":
                return ""  # checked later on the whole text
        return self._compound(code, argument)

    def _compound(self, code: str, argument: Any) -> str:
        match code:
            case "BRANCH":
                return self.sequence(argument[1][self._number % len(argument[1])])
            case "SUBPATTERN":
                text = self._groups[argument[0]] = self.sequence(argument[-1])
                return text
            case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
                low, high, inner = argument
                return "".join(
                    self.sequence(inner) for _ in range(min(low + self._extra, int(high), _STEPS))
                )
            case "ATOMIC_GROUP":
                return self.sequence(argument)
            case "GROUPREF":
                return self._groups.get(argument, "")
        raise NotImplementedError(code)

    def _pick(self, characters: list[str]) -> str:
        self._number = (self._number * 31 + 7) % 1_000_003
        return characters[self._number % len(characters)]


def _members(parts: Any) -> list[str]:
    is_negated = bool(parts) and str(parts[0][0]) == "NEGATE"
    characters: list[str] = []
    for code, argument in parts[1:] if is_negated else parts:
        match str(code):
            case "LITERAL":
                characters.append(chr(argument))
            case "RANGE":
                low, high = argument
                characters += [chr(place) for place in range(low, min(high, low + 64) + 1)]
            case "CATEGORY":
                characters += _CLASSES[str(argument)]
    if not is_negated:
        return characters
    shape = (
        re.compile("[" + "".join(re.escape(char) for char in characters) + "]")
        if characters
        else None
    )
    return [char for char in _CANDIDATES if shape is None or not shape.match(char)]
