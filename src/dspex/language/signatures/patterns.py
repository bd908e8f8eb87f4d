"""Patterns that match in linear time: without look-around and back-references.

Patterns are written for Python's `re`. They are matched by an automaton without backtracking, so
that no text can make matching slow; unsupported constructs are refused in the declaration.
"""

import re
import warnings
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Final

from dspex.error_text import shorten
from dspex.errors import SignatureError
from dspex.language.signatures.limits import LIMITS, PATTERN_WORK, check_limit

_parser: Any = re._parser  # type: ignore[attr-defined]  # noqa: SLF001  # the only parser
_UNSUPPORTED: Final = {
    "ASSERT": "look-ahead or look-behind",
    "ASSERT_NOT": "negative look-ahead or look-behind",
    "GROUPREF": "a back-reference",
    "GROUPREF_EXISTS": "a condition on a group",
    "ATOMIC_GROUP": "an atomic group",
    "POSSESSIVE_REPEAT": "a possessive repetition",
}
_CLASSES: Final = {"WORD": (r"\w", 200), "DIGIT": (r"\d", 20), "SPACE": (r"\s", 3)}
_PLACES: Final = {
    "AT_BEGINNING": "^", "AT_BEGINNING_STRING": r"\A", "AT_END": "$", "AT_END_STRING": r"\z",
    "AT_BOUNDARY": r"\b", "AT_NON_BOUNDARY": r"\B",
}  # fmt: skip
_ANY_STATES: Final = 4
_FOREIGN_STATES: Final = 20  # per character, for a pattern that Python cannot parse
_FLAGS: Final = {re.IGNORECASE: "i", re.MULTILINE: "m", re.DOTALL: "s", re.VERBOSE: ""}


def check_pattern(pattern: str) -> None:
    """Raise unless `pattern` can be matched in linear time, without compiling it.

    Raises:
        SignatureError: it is not a regular expression, is too large, or needs backtracking.
    """
    check_limit("pattern", len(pattern), "a pattern")
    _check_linear(pattern, _parse(pattern))


def _check_linear(pattern: str, tree: Any) -> None:
    problem = _unsupported_part(tree)
    if problem:
        raise SignatureError(
            f"the pattern {shorten(pattern)} has {problem}, which cannot be matched in linear "
            "time; write it without, or check an output with a function: Output(check=...)"
        )
    check_limit("pattern_states", _states(tree), f"the pattern {shorten(pattern)}")


@lru_cache(maxsize=1024)
def schema_pattern_states(pattern: str) -> int:
    """Check a pattern in the dialect of JSON Schema and return its approximate number of states.

    A pattern that Python cannot parse is left to the JSON Schema validator.

    Raises:
        SignatureError: it is too large, or needs backtracking.
    """
    check_limit("pattern", len(pattern), "a pattern")
    try:
        tree = _parse(pattern)
    except SignatureError:
        return _FOREIGN_STATES * len(pattern)
    _check_linear(pattern, tree)
    return _states(tree)


@lru_cache(maxsize=1024)
def engine_pattern(pattern: str) -> str:
    """Return `pattern` in the notation of the linear-time engine.

    Raises:
        SignatureError: as for `check_pattern`, or the engine does not support the pattern.
    """
    check_pattern(pattern)
    for text in (pattern, _translation(_parse(pattern))):
        if text is not None and _is_accepted(text):
            return text
    raise SignatureError(
        f"the linear-time engine does not support the pattern {shorten(pattern)}; write it more "
        "simply"
    )


@lru_cache(maxsize=1024)
def pattern_states(pattern: str) -> int:
    """Return the approximate number of states of the automaton of `pattern`."""
    return _states(_parse(pattern))


def longest_match(pattern: str) -> int | None:
    """Return the maximum length of texts to match, or None if every length is fast enough."""
    states = pattern_states(pattern)
    return None if states * LONGEST_TEXT <= PATTERN_WORK else PATTERN_WORK // states


LONGEST_TEXT: Final = 4 * 1024 * 1024


