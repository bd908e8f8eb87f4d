"""Signatures as JSON-ready data and back, nested models included: what rows and wires hold."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dspex.errors import SignatureError
from dspex.language.signatures.field import MISSING, Field
from dspex.language.signatures.types import Member, Type

if TYPE_CHECKING:
    from dspex.language.signatures.signature import Signature


def signature_to_dict(signature: "Signature") -> dict[str, Any]:
    """Return name, instructions and fields, types as data."""
    return {
        "name": signature.name,
        "instructions": signature.instructions,
        "fields": [_field_to_dict(field) for field in signature.fields.values()],
    }


def signature_from_dict(data: Mapping[str, Any]) -> "Signature":
    """Rebuild what `signature_to_dict` wrote.

    Raises:
        SignatureError: `data` was not written by it.
    """
    from dspex.language.signatures.signature import Signature

    try:
        fields = [_field_from_dict(item) for item in data["fields"]]
        return Signature.from_fields(data["name"], fields, data["instructions"])
    except (KeyError, TypeError, AttributeError) as error:
        raise SignatureError(f"this is no stored signature: {type(error).__name__}: {error}") from error


def _field_to_dict(field: Field) -> dict[str, Any]:
    data: dict[str, Any] = {"name": field.name, "role": field.role, "type": type_to_dict(field.type)}
    if field.desc:
        data["desc"] = field.desc
    if field.alias:
        data["alias"] = field.alias
    if field.default is not MISSING:
        data["default"] = plain(field.default)
    return data


def _field_from_dict(data: Mapping[str, Any]) -> Field:
    return Field(
        name=data["name"],
        role=data["role"],
        type=type_from_dict(data["type"]),
        desc=data.get("desc", ""),
        alias=data.get("alias"),
        default=data.get("default", MISSING),
    )


def type_to_dict(type_: Type) -> dict[str, Any]:
    """Return one type as data; parts that are empty are left out."""
    data: dict[str, Any] = {"kind": type_.kind}
    if type_.args:
        data["args"] = [type_to_dict(arg) for arg in type_.args]
    if type_.constraints:
        data["constraints"] = {name: plain(value) for name, value in type_.constraints}
    if type_.kind == "object":
        data |= {"title": type_.title, "members": [_member_to_dict(member) for member in type_.members]}
    return data


def type_from_dict(data: Mapping[str, Any]) -> Type:
    """Rebuild what `type_to_dict` wrote."""
    constraints = data.get("constraints", {})
    return Type(
        data["kind"],
        tuple(type_from_dict(arg) for arg in data.get("args", ())),
        tuple(
            sorted((name, tuple(value) if isinstance(value, list) else value) for name, value in constraints.items())
        ),
        data.get("title", ""),
        tuple(_member_from_dict(member) for member in data.get("members", ())),
    )


def _member_to_dict(member: Member) -> dict[str, Any]:
    data: dict[str, Any] = {"name": member.name, "type": type_to_dict(member.type)}
    if member.desc:
        data["desc"] = member.desc
    if not member.is_required:
        data["default"] = plain(member.default)
    return data


def _member_from_dict(data: Mapping[str, Any]) -> Member:
    return Member(
        data["name"], type_from_dict(data["type"]), data.get("desc", ""), "default" not in data, data.get("default")
    )


def plain(value: Any) -> Any:  # noqa: ANN401  # any value to any JSON value
    """Return `value` as JSON-ready data: models as dicts, enum members as their values, tuples as lists."""
    if value is None or (isinstance(value, str | int | float | bool) and type(value) in {str, int, float, bool}):
        return value
    from pydantic_core import to_jsonable_python

    return to_jsonable_python(value)
