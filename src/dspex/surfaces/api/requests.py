"""Reading requests: JSON bodies and query strings as the values that operations take."""

import asyncio
import dataclasses
import functools
import re
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl

import msgspec
from starlette.types import Receive, Scope

from dspex.error_text import alternatives, shorten, suggest
from dspex.errors import InvalidError
from dspex.operations.framework.field_errors import invalid
from dspex.operations.framework.query_arguments import query_from
from dspex.operations.framework.resource import Resource
from dspex.operations.framework.store import Query
from dspex.surfaces.api.json_limits import check_values
from dspex.surfaces.api.responses import RequestError

T = TypeVar("T")
BODY_SECONDS: Final = 30.0
_PLACE: Final = re.compile(r" - at `(?:key in )?\$\.?(.*)`$")
_STEP: Final = re.compile(r"\[(\d+)\]|([^.\[\]]+)")
_KINDS: Final = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "null",
}
_FORMATS: Final = {
    "Invalid UUID": "a UUID such as 01a204e7-d265-770f-a3da-97f8004ff7a9",
    "Invalid RFC3339 encoded datetime": "a time such as 2030-01-31T12:00:00Z",
}


def content_type(scope: Scope) -> bytes:
    """Return the header Content-Type, or nothing."""
    return next((value for name, value in scope["headers"] if name == b"content-type"), b"")


async def read_body(
    scope: Scope, receive: Receive, *, limit: int, kind: bytes = b"application/json"
) -> bytes:
    """Return the body of a request whose content type is JSON; other sites' pages cannot send that.

    `kind` is another content type. The caller limits the wait for the first part.

    Raises:
        RequestError: the content type is another one, the body is longer than `limit`, or its rest
            did not arrive within 30 seconds.
    """
    header = content_type(scope)
    if header != kind and header.partition(b";")[0].strip().lower() != kind:
        raise RequestError("send the header 'Content-Type: application/json'", status=415)
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body", False):
        body: bytes = message.get("body", b"")
        if len(body) > limit:
            raise _too_long(limit)
        return body
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await _read_parts(message, receive, limit=limit)
    except TimeoutError:
        raise RequestError(
            f"the body was not sent within {BODY_SECONDS:g} seconds", status=408
        ) from None


async def _read_parts(message: Mapping[str, Any], receive: Receive, *, limit: int) -> bytes:
    body = bytearray()
    while message["type"] == "http.request":
        body += message.get("body", b"")
        if len(body) > limit:
            raise _too_long(limit)
        if not message.get("more_body", False):
            return bytes(body)
        message = await receive()
    raise RequestError("the connection was closed before the body was sent", status=400)


def _too_long(limit: int) -> RequestError:
    return RequestError(f"a body has at most {limit} bytes", status=413)


def decode_json(body: bytes) -> Any:
    """Return the JSON value of a body.

    Raises:
        RequestError: the body is not JSON, or contains too many values.
        InvalidError: a text contains a character that databases cannot store.
    """
    check_values(body)
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RequestError(f"the body is not JSON: {error}", status=400) from error
    if b"u0000" in body:
        reject_null_characters(value)
    return value


def reject_null_characters(value: object) -> None:
    """Check that no text inside `value` contains the character U+0000.

    Raises:
        InvalidError: a text does. PostgreSQL cannot store it, and all databases store the same.
    """
    pending: list[object] = [value]
    while pending:
        part = pending.pop()
        if isinstance(part, str):
            if "\0" in part:
                raise InvalidError("a text holds the character U+0000, which cannot be stored")
        elif isinstance(part, Mapping):
            pending.extend(part)
            pending.extend(part.values())
        elif isinstance(part, list):
            pending.extend(part)


def parse_input(cls: type[T], body: bytes) -> T:
    """Return the input of an action, a `cls`, from a JSON body.

    Raises:
        InvalidError: a field is missing, unknown or of another type; the error names it.
    """
    check_values(body)
    fields = _decoder(dict[str, msgspec.Raw])
    try:  # straight to the class: a dict between them takes as long again as the whole decoding
        if b"u0000" not in body and not fields.decode(body).keys() - set(_names(cls)):
            decoded: T = _decoder(cls).decode(body)  # type: ignore[arg-type]  # classes are hashable
            return decoded
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass  # below, with an error that names the field
    value = decode_json(body)
    if not isinstance(value, dict):
        raise RequestError("the body has to be a JSON object", status=400)
    reject_unknown_fields(value, _names(cls))
    try:
        return msgspec.convert(value, cls)
    except msgspec.ValidationError as error:
        raise as_invalid_error(error, value, cls) from error


def _names(cls: type) -> list[str]:
    return [part.name for part in dataclasses.fields(cls)]


@functools.cache
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


def reject_unknown_fields(value: object, names: Sequence[str]) -> None:
    """Check that a JSON object has no other fields than `names`.

    Raises:
        InvalidError: it has; the message suggests a similar name.
    """
    if isinstance(value, Mapping) and (unknown := value.keys() - set(names)):
        name = min(unknown)
        expected = f"one of: {', '.join(names)}"
        hint = suggest(name, names) or f" Fields are: {', '.join(names)}."
        if "inputs" in names and "inputs" not in value:
            hint = f' Inputs of the program belong in \'inputs\': {{"inputs": {{"{name}": ...}}}}'
        message = f"there is no such field.{hint}"
        raise invalid(name, value[name], expected, message=message, constraint="type")


def as_invalid_error(error: msgspec.ValidationError, body: Any, cls: type) -> InvalidError:
    """Return an error that names field, value and fix for a JSON value that is not a `cls`."""
    text = str(error)
    place = _PLACE.search(text)
    problem, path = (text[: place.start()], place[1]) if place else (text, "")
    if missing := re.search(r"missing required field `(\w+)`", problem):
        path = f"{path}.{missing[1]}" if path else missing[1]
        message = "this field is required"
        return invalid(path, None, "a value", message=message, constraint="type")
    if not path:
        return InvalidError(f"the body is {shorten(body)}, not {_expected(problem, path, cls)}")
    return invalid(path, _value_at(body, path), _expected(problem, path, cls), constraint="type")


def _expected(problem: str, path: str, cls: type) -> str:
    """Return in plain words what msgspec expected at `path`."""
    if kinds := re.match(r"Expected `([^`]+)`", problem):
        return alternatives([_KINDS.get(kind, kind) for kind in kinds[1].split(" | ")])
    hint = typing.get_type_hints(cls).get(path)
    if typing.get_origin(hint) is typing.Literal:
        return f"one of: {', '.join(map(str, typing.get_args(hint)))}"
    return _FORMATS.get(problem, f"valid ({problem})")


def _value_at(value: Any, path: str) -> Any:
    """Return the part of a JSON value that a path such as `rows[0].name` leads to."""
    for index, name in _STEP.findall(path):
        if isinstance(value, list) and index and int(index) < len(value):
            value = value[int(index)]
        elif isinstance(value, dict) and name in value:
            value = value[name]
    return value


def parse_page_query(resource: Resource[Any], query_string: bytes) -> Query:
    """Return the page that a query string describes; see `query_from`.

    Raises:
        InvalidError: a name is unknown or a value impossible.
    """
    try:
        pairs = parse_qsl(
            query_string.decode("ascii"), keep_blank_values=True, max_num_fields=50, errors="strict"
        )
    except ValueError as error:
        raise InvalidError(f"the query string cannot be read: {error}") from error
    return query_from(resource, pairs)
