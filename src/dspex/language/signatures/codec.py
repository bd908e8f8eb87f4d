"""Converts types and fields to JSON data and back, nested models included."""

from collections.abc import Mapping
from typing import Any

from dspex.errors import DspexError, SignatureError
from dspex.language.signatures.conditions import FieldCheck
from dspex.language.signatures.field import Field
from dspex.language.signatures.types import (
    MISSING,
    Member,
    Type,
    constrained_union,
    make,
    object_type,
)

FORMAT = 1
_DEPTH = 100


def parts_from_dict(data: Any) -> tuple[str, list[Field], str]:
    """Return the name, fields and instructions of a stored signature.

    Raises:
        SignatureError: `data` is not a stored signature, or of a newer version.
    """
    if not isinstance(data, Mapping) or not {"name", "fields"} <= data.keys():
        raise SignatureError(
            "this is not a stored signature: expected an object with name, instructions and fields"
        )
    if data.get("format", FORMAT) != FORMAT:
        raise SignatureError(
            f"this signature is stored in format {data['format']!r}; this version reads format "
            f"{FORMAT}"
        )
    name, instructions = data["name"], data.get("instructions", "")
    if not isinstance(name, str) or not isinstance(instructions, str):
        raise SignatureError(
            "this is not a stored signature: name and instructions must be strings"
        )
    return name, fields_from_dicts(data["fields"]), instructions


def fields_to_dicts(fields: Mapping[str, Field]) -> list[dict[str, Any]]:
    """Return fields and their types as data, without empty parts."""
    return [_field_to_dict(field) for field in fields.values()]


def fields_from_dicts(data: Any) -> list[Field]:
    """Rebuild fields from the output of `fields_to_dicts`.

    Raises:
        SignatureError: `data` is not output of `fields_to_dicts`.
    """
    try:
        return [_field_from_dict(item) for item in data]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise SignatureError(
            f"this is not a stored signature: {type(error).__name__}: {error}"
        ) from error


def _field_to_dict(field: Field) -> dict[str, Any]:
    data: dict[str, Any] = {
        "name": field.name,
        "role": field.role,
        "type": type_to_dict(field.type),
    }
    if field.desc:
        data["desc"] = field.desc
    if field.alias:
        data["alias"] = field.alias
    if field.default is not MISSING:
        data["default"] = plain(field.default)
    if field.checks:
        data["checks"] = [_check_to_dict(check) for check in field.checks]
    return data


def _check_to_dict(check: FieldCheck) -> dict[str, Any]:
    data: dict[str, Any] = {"target": check.target}
    if check.message:
        data["message"] = check.message
    if not check.is_required:
        data["required"] = False
    return data


def _check_from_dict(data: Mapping[str, Any]) -> FieldCheck:
    return FieldCheck(
        target=_text(data["target"]),
        message=_text(data.get("message", "")),
        is_required=data.get("required", True),
    )


def _field_from_dict(data: Mapping[str, Any]) -> Field:
    if data["role"] not in {"input", "output"}:
        raise SignatureError(f"the role of a field is 'input' or 'output', not {data['role']!r}")
    return Field(
        name=_text(data["name"]),
        role=data["role"],
        type=type_from_dict(data["type"]),
        desc=_text(data.get("desc", "")),
        alias=None if data.get("alias") is None else _text(data["alias"]),
        default=data.get("default", MISSING),
        checks=tuple(_check_from_dict(check) for check in data.get("checks", ())),
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise SignatureError(f"this is not a stored signature: expected a string, not {value!r}")
    return value


def type_to_dict(type_: Type) -> dict[str, Any]:
    """Return one type as data, without empty parts."""
    data: dict[str, Any] = {"kind": type_.kind}
    if type_.args:
        data["args"] = [type_to_dict(arg) for arg in type_.args]
    if type_.constraints:
        data["constraints"] = {name: plain(value) for name, value in type_.constraints}
    if type_.title:
        data["title"] = type_.title
    if type_.kind == "object":
        data["members"] = [_member_to_dict(member) for member in type_.members]
    return data


def type_from_dict(data: Mapping[str, Any], depth: int = 0) -> Type:
    """Rebuild a type from the output of `type_to_dict`, with the checks of a declaration.

    Raises:
        SignatureError: `data` is not output of `type_to_dict`.
    """
    if depth > _DEPTH:
        raise SignatureError(f"a type nested deeper than {_DEPTH} levels")
    kind, constraints = data["kind"], data.get("constraints", {})
    args = tuple(type_from_dict(arg, depth + 1) for arg in data.get("args", ()))
    if kind == "ref":
        return Type("ref", title=_text(data["title"]))
    if kind == "object":
        members = tuple(_member_from_dict(member, depth) for member in data["members"])
        return object_type(_text(data.get("title", "")), members, constraints=constraints)
    if kind == "union":
        # not `union`: the stored type keeps its nesting
        return constrained_union(Type("union", args), constraints)
    return make(kind, *args, constraints=constraints)


def _member_to_dict(member: Member) -> dict[str, Any]:
    data: dict[str, Any] = {"name": member.name, "type": type_to_dict(member.type)}
    if member.desc:
        data["desc"] = member.desc
    if not member.is_required:
        data["required"] = False
    if member.default is not MISSING:
        data["default"] = plain(member.default)
    return data


def _member_from_dict(data: Mapping[str, Any], depth: int) -> Member:
    return Member(
        _text(data["name"]),
        type_from_dict(data["type"], depth + 1),
        _text(data.get("desc", "")),
        is_required=data.get("required", True) and "default" not in data,
        default=data.get("default", MISSING),
    )


def plain(value: Any) -> Any:
    """Return `value` as JSON data: models as dicts, enum members as values, tuples as lists.

    Predictions are their outputs, and errors of dspex their messages.
    """
    if value is None or (
        isinstance(value, str | int | float | bool) and type(value) in {str, int, float, bool}
    ):
        return value
    from pydantic_core import to_jsonable_python

    return to_jsonable_python(value, fallback=json_fallback)


def json_fallback(value: object) -> object:
    """Return a form of `value` that pydantic can serialize: mappings as dicts, errors as texts.

    Raises:
        PydanticSerializationError: there is none.
    """
    from pydantic_core import PydanticSerializationError

    if isinstance(value, Mapping):  # such as the predictions in the results of `Parallel`
        return dict(value)
    if isinstance(value, DspexError):
        return value.public_message
    raise PydanticSerializationError(f"Unable to serialize unknown type: {type(value)}")
