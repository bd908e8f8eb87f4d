"""Converts instances of classes to JSON data, for types that do not know the class."""

import enum
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dspex.language.signatures.builtin import expand
from dspex.language.signatures.field import Field
from dspex.language.signatures.types import Type

if TYPE_CHECKING:
    from pydantic_core import ValidationError

_SCALARS = frozenset({str, int, float, bool, type(None)})
_DATA = _SCALARS | {dict, list}
_NOT_STRICT = frozenset({tuple, bytes, bytearray, memoryview})  # strict types refuse these as data
_LISTS = (list, tuple, set, frozenset, deque)


def with_json_values(
    values: Mapping[str, Any], error: ValueError, fields: Mapping[str, Field], *, is_strict: bool
) -> dict[str, Any] | None:
    """Return `values` with each field that failed because of an instance converted to JSON data.

    Return None if `error` is only about plain data, so that a retry would fail again.
    """
    from pydantic_core import ValidationError

    if not isinstance(error, ValidationError) or not isinstance(values, Mapping):
        return None
    plain = _DATA | _NOT_STRICT if is_strict else _DATA
    names = {
        item["loc"][0]
        for item in _errors(error)
        if item["loc"] and type(item["input"]) not in plain
    }
    if not names:
        return None
    changed = dict(values)
    for field in fields.values():
        if field.name not in names and field.alias not in names:
            continue
        for name in {field.name, field.wire_name} & changed.keys():
            try:
                changed[name] = to_json_data(changed[name], keeps_bytes=holds_binary(field.type))
            except (ValueError, TypeError, RecursionError):
                # without a JSON form, the first error is reported
                return None
    return changed


def _errors(error: "ValidationError") -> Sequence[Any]:
    return error.errors(include_url=False, include_context=False)


def to_json_data(value: Any, *, keeps_bytes: bool) -> Any:
    """Return `value` as JSON data: objects by alias, sets as lists, dates as strings.

    Args:
        value: an instance, or data that holds instances at any depth.
        keeps_bytes: leave bytes as they are. Classes encode them in different ways, our types as
            base64.

    Raises:
        ValueError: `value` has no JSON form, or contains itself.
    """
    from pydantic_core import to_jsonable_python

    if not keeps_bytes:
        return to_jsonable_python(value, by_alias=True)
    return _plain(_python_form(value), bytes)


def as_json(value: Any) -> Any:
    """Return an instance as JSON data, with bytes as base64."""
    from dspex.language.signatures.values import binary_to_text

    return _plain(_python_form(value), binary_to_text)


def has_bytes(value: Any) -> bool:
    """Whether an instance contains bytes at any depth."""
    try:
        level = [_python_form(value)]
    except ValueError:  # it contains itself
        return False
    while level:
        part = level.pop()
        if isinstance(part, bytes | bytearray | memoryview):
            return True
        level += (
            part.values() if isinstance(part, dict) else part if isinstance(part, _LISTS) else ()
        )
    return False


def _python_form(value: Any) -> Any:
    from pydantic_core import SchemaSerializer, core_schema

    return SchemaSerializer(core_schema.any_schema()).to_python(
        value, by_alias=True, warnings=False
    )


def _plain(value: Any, binary: Callable[[bytes], bytes | str]) -> Any:
    if type(value) in _SCALARS:
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        return binary(bytes(value))
    if isinstance(value, enum.Enum):
        return _plain(value.value, binary)
    if isinstance(value, dict):
        return {key: _plain(item, binary) for key, item in value.items()}
    if isinstance(value, _LISTS):
        return [_plain(item, binary) for item in value]
    from pydantic_core import to_jsonable_python

    return to_jsonable_python(value, by_alias=True)


def holds_binary(type_: Type) -> bool:
    """Whether values of `type_` can contain bytes at any depth."""
    inner = expand(type_)
    return (
        inner.kind == "binary"
        or any(holds_binary(arg) for arg in inner.args)
        or any(holds_binary(member.type) for member in inner.members)
    )
