"""Values of rows as JSON: what names their contents, and what compares them whatever their class."""

import math
from collections.abc import Mapping
from typing import Any

from dspex.language.records.canonical import canonical_json

_PLAIN = frozenset({str, int, bool, type(None)})


def plain(value: Any) -> Any:  # noqa: ANN401  # any value to any JSON value
    """Return a value as JSON: models and media as objects, arrays and sets as lists, bytes as base64, NaN as text.

    What JSON holds already stays as it is.

    Raises:
        ValueError: it has no JSON form; so has a part of it.
    """
    if type(value) in _PLAIN:
        return value
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted(map(plain, value), key=canonical_json)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(value)
    from pydantic_core import to_jsonable_python

    from dspex.language.signatures.instances import as_json, has_bytes

    if has_bytes(value):
        return plain(as_json(value))
    return plain(to_jsonable_python(value, fallback=_foreign))


def _foreign(value: Any) -> Any:  # noqa: ANN401
    """Return an array or a number of NumPy as lists and numbers."""
    if callable(listed := getattr(value, "tolist", None)):
        return listed()
    raise ValueError(f"{type(value).__name__} has no JSON form")
