"""Reads names, fields and instructions from schemas, tools, classes and functions."""

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from dspex.errors import SignatureError
from dspex.language.signatures.annotations import from_annotation
from dspex.language.signatures.checks import is_legal_name
from dspex.language.signatures.field import Field, Role
from dspex.language.signatures.names import field_name
from dspex.language.signatures.schema_keywords import ANNOTATIONS, KEYWORDS
from dspex.language.signatures.schema_reader import SchemaReader
from dspex.language.signatures.schema_scalars import BeyondTypes
from dspex.language.signatures.types import (
    MISSING,
    Member,
    Type,
    constrained_union,
    make,
    standalone_members,
    union,
)

_ARGUMENT = re.compile(r"^\s{0,12}\*{0,2}(\w+)\s*(?:\([^)]*\))?:\s*(.+)$")
WHOLE_FIELD = "value"
_NO_PARAMETERS: Mapping[str, Any] = {"type": "object", "properties": {}}
_PARAMETERS = ("parameters", "input_schema", "inputSchema", "parametersJsonSchema")


Parts = tuple[str, list[Field], str]  # name, fields and instructions of a signature


def parts_of_schema(
    schema: Mapping[str, Any] | bool,  # noqa: FBT001  # true and false are schemas
    role: Role,
    *,
    reserved: frozenset[str],
    foreign: Mapping[str, str] | None,
    resources: Mapping[str, Any] | None,
    field: str,
) -> Parts:
    """Return the parts of an object schema or a tool; see `Signature.from_json_schema`.

    Raises:
        SignatureError: it is not a schema, or has an unknown reference or an uncheckable rule.
    """
    if not isinstance(schema, Mapping | bool):
        raise SignatureError(f"expected a schema, an object, not {schema!r:.200}")
    data: Mapping[str, Any] = {} if isinstance(schema, bool) else schema
    tool = _tool_parts(data)
    inner, name, description = tool or (
        schema,
        str(data.get("title", "")),
        str(data.get("description", "")),
    )
    side: Role = "input" if tool else role
    fields = _schema_fields(
        inner,
        side,
        reserved=reserved,
        foreign=foreign,
        resources=resources,
        field=field,
        is_tool=tool is not None,
    )
    if side == "input":
        is_free = all(field.wire_name != "result" for field in fields)
        fields.append(_any_output("result" if is_free else "result_"))
    return name, fields, description


def parts_of_class(model: type, role: Role, *, reserved: frozenset[str]) -> Parts:
    """Return the parts of a pydantic model, dataclass or TypedDict.

    Raises:
        SignatureError: it is not a class with fields.
    """
    type_ = from_annotation(model)
    if type_.kind != "object":
        raise SignatureError(f"{model!r} is not a class with fields")
    fields = _member_fields(standalone_members(type_), role, reserved=reserved)
    if role == "input":
        fields.append(_any_output("result"))
    return type_.title, fields, model.__dict__.get("__doc__") or ""


def _any_output(name: str) -> Field:
    return Field(name=name, type=from_annotation(Any), role="output")


def _tool_parts(data: Mapping[str, Any]) -> tuple[Mapping[str, Any], str, str] | None:
    """Return the parameter schema, name and description of a tool in any provider's form."""
    inner = data.get("function") if isinstance(data.get("function"), Mapping) else data
    if not isinstance(inner, Mapping) or "properties" in inner:
        return None
    name, text = str(inner.get("name", "")), str(inner.get("description", ""))
    for key in _PARAMETERS:
        if isinstance(inner.get(key), Mapping):
            return inner[key] or _NO_PARAMETERS, name, text
    if (
        name
        and not inner.keys() & (KEYWORDS.keys() - ANNOTATIONS - {"type"})
        and inner.get("type") in {None, "function"}
    ):
        return _NO_PARAMETERS, name, text
    return None


def _schema_fields(
    schema: Mapping[str, Any] | bool,  # noqa: FBT001  # true and false are schemas
    role: Role,
    *,
    reserved: frozenset[str],
    foreign: Mapping[str, str] | None = None,
    resources: Mapping[str, Any] | None = None,
    field: str = "",
    is_tool: bool = False,
) -> list[Field]:
    """Return one field per property of an object schema, or one field for any other schema.

    If `field` is given, the whole schema becomes one field of that name.

    Raises:
        SignatureError: a rule cannot be checked, or applies to several tool parameters together.
    """
    reader = SchemaReader(schema, foreign, resources)
    reason = ""
    if not field:
        try:
            members = reader.fields()
        except BeyondTypes as error:
            reason = str(error)
        else:
            if members or is_tool:
                return _member_fields(
                    [_require_null(member) for member in members], role, reserved=reserved
                )
    if is_tool and not field:
        raise SignatureError(
            f"the parameters of this tool cannot be separate fields: {reason}. Remove that rule, "
            "or read them as one field with field='arguments'"
        )
    whole = _require_null(Member(field or WHOLE_FIELD, reader.root_type()))
    return _member_fields([whole], role, reserved=reserved)


