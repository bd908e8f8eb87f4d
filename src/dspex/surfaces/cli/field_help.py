"""The help of an option, from the docstring of the input that its field belongs to."""

import inspect
import re
import typing
from datetime import datetime
from types import UnionType
from typing import Any, Final, Literal

_SENTENCE: Final = re.compile(r"(?<=[.!?])\s+(?=[A-Z`\"])")
_BY_TYPE: Final[dict[Any, str]] = {
    str: "A text.",
    int: "A whole number.",
    float: "A number.",
    bool: "true or false.",
    datetime: "A time such as 2030-01-31T12:00:00Z.",
}


def field_help(input_type: type, name: str) -> str:
    """Return the sentence on a field, in which its name has backticks; empty without one.

    A clause that begins with the name replaces the sentence, and leaves the name out: of "`a` is a
    text; `b` is a number." the help of b is "A number.".
    """
    for owner in input_type.__mro__:
        for sentence in _SENTENCE.split(inspect.cleandoc(owner.__dict__.get("__doc__") or "")):
            text = " ".join(sentence.split())
            if f"`{name}`" in text:
                return _shortened(text, name)
    return ""


def _shortened(text: str, name: str) -> str:
    """Return what a sentence says of a field, without its name if it begins with it."""
    clauses = [
        clause
        for clause in text.split("; ")
        if clause.startswith(f"`{name}`") and clause.count("(") == clause.count(")")
    ]
    text = clauses[0].rstrip(".") + "." if clauses else text
    return re.sub(rf"^`{name}` (?:is|are) (\w)", lambda match: match[1].upper(), text)


def type_help(hint: Any) -> str:
    """Return how a value of a type is written, or what it is."""
    if is_list_of_texts(hint):
        return "One or more: repeated, or separated by commas."
    if hint is bool:
        return "Off by default."
    member = members_of(hint)[0]
    if typing.get_origin(member) is Literal:
        return "One of these."
    return _BY_TYPE.get(member, "JSON, or @FILE.")


def members_of(hint: Any) -> tuple[Any, ...]:
    """Return the alternatives of a union without None, or the type alone."""
    members = typing.get_args(hint) if _is_union(hint) else (hint,)
    return tuple(member for member in members if member is not type(None))


def _is_union(hint: Any) -> bool:
    return isinstance(hint, UnionType) or typing.get_origin(hint) is typing.Union


def is_list_of_texts(hint: Any) -> bool:
    """Whether a value is a list of texts."""
    member = members_of(hint)[0]
    is_list = (typing.get_origin(member) or member) is list
    return is_list and typing.get_args(member) in {(str,), ()}
