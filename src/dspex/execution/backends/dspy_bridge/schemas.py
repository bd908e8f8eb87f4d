"""Signatures as field schemas, which is how they cross to dspy, and back."""

from collections.abc import Mapping
from typing import Any

from dspex.language.signatures import MISSING, Field, Signature, Type
from dspex.language.signatures.builtin import SHORTHAND
from dspex.language.signatures.codec import plain
from dspex.language.signatures.json_schema import SchemaWriter
from dspex.language.signatures.types import Member, make, object_type, union

MARK = "x-dspex"  # a schema that carries it is one of dspy's own types
_OWN = {name: name for name in ("Image", "Audio", "File", "Code", "ToolCalls")}

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


def to_wire(signature: Signature) -> dict[str, Any]:
    """Return `{name, instructions, fields: [{name, role, desc, schema, default?}], $defs}`, under wire names."""
    writer = _Marking()
    fields = []
    for field in signature.fields.values():
        schema, desc = writer.write(field.type), described(field, field.desc)
        if field.role == "output" and MARK not in schema:
            schema = _loosened(field.type.kind, schema)
        made: dict[str, Any] = {"name": field.wire_name, "role": field.role, "desc": desc, "schema": schema}
        if not field.is_required:
            made["default"] = None if field.default is MISSING else plain(field.default)
        fields.append(made)
    definitions = writer.finish({}).get("$defs", {})
    return {"name": signature.name, "instructions": signature.instructions, "fields": fields, "$defs": definitions}


def described(field: Field, desc: str) -> str:
    """Return a description with those constraints of the field that dspy does not put into its prompt itself."""
    types = field.type.args if field.type.kind == "union" else (field.type,)
    rules = {name: value for type_ in types for name, value in type_.constraints}
    said = ", ".join(text.format(rules[name]) for name, text in _UNSAID.items() if rules.get(name))
    return f"{desc} Constraints: {said}".strip() if said else desc


def _loosened(kind: str, schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema with what a bare value stands for (a text for a Document), which is understood here, too."""
    member = SHORTHAND.get(kind)
    if member is None:
        return schema
    bare = {key: value for key, value in schema["properties"][member].items() if key != "default"}
    whole = {**schema, "required": sorted({*schema.get("required", ()), member})}
    return {"anyOf": [whole, bare]}


class _Marking(SchemaWriter):
    """Says of a media type which of dspy's types it is, so that dspy treats it as its own."""

    def write(self, type_: Type) -> dict[str, Any]:
        schema = super().write(type_)
        return {**schema, MARK: type_.kind} if type_.kind == "History" or type_.kind in _OWN else schema


def from_wire(data: Mapping[str, Any]) -> Signature:
    """Return the signature of `to_wire`'s form, as a dspy worker describes it."""
    return Signature.from_fields(data["name"], [field_of(item) for item in data["fields"]], data["instructions"])


def field_of(item: Mapping[str, Any]) -> Field:
    """Return one field of a dspy signature."""
    schema = item["schema"]
    type_ = to_type(schema, schema.get("$defs", {}))
    default = item.get("default", MISSING)
    return Field(name=item["name"], type=type_, role=item["role"], desc=item.get("desc", ""), default=default)


def to_type(schema: Mapping[str, Any], definitions: Mapping[str, Any], enclosing: tuple[str, ...] = ()) -> Type:
    """Return the type that a JSON Schema describes; what none does is `any`. `enclosing` names the definitions around.

    A history is taken as dspex writes it (turns with a role) and as dspy does (a dict of fields for each turn).
    """
    if "$ref" in schema:
        return _referred(schema["$ref"].rpartition("/")[2], definitions, enclosing)
    if mark := schema.get(MARK):
        known = {"History": union(make("History"), make("dict", make("str"), make("any"))), "Reasoning": make("str")}
        return make(_OWN[mark]) if mark in _OWN else known[mark]
    if "const" in schema or "enum" in schema:
        return Type("atom", constraints=(("one_of", tuple(schema.get("enum", [schema.get("const")]))),))
    if members := schema.get("anyOf") or schema.get("oneOf"):
        return union(*(to_type(member, definitions, enclosing) for member in members))
    rules = {ours: schema[theirs] for theirs, ours in _RULES.items() if theirs in schema}
    kind = schema.get("type")
    if isinstance(kind, list):
        return union(*(to_type({**schema, "type": one}, definitions, enclosing) for one in kind))
    if kind == "array" and schema.get("prefixItems") and len(schema["prefixItems"]) == schema.get("maxItems"):
        return make("tuple", *(to_type(part, definitions, enclosing) for part in schema["prefixItems"]))
    if kind == "array":
        items = [to_type(schema["items"], definitions, enclosing)] if schema.get("items") else []
        return make("list", *items, constraints=rules)
    if kind == "object" and "properties" in schema:
        return _object(schema, definitions, enclosing)
    if kind == "object" and isinstance(schema.get("additionalProperties"), Mapping):
        value = to_type(schema["additionalProperties"], definitions, enclosing)
        return make("dict", make("str"), value, constraints=rules)
    return make(_KINDS[kind], constraints=rules) if kind in _KINDS else make("any")


def _referred(name: str, definitions: Mapping[str, Any], enclosing: tuple[str, ...]) -> Type:
    found = definitions[name]
    if name not in enclosing:
        return to_type(found, definitions, (*enclosing, name))
    is_object = found.get("type") == "object" and "properties" in found
    return Type("ref", title=found.get("title", "Object")) if is_object else make("any")


def _object(schema: Mapping[str, Any], definitions: Mapping[str, Any], enclosing: tuple[str, ...]) -> Type:
    required = set(schema.get("required", ()))
    members = tuple(
        Member(
            name,
            to_type(part, definitions, enclosing),
            part.get("description", ""),
            name in required,
            part.get("default", MISSING),
        )
        for name, part in schema["properties"].items()
    )
    extra = {False: {"extra": "forbid"}, True: {"extra": "allow"}}
    allowed = schema.get("additionalProperties")
    rules = extra[allowed] if isinstance(allowed, bool) else {}
    return object_type(schema.get("title", "Object"), members, constraints=rules)
