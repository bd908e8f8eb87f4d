"""JSON bodies and query strings as the values that operations take."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import msgspec

from dspex.error_text import suggest
from dspex.errors import FieldError, InvalidError
from dspex.operations.framework.query_arguments import query_from
from dspex.operations.framework.resource import Resource
from dspex.operations.framework.store import Query
from dspex.surfaces.api.json_limits import check_values

T = TypeVar("T")
_AT = re.compile(r" - at `(?:key in )?\$\.?(.*)`$")


def decode_json(body: bytes) -> Any:
    """Return the JSON value of a body.

    Raises:
        InvalidError: it is no JSON, or holds what a database cannot keep.
    """
    check_values(body)
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidError(f"the body is no JSON: {error}", http_status=400) from error
    if b"u0000" in body:
        reject_null_characters(value)
    return value


def reject_null_characters(value: object) -> None:
    """Raise where a text inside `value` holds a zero character.

    Raises:
        InvalidError: one does; PostgreSQL keeps none, and what one database keeps the other has to
        keep too.
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


def parse_input(given: type[T], body: bytes) -> T:
    """Return the input of an action from a JSON body.

    Raises:
        InvalidError: a field is missing, unknown or of another type; it is named.
    """
    value = decode_json(body)
    if not isinstance(value, dict):
        raise InvalidError("the body has to be a JSON object", http_status=400)
    names = [part.name for part in dataclasses.fields(given)]  # type: ignore[arg-type]  # inputs are dataclasses
    reject_unknown_fields(value, names)
    try:
        return msgspec.convert(value, given)
    except msgspec.ValidationError as error:
        raise as_invalid_error(error) from error


def reject_unknown_fields(value: object, names: Sequence[str]) -> None:
    """Raise where a JSON object has a field beside those of `names`.

    Raises:
        InvalidError: it does; the field that may be meant is told.
    """
    if isinstance(value, Mapping) and (unknown := value.keys() - set(names)):
        name = min(unknown)
        known = f"one of: {', '.join(names)}"
        raise invalid(name, value[name], f"there is no such field.{suggest(name, names)}", known)


def as_invalid_error(error: msgspec.ValidationError) -> InvalidError:
    """Return the same with the path of the field."""
    text = str(error)
    found = _AT.search(text)
    message = text[: found.start()] if found else text
    path = found[1] if found else ""
    if named := re.search(r"(?:missing required|unknown) field `(\w+)`", message):
        path = f"{path}.{named[1]}" if path else named[1]
    return invalid(path, None, message, message) if path else InvalidError(message)


def invalid(path: str, value: object, message: str, expected: str) -> InvalidError:  # noqa: PLR0917
    """Return an error about one field."""
    name = re.split(r"[.\[]", path)[0]
    found = FieldError(
        field=name, path=path, value=value, message=message, constraint="type", expected=expected
    )
    return InvalidError(f"{path}: {message}" if path else message, errors=[found])


def parse_page_query(resource: Resource[Any], query_string: bytes) -> Query:
    """Return the page that a query string asks for; see `query_from`.

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
