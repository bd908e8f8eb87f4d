"""Signatures as field schemas, which is how they cross to dspy, and back."""

from collections.abc import Mapping
from typing import Any

from dspex.language.signatures import MISSING, Field, Signature, Type
from dspex.language.signatures.builtin import SHORTHAND
from dspex.language.signatures.codec import plain
from dspex.language.signatures.types import Member, make, union

_KINDS = {"string": "str", "integer": "int", "number": "float", "boolean": "bool", "null": "none", "object": "dict"}
_RULES = {
    "minimum": "ge",
    "exclusiveMinimum": "gt",
    "maximum": "le",
    "exclusiveMaximum": "lt",
    "multipleOf": "multiple_of",
    "minLength": "min_length",
    "maxLength": "max_length",
    "pattern": "pattern",
    "minItems": "min_items",
    "maxItems": "max_items",
    "minProperties": "min_size",
    "maxProperties": "max_size",
}
_UNSAID = {
    "min_size": "at least {} entries",
    "max_size": "at most {} entries",
    "unique": "no two values are equal",
}
_CALL = {
    "type": "object",
    "title": "ToolCall",
    "properties": {"name": {"type": "string"}, "args": {"type": "object"}},
    "required": ["name", "args"],
}
_CALLS_OF_DSPY = {
    "type": "object",
    "title": "ToolCalls",
    "properties": {"tool_calls": {"type": "array", "items": _CALL}},
    "required": ["tool_calls"],
}


def to_wire(signature: Signature) -> dict[str, Any]:
    """Return `{name, instructions, fields: [{name, role, desc, schema, default?}], $defs}`, under wire names."""
    found: dict[str, Any] = {}
    definitions: dict[str, Any] = {}
    for validator in (signature.input_validator, signature.output_validator):
        schema = validator.json_schema()
        found |= schema.get("properties", {})
        definitions |= schema.get("$defs", {})
    fields = []
    for name, field in signature.fields.items():
        schema = {key: value for key, value in found[name].items() if key not in {"title", "default"}}
        desc = described(field, field.desc)
        if field.role == "output":
            schema = _loosened(field.type.kind, schema)
        made: dict[str, Any] = {"name": field.wire_name, "role": field.role, "desc": desc, "schema": schema}
        if not field.is_required:
            made["default"] = None if field.default is MISSING else plain(field.default)
        fields.append(made)
    return {"name": signature.name, "instructions": signature.instructions, "fields": fields, "$defs": definitions}


def described(field: Field, desc: str) -> str:
    """Return a description with those constraints of the field that dspy does not put into its prompt itself."""
    types = field.type.args if field.type.kind == "union" else (field.type,)
    rules = {name: value for type_ in types for name, value in type_.constraints}
    said = ", ".join(text.format(rules[name]) for name, text in _UNSAID.items() if rules.get(name))
    return f"{desc} Constraints: {said}".strip() if said else desc


def _loosened(kind: str, schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema with what a bare value stands for (a text for a Code), which is understood here, too."""
    member = SHORTHAND.get(kind)
    if member is None:
        return schema
    bare = {key: value for key, value in schema["properties"][member].items() if key != "default"}
    whole = {**schema, "required": sorted({*schema.get("required", ()), member})}
    if kind == "ToolCalls":
        whole = {"anyOf": [whole, _CALLS_OF_DSPY]}
    return {"anyOf": [*whole.get("anyOf", [whole]), bare]}


def from_wire(data: Mapping[str, Any]) -> Signature:
    """Return the signature of `to_wire`'s form, as a dspy worker describes it."""
    return Signature.from_fields(data["name"], [field_of(item) for item in data["fields"]], data["instructions"])


def field_of(item: Mapping[str, Any]) -> Field:
    """Return one field of a dspy signature."""
    schema = item["schema"]
    type_ = to_type(schema, schema.get("$defs", {}))
    default = item.get("default", MISSING)
    return Field(name=item["name"], type=type_, role=item["role"], desc=item.get("desc", ""), default=default)


def to_type(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Type:
    """Return the type that a JSON Schema describes; what none does is `any`."""
    if "$ref" in schema:
        return to_type(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    if "const" in schema or "enum" in schema:
        return Type("atom", constraints=(("one_of", tuple(schema.get("enum", [schema.get("const")]))),))
    if members := schema.get("anyOf") or schema.get("oneOf"):
        return union(*(to_type(member, definitions) for member in members))
    rules = {ours: schema[theirs] for theirs, ours in _RULES.items() if theirs in schema}
    kind = schema.get("type")
    if isinstance(kind, list):
        return union(*(to_type({**schema, "type": one}, definitions) for one in kind))
    if kind == "array":
        items = [to_type(schema["items"], definitions)] if schema.get("items") else []
        return make("list", *items, constraints=rules)
    if kind == "object" and "properties" in schema:
        return _object(schema, definitions)
    if kind == "object" and isinstance(schema.get("additionalProperties"), Mapping):
        return make("dict", make("str"), to_type(schema["additionalProperties"], definitions), constraints=rules)
    return make(_KINDS[kind], constraints=rules) if kind in _KINDS else make("any")


def _object(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Type:
    required = set(schema.get("required", ()))
    members = tuple(
        Member(
            name,
            to_type(part, definitions),
            part.get("description", ""),
            name in required,
            part.get("default", MISSING),
        )
        for name, part in schema["properties"].items()
    )
    return Type("object", title=schema.get("title", "Object"), members=members)
