"""Values of rows as JSON, to hash and compare them independent of their classes."""

import math
from collections.abc import Mapping
from typing import Any

from dspex.language.records.canonical import canonical_json

_PLAIN = frozenset({str, int, bool, type(None)})


def plain(value: Any) -> Any:
    """Return a value as JSON; JSON values are returned unchanged.

    Models and media become objects, arrays and sets lists, bytes base64, and NaN text.

    Raises:
        ValueError: the value or a part of it has no JSON form.
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


def _foreign(value: Any) -> Any:
    """Return a NumPy array or number as lists and numbers."""
    if callable(to_list := getattr(value, "tolist", None)):
        return to_list()
    raise ValueError(f"{type(value).__name__} has no JSON form")
