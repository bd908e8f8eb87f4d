"""Names that others refuse, written so that the original can be read back."""

import re
from collections.abc import Container

from dspex.errors import SignatureError

_LEGAL = re.compile(r"[A-Za-z0-9_-]")
_ESCAPED = re.compile(r"_x([0-9A-F]{1,6})_")
NAME_LIMIT = 64


def provider_name(name: str) -> str:
    """Return `name` in letters, digits, `_` and `-`, beginning with a letter or `_`, as every provider takes it.

    Any other character becomes `_x2E_` (its code point in hexadecimal); `original_name` reads it back.

    Raises:
        SignatureError: the result has more than 64 characters.
    """
    # an underscore that would be read as the start of an escape is escaped itself
    safe = _ESCAPED.sub(lambda match: f"_x5F_{match[0][1:]}", name)
    made = "".join(char if _LEGAL.fullmatch(char) else f"_x{ord(char):X}_" for char in safe)
    if made[:1].isdigit() or made[:1] == "-" or not made:
        made = f"_x{ord(made[0]):X}_{made[1:]}" if made else "_x_"
    if len(made) > NAME_LIMIT:
        raise SignatureError(
            f"the name {name!r} has {len(made)} characters as providers take it, more than {NAME_LIMIT}; shorten it"
        )
    return made


def original_name(name: str) -> str:
    """Return the name that `provider_name` made this one of."""
    return "" if name == "_x_" else _ESCAPED.sub(lambda match: chr(int(match[1], 16)), name)


def field_name(wire: str, taken: Container[str]) -> str:
    """Return a legal name for a field or member that is called `wire` elsewhere, different from those `taken`."""
    word = re.sub(r"\W", "_", wire).strip("_") or "field"
    if word[0].isdigit():
        word = f"field_{word}"
    made, number = word, 2
    while made in taken:
        made, number = (f"{word}_", number) if made == word else (f"{word}_{number}", number + 1)
    return made
