"""Short texts for the values of a candidate: what people read in labels and changes."""

from collections.abc import Mapping
from typing import Any

from dspex.error_text import shorten

_LONGEST = 40


def label_of(values: Mapping[str, Any], choices: Mapping[str, int]) -> str:
    """Return values and numbers of proposals as one line: "temperature=0.331, instructions 2"."""
    parts = [f"{short_name(name)}={value_text(value)}" for name, value in values.items()]
    parts += [f"{short_name(name)} {index}" for name, index in choices.items() if index]
    return ", ".join(parts) or "as it is"


def short_name(name: str) -> str:
    """Return the name of a variable without the "self." of places in the outermost module."""
    return name.removeprefix("self.")


def value_text(value: object) -> str:
    """Return a value with at most three significant digits, or a short form of it."""
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, str) and len(value) <= _LONGEST:
        return value
    return shorten(value, _LONGEST)
