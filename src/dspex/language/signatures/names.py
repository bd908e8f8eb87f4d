"""Escapes names that providers refuse, so that the original can be recovered."""

import re
from collections.abc import Container

from dspex.errors import SignatureError

_PLAIN = re.compile(r"[A-Za-z0-9_]")
_CONFUSING = re.compile(r"_(?=x[0-9A-F]{0,6}(?![A-Za-z0-9.]|$))")
_TOKEN = re.compile(r"_x([0-9A-F]{1,6})_|--")
_KEY = re.compile(r"[a-zA-Z0-9_.-]{1,64}")
NAME_LIMIT = 64


def provider_name(name: str) -> str:
    """Return `name` as every provider accepts it: letters, digits, `_`, `-`, no digit or `-` first.

    A dot becomes `--`, any other character `_x20_` (its code point in hexadecimal); `original_name`
    reverses it.

    Raises:
        SignatureError: the result has more than 64 characters.
    """
    # an underscore that would be read as the start of an escape is escaped itself
    safe = _CONFUSING.sub("_x5F_", name)
    result = "".join(_escape(safe, at) for at in range(len(safe))) or "_x_"
    if len(result) > NAME_LIMIT:
        raise SignatureError(
            f"the name {name!r} has {len(result)} characters when escaped for providers, more than "
            f"{NAME_LIMIT}; shorten it"
        )
    return result


def _escape(name: str, at: int) -> str:
    char, following = name[at], name[at + 1 : at + 2]
    is_plain = _PLAIN.fullmatch(char) is not None and not (at == 0 and char.isdigit())
    if is_plain or (char == "-" and at > 0 and following not in {"-", "."}):
        return char
    return "--" if char == "." and at > 0 else f"_x{ord(char):X}_"


def key_name(name: str) -> str:
    """Return `name` as a property name that every provider accepts.

    A name of up to 64 letters, digits, `_`, `.` and `-` is returned unchanged.

    Raises:
        SignatureError: as for `provider_name`.
    """
    return name if _KEY.fullmatch(name) else provider_name(name)


def original_name(name: str) -> str:
    """Return the name that `provider_name` escaped."""
    return (
        ""
        if name == "_x_"
        else _TOKEN.sub(lambda match: chr(int(match[1], 16)) if match[1] else ".", name)
    )


def field_name(wire: str, used_names: Container[str]) -> str:
    """Return a legal name for a field or member called `wire`, different from `used_names`."""
    word = re.sub(r"[^0-9A-Za-z_]", "_", wire).strip("_") or "field"
    if word[0].isdigit():
        word = f"field_{word}"
    name, number = word, 2
    while name in used_names:
        name, number = (f"{word}_", number) if name == word else (f"{word}_{number}", number + 1)
    return name