def _require_null(member: Member) -> Member:
    """Require an explicit null if a schema requires a nullable member; a field could omit it."""
    if not member.is_required or not member.type.is_optional:
        return member
    if member.type.kind == "none":
        return replace(member, type=make("any", constraints={"schema": {"type": "null"}}))
    return replace(member, type=constrained_union(member.type, {"required": True}))


def _member_fields(
    members: Sequence[Member], role: Role, *, reserved: frozenset[str]
) -> list[Field]:
    """Return members as fields; names that are not legal are changed and kept as aliases."""
    legal_names = {member.name for member in members if is_legal_name(member.name, reserved)}
    used_names = set(reserved) | legal_names
    fields = []
    for member in members:
        name = member.name
        if name not in legal_names:
            name = field_name(member.name, used_names)
            while not is_legal_name(name, reserved):  # a keyword
                name = f"{name}_"
            used_names.add(name)
        type_, default = _null_when_absent(member)
        alias = member.name if name != member.name else None
        fields.append(
            Field(name=name, type=type_, role=role, desc=member.desc, default=default, alias=alias)
        )
    return fields


def _null_when_absent(member: Member) -> tuple[Type, Any]:
    """Return a member's type and default; a field cannot be absent, so absence becomes None."""
    if member.is_required or member.default is not MISSING or member.type == make("any"):
        return (
            member.type,
            None if not member.is_required and member.default is MISSING else member.default,
        )
    return union(member.type, make("none")), None


def parts_of_function(function: Callable[..., Any]) -> Parts:
    """Return a function's name, its parameters and outputs as fields, and its docstring.

    A return annotation that is a model, a dataclass or a TypedDict gives one output per member; any
    other gives the single output `result`.
    """
    fields, summary = _input_fields(function)
    hint = call_of(function).return_annotation
    return function.__name__, [*fields, *_output_fields(function, hint)], summary


def parts_of_forward(
    forward: Callable[..., Any], outputs: type | Sequence[Field]
) -> tuple[list[Field], str]:
    """Return a function's parameters as fields with these outputs, and its docstring.

    `outputs` are fields, or a model, dataclass or TypedDict with one output per member.
    """
    fields, summary = _input_fields(forward)
    extra = _output_fields(forward, outputs) if isinstance(outputs, type) else outputs
    return [*fields, *extra], summary


def call_of(function: Callable[..., Any]) -> inspect.Signature:
    """Return the parameters of a function with evaluated annotations.

    Raises:
        SignatureError: they cannot be read, or a name in them is unknown.
    """
    try:
        return inspect.signature(function, eval_str=True)
    except (NameError, ValueError, TypeError) as error:
        raise SignatureError(f"{function!r} cannot be read: {error}") from None


def _input_fields(function: Callable[..., Any]) -> tuple[list[Field], str]:
    """Return the parameters of a function as fields, and the summary in its docstring."""
    summary, descriptions = _docstring(inspect.getdoc(function) or "")
    fields = []
    for parameter in call_of(function).parameters.values():
        if parameter.kind in {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}:
            raise SignatureError(
                f"{function.__name__}: a signature cannot have *{parameter.name}; name its "
                "parameters"
            )
        if parameter.annotation is inspect.Parameter.empty:
            raise SignatureError(
                f"{function.__name__}: parameter {parameter.name!r} has no annotation"
            )
        default = MISSING if parameter.default is inspect.Parameter.empty else parameter.default
        type_ = _read_annotation(function, parameter.name, parameter.annotation)
        desc = descriptions.get(parameter.name, "")
        fields.append(
            Field(name=parameter.name, type=type_, role="input", desc=desc, default=default)
        )
    return fields, summary


def _read_annotation(function: Callable[..., Any], name: str, hint: Any) -> Type:
    try:
        return from_annotation(hint)
    except SignatureError as error:
        raise error.with_message(f"{function.__name__}: {name}: {error.message}") from None


def _output_fields(function: Callable[..., Any], hint: Any) -> list[Field]:
    if hint is inspect.Signature.empty or hint is None:
        raise SignatureError(
            f"{function.__name__} has no return annotation; add one, as in `-> str`"
        )
    type_ = _read_annotation(function, "return", hint)
    if type_.kind == "object":
        return _member_fields(standalone_members(type_), "output", reserved=frozenset())
    return [Field(name="result", type=type_, role="output")]


def is_whole_return(function: Callable[..., Any]) -> bool:
    """Whether a function returns the output `result`, not an object with the outputs as members."""
    hint = inspect.signature(function, eval_str=True).return_annotation
    return from_annotation(hint).kind != "object"


def _docstring(text: str) -> tuple[str, dict[str, str]]:
    """Split a Google-style docstring into its summary and the description of each argument."""
    before, _, after = text.partition("\nArgs:\n")
    descriptions: dict[str, str] = {}
    for line in after.split("\n"):
        if line and not line[0].isspace():
            break
        if match := _ARGUMENT.match(line):
            descriptions[match[1]] = match[2].strip()
    return before.split("\nReturns:")[0].strip(), descriptions
