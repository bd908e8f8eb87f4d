"""Rewrites patterns of JSON Schema without look-ahead, if possible.

`^(?!a)b` requires that a text does not match `^a` and does match `^b`: two linear-time patterns.
"""

import re
from collections.abc import Iterator
from typing import Any

from dspex.language.signatures.schema_check import schema_check

_AHEAD = re.compile(r"\(\?([=!])")
_OURS = re.compile(r"\\\\|\\A|\\Z|\(\?P<")
_THEIRS = {"\\A": "^", "\\Z": "$", "(?P<": "(?<"}
_RANGE_OF_CLASS = re.compile(r"(\\[wdsWDS])-(?!\])")


def without_look_ahead(pattern: str) -> list[dict[str, Any]]:
    """Return schemas that together accept the texts that match `pattern`, and any other value.

    Only look-ahead at the very beginning, after `^`, for the whole pattern, is rewritten.
    """
    # JSON Schema: a hyphen after a class is literal
    pattern = _RANGE_OF_CLASS.sub(r"\1\\-", pattern)
    rest, parts = pattern[1:], []
    while pattern.startswith("^") and (ahead := _AHEAD.match(rest)):
        end = _end_of_group(rest)
        if end is None:
            return [{"pattern": pattern}]
        schema: dict[str, Any] = {"pattern": f"^(?:{rest[ahead.end() : end]})"}
        parts.append(schema if ahead[1] == "=" else {"not": {"type": "string", **schema}})
        rest = rest[end + 1 :]
    if not parts or _has_alternatives(rest):
        return [{"pattern": pattern}]
    return [*parts, {"pattern": f"^{rest}"}]


def rewrite_closed_names(schema: dict[str, Any]) -> None:
    """Rewrite look-ahead in the only pattern for names of a closed object, without the pattern.

    A closed object may only have its properties and names that match, so that `propertyNames` can
    list these names. An open object also allows names that do not match: no rule excludes them.
    """
    patterns = schema.get("patternProperties", {})
    if len(patterns) != 1 or schema.get("additionalProperties") is not False:
        return
    pattern, part = next(iter(patterns.items()))
    parts = without_look_ahead(pattern)
    if len(parts) == 1:
        return
    names = {"allOf": parts}
    check = schema_check(names)
    others = [name for name in schema.get("properties", {}) if check.problem(name)]
    del schema["patternProperties"], schema["additionalProperties"]
    rule = {
        "properties": dict.fromkeys(others, True),
        "additionalProperties": part,
        "propertyNames": {"anyOf": [{"enum": others}, names]} if others else names,
    }
    schema["allOf"] = [*schema.get("allOf", ()), rule]


def to_schema_pattern(pattern: str) -> str:
    """Return a Python pattern in the dialect of JSON Schema."""
    return _OURS.sub(lambda match: _THEIRS.get(match[0], match[0]), pattern)


def _end_of_group(text: str) -> int | None:
    """Return the index of the end of the group at the start of `text`."""
    return next((at for at, depth, char in _marks(text) if char == ")" and depth == 0), None)


def _has_alternatives(text: str) -> bool:
    return any(char == "|" and depth == 0 for _, depth, char in _marks(text))


def _marks(text: str) -> Iterator[tuple[int, int, str]]:
    """Yield index, depth and character of each parenthesis and bar outside classes and escapes."""
    depth, in_class, at = 0, False, 0
    while at < len(text):
        char = text[at]
        if char == "\\":
            at += 1
        elif in_class:
            in_class = char != "]"
        elif char == "[":
            in_class = True
        elif char in "()|":
            depth += {"(": 1, ")": -1, "|": 0}[char]
            yield at, depth, char
        at += 1