def _parse(pattern: str) -> Any:
    try:
        with warnings.catch_warnings():
            # about brackets inside classes, which are literal here
            warnings.simplefilter("ignore", FutureWarning)
            return _parser.parse(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise SignatureError(f"{shorten(pattern)} is not a regular expression: {error}") from None


def _is_accepted(text: str) -> bool:
    from pydantic_core import SchemaError, SchemaValidator, core_schema

    try:
        SchemaValidator(core_schema.str_schema(pattern=text, regex_engine="rust-regex"))
    except SchemaError:
        return False
    return True


def _unsupported_part(tree: Any) -> str:
    for operator, argument in tree:
        if problem := _UNSUPPORTED.get(str(operator)) or next(
            filter(None, map(_unsupported_part, _subpatterns(operator, argument))), ""
        ):
            return problem
    return ""


def _subpatterns(operator: Any, argument: Any) -> Sequence[Any]:
    match str(operator):
        case "BRANCH":
            return argument[1]  # type: ignore[no-any-return]
        case "SUBPATTERN" | "MAX_REPEAT" | "MIN_REPEAT":
            return [argument[-1]]
    return []


def _states(tree: Any) -> int:
    """Return the number of states with expanded repetitions; stop counting above the limit."""
    most = LIMITS["pattern_states"].most
    total = 0
    for operator, argument in tree:
        below = sum(map(_states, _subpatterns(operator, argument)))
        if str(operator) in {"MAX_REPEAT", "MIN_REPEAT"}:
            least, greatest = int(argument[0]), int(argument[1])
            below = max(below, 1) * max(
                1, least + 1 if greatest == int(_parser.MAXREPEAT) else greatest
            )
        total += below + _node_states(str(operator), argument)
        if total > most:
            return total
    return total


def _node_states(operator: str, argument: Any) -> int:
    if operator == "IN":
        return sum(_node_states(str(part), value) for part, value in argument)
    if operator == "CATEGORY":
        name = str(argument).removeprefix("CATEGORY_").removeprefix("NOT_")
        return _CLASSES[name][1]
    return _ANY_STATES if operator in {"ANY", "NOT_LITERAL", "NEGATE", "RANGE"} else 1


def _translation(tree: Any) -> str | None:
    """Return the pattern in the engine's notation: other escapes, and brackets inside classes."""
    flags = "".join(letter for flag, letter in _FLAGS.items() if tree.state.flags & flag)
    try:
        return (f"(?{flags})" if flags else "") + _translate(tree)
    except (KeyError, RecursionError):
        return None


def _translate(tree: Any) -> str:
    return "".join(_WRITERS[str(operator)](argument) for operator, argument in tree)


def _literal(code: int) -> str:
    char = chr(code)
    return char if char.isalnum() or char in " _" else f"\\x{{{code:X}}}"


def _class(argument: Any) -> str:
    return "[" + "".join(_CLASS_WRITERS[str(part)](value) for part, value in argument) + "]"


def _category(argument: Any) -> str:
    name = str(argument).removeprefix("CATEGORY_")
    text = _CLASSES[name.removeprefix("NOT_")][0]
    return text.upper() if name.startswith("NOT_") else text


def _group(argument: Any) -> str:
    _, flags_on, flags_off, inside = argument
    plus, minus = (
        "".join(letter for flag, letter in _FLAGS.items() if part & flag)
        for part in (flags_on, flags_off)
    )
    return f"(?{plus}{f'-{minus}' if minus else ''}:{_translate(inside)})"


def _repeat(mark: str) -> Callable[[Any], str]:
    def write(argument: Any) -> str:
        least, greatest, inside = argument
        most = "" if int(greatest) == int(_parser.MAXREPEAT) else int(greatest)
        return f"(?:{_translate(inside)}){{{int(least)},{most}}}{mark}"

    return write


_CLASS_WRITERS: Final[dict[str, Callable[[Any], str]]] = {
    "NEGATE": lambda _: "^",
    "LITERAL": _literal,
    "RANGE": lambda ends: f"{_literal(ends[0])}-{_literal(ends[1])}",
    "CATEGORY": _category,
}
_WRITERS: Final[dict[str, Callable[[Any], str]]] = {
    "LITERAL": _literal,
    "NOT_LITERAL": lambda code: f"[^{_literal(code)}]",
    "ANY": lambda _: ".",
    "IN": _class,
    "BRANCH": lambda argument: "(?:" + "|".join(map(_translate, argument[1])) + ")",
    "SUBPATTERN": _group,
    "MAX_REPEAT": _repeat(""),
    "MIN_REPEAT": _repeat("?"),
    "AT": lambda place: _PLACES[str(place)],
}
