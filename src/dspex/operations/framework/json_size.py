"""The size of values as JSON."""

import json
from collections.abc import Iterable
from typing import Any, Final

import msgspec

_encode: Final = msgspec.json.Encoder().encode


def size_of(value: Any) -> int:
    """Return the size of a value as JSON; 0 if it has no JSON form, which the database rejects."""
    if value is None:
        return 0
    try:
        return len(_encode(value))
    except (UnicodeEncodeError, OverflowError):
        # half of a surrogate pair, a number of more than 64 bits: stored, too
        return _length(value)
    except (TypeError, ValueError, RecursionError):
        return 0


def sizes_of(values: Iterable[Any]) -> int:
    """Return how many bytes values take together, each as JSON of its own.

    They are encoded at once.
    """
    present = [value for value in values if value is not None]
    if not present:
        return 0
    try:
        return len(_encode(present)) - len(present) - 1  # without the list's brackets and commas
    except (TypeError, ValueError, OverflowError, RecursionError):
        return sum(map(size_of, present))


def _length(value: object) -> int:
    try:
        return len(json.dumps(value, separators=(",", ":"), allow_nan=False))
    except (TypeError, ValueError, RecursionError):
        return 0
