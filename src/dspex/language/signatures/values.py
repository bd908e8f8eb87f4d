"""Validation functions for single values that pydantic-core does not provide."""

import base64
import binascii
import enum
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic_core import PydanticCustomError, PydanticOmit, to_jsonable_python

from dspex.language.signatures.content import is_url
from dspex.language.signatures.depth import DEPTH_LIMIT, is_too_deep

_SCALARS = (str, int, float, bool, type(None))
_EXACT = 2.0**53  # larger floats do not represent exactly one integer
_PLAIN = (*_SCALARS, dict, list)


def check_depth(value: Any) -> Any:
    """Raise if containers are nested deeper than `DEPTH_LIMIT`, too deep to write as JSON."""
    if is_too_deep(value):
        raise PydanticCustomError(
            "depth", "nested deeper than {limit} levels", {"limit": DEPTH_LIMIT}
        )
    return value


def fits_schema(schema: Mapping[str, Any]) -> Callable[[Any], Any]:
    """Return a function that raises unless a value, as JSON, is valid by `schema`."""
    from dspex.language.signatures.schema_check import schema_check

    compiled = schema_check(schema)

    def check(value: Any) -> Any:
        check_depth(value)
        problem = compiled.problem(_as_json(value))
        if problem:
            raise PydanticCustomError("schema", "{problem}", {"problem": problem})
        return value

    return check


def _as_json(value: Any) -> Any:
    """Return a value as JSON data; plain data is returned as it is."""
    pending, visited = [value], {id(value)}
    while pending:
        part = pending.pop()
        if type(part) not in _PLAIN:
            return to_jsonable_python(value, fallback=repr)
        for child in part.values() if type(part) is dict else part if type(part) is list else ():
            if type(child) not in _SCALARS and id(child) not in visited:
                visited.add(id(child))
                pending.append(child)
    return value


def check_unique(values: Any) -> Any:
    """Raise if a list holds two values that are equal as JSON."""
    positions: dict[Any, int] = {}
    for at, value in enumerate(values):
        key = _identity(value)
        if key in positions:
            raise PydanticCustomError(
                "unique",
                "the values at {first} and {second} are equal",
                {"first": positions[key], "second": at},
            )
        positions[key] = at
    return values


def _identity(value: Any) -> Any:
    if type(value) in {str, int, float, bool}:
        return (type(value) is bool, value)
    return json.dumps(_numbers(to_jsonable_python(value, fallback=repr)), sort_keys=True)


def _numbers(value: Any) -> Any:
    """Return `value` with 1.0 as 1 at any depth: in JSON they are equal."""
    if isinstance(value, dict):
        return {key: _numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def check_length(limit: int) -> Callable[[str], str]:
    """Return a function that raises if a text is too long for its pattern."""

    def check(value: str) -> str:
        if len(value) > limit:
            raise PydanticCustomError(
                "pattern_length",
                "has {length} characters, more than the limit of {limit} for its pattern",
                {"length": len(value), "limit": limit},
            )
        return value

    return check


def check_media_url(value: Any) -> Any:
    """Raise unless a picture, recording or file has a URL or data URI: paths are never read."""
    url = value["url"] if isinstance(value, Mapping) else value.url
    if not is_url(url):
        raise PydanticCustomError(
            "media_url",
            "expected a URL such as https://... or data:..., because no path is read (in Python, "
            "Image(PATH) reads a file, and so does FIELD=@PATH on the command line)",
        )
    return value


def check_required_keys(names: Sequence[str]) -> Callable[[Any], Any]:
    """Return a function that raises unless a mapping has all of `names`."""

    def check(value: Mapping[Any, Any]) -> Mapping[Any, Any]:
        missing = [name for name in names if name not in value]
        if missing:
            raise PydanticCustomError(
                "required_keys", "the keys {missing} are missing", {"missing": ", ".join(missing)}
            )
        return value

    return check


def pairs_to_dict(value: Any) -> Any:
    """Read `[{"key": k, "value": v}]` as a mapping; providers with fixed names use this form."""
    if type(value) is not list or not all(
        isinstance(pair, dict) and pair.keys() == {"key", "value"} for pair in value
    ):
        return value
    result = {pair["key"]: pair["value"] for pair in value}
    if len(result) < len(value):
        raise PydanticCustomError("unique", "one key is given twice")
    return result


def pick_atom(values: Sequence[Any], *, python: Any, is_strict: bool) -> Callable[[Any], Any]:
    """Return a function that selects one of `values`, or the member of the enumeration `python`."""
    members = list(python) if python is not None else []
    results = {
        _identity(value): members[at] if members else value
        for at, value in enumerate(values)
        if value is not None
    }
    texts = {} if is_strict else {str(value): result for (_, value), result in results.items()}
    if python is not None and not is_strict:  # values take precedence: other processes send them
        texts = {**python.__members__, **texts}
    expected = " or ".join(repr(value) for value in values)

    def check(value: Any) -> Any:
        if python is not None and isinstance(value, python):
            return value
        if value is None and None in values:
            return None
        if isinstance(value, str | int | float) and not isinstance(value, enum.Enum):
            key = _identity(value)
            if key in results:
                return results[key]
            if isinstance(value, str) and value in texts:
                return texts[value]
        raise PydanticCustomError("one_of", "expected {expected}", {"expected": expected})

    return check


def absent_if_null(value: Any, check: Callable[[Any], Any]) -> Any:
    """Omit an optional member that is null: strict form writes absence as null."""
    if value is None:
        raise PydanticOmit
    return check(value)


def whole_number(value: Any) -> Any:
    """Return 1 for 1.0: in JSON they are the same number."""
    return (
        int(value)
        if type(value) is float and value.is_integer() and abs(value) <= _EXACT
        else value
    )


def round_to(precision: int, *, is_strict: bool) -> Callable[[float], float]:
    """Return a function that rounds to `precision` decimals or, if strict, raises on more."""

    def check(value: float) -> float:
        rounded = round(value, precision)
        if is_strict and rounded != value:
            raise PydanticCustomError(
                "precision", "more than {precision} decimals", {"precision": precision}
            )
        return rounded

    return check


def text_to_binary(value: Any) -> Any:
    """Read base64 text as bytes."""
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    if not isinstance(value, str):
        return value
    for alphabet in (None, b"-_"):  # standard and URL-safe
        try:
            return base64.b64decode(value, altchars=alphabet, validate=True)
        except (binascii.Error, ValueError):
            continue
    raise PydanticCustomError("base64", "this text is not base64")


def binary_to_text(value: bytes) -> str:
    """Write bytes as base64 text."""
    return base64.b64encode(value).decode("ascii")


def text_to_cited(value: Any) -> Any:
    """Read a text as a statement without sources."""
    return {"statements": [{"text": value}]} if isinstance(value, str) else value


def from_dspy_calls(value: Any) -> Any:
    """Convert dspy's `{"tool_calls": [{"name", "args"}]}` to our form; keep other values."""
    if (
        not isinstance(value, dict)
        or "calls" in value
        or not isinstance(value.get("tool_calls"), list)
    ):
        return value
    return {"calls": [_from_dspy_call(call) for call in value["tool_calls"]]}


def _from_dspy_call(call: Any) -> Any:
    if not isinstance(call, dict) or "arguments" in call or "args" not in call:
        return call
    return {
        "arguments": call["args"],
        **{key: value for key, value in call.items() if key != "args"},
    }
