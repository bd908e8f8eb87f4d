"""Converts signatures to the field schemas that dspy workers exchange, and back."""

from collections.abc import Mapping
from typing import Any

from dspex.language.signatures import MISSING, Field, Signature, Type
from dspex.language.signatures.builtin import SHORTHAND
from dspex.language.signatures.codec import plain
from dspex.language.signatures.json_schema import SchemaWriter
from dspex.language.signatures.types import Member, make, object_type, union

MARK = "x-dspex"  # marks the schema of one of dspy's own types
_OWN = {name: name for name in ("Image", "Audio", "File", "Code", "ToolCalls")}

_KINDS = {
    "string": "str",
    "integer": "int",
    "number": "float",
    "boolean": "bool",
    "null": "none",
    "object": "dict",
}
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
_EXTRA_RULES = {
    "min_size": "at least {} entries",
    "max_size": "at most {} entries",
    "unique": "no two values are equal",
}


def to_wire(signature: Signature) -> dict[str, Any]:
    """Return `{name, instructions, fields, $defs}` with wire names.

    Each field is `{name, role, desc, schema, default?}`.
    """
    writer = _MarkingWriter()
    fields = []
    for field in signature.fields.values():
        schema, desc = writer.write(field.type), full_description(field, field.desc)
        if field.role == "output" and MARK not in schema:
            schema = _with_shorthand(field.type.kind, schema)
        data: dict[str, Any] = {
            "name": field.wire_name,
            "role": field.role,
            "desc": desc,
            "schema": schema,
        }
        if not field.is_required:
            data["default"] = None if field.default is MISSING else plain(field.default)
        fields.append(data)
    definitions = writer.finish({}).get("$defs", {})
    return {
        "name": signature.name,
        "instructions": signature.instructions,
        "fields": fields,
        "$defs": definitions,
    }


def full_description(field: Field, desc: str) -> str:
    """Return a description with the constraints of the field that dspy leaves out of its prompt."""
    types = field.type.args if field.type.kind == "union" else (field.type,)
    rules = {name: value for type_ in types for name, value in type_.constraints}
    rule_text = ", ".join(
        text.format(rules[name]) for name, text in _EXTRA_RULES.items() if rules.get(name)
    )
    return f"{desc} Constraints: {rule_text}".strip() if rule_text else desc


def _with_shorthand(kind: str, schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema with the shorthand of the type (text for a Document) as alternative."""
    member = SHORTHAND.get(kind)
    if member is None:
        return schema
    bare = {key: value for key, value in schema["properties"][member].items() if key != "default"}
    whole = {**schema, "required": sorted({*schema.get("required", ()), member})}
    return {"anyOf": [whole, bare]}


class _MarkingWriter(SchemaWriter):
    """Marks media types with the name of dspy's type, so that dspy handles them as its own."""

    def write(self, type_: Type) -> dict[str, Any]:
        schema = super().write(type_)
        return (
            {**schema, MARK: type_.kind}
            if type_.kind == "History" or type_.kind in _OWN
            else schema
        )


def from_wire(data: Mapping[str, Any]) -> Signature:
    """Return the signature of `to_wire`'s form, as a dspy worker describes it."""
    return Signature.from_fields(
        data["name"], [field_of(item) for item in data["fields"]], data["instructions"]
    )


def field_of(item: Mapping[str, Any]) -> Field:
    """Return one field of a dspy signature."""
    schema = item["schema"]
    type_ = to_type(schema, schema.get("$defs", {}))
    default = item.get("default", MISSING)
    return Field(
        name=item["name"], type=type_, role=item["role"], desc=item.get("desc", ""), default=default
    )


def to_type(
    schema: Mapping[str, Any], definitions: Mapping[str, Any], enclosing: tuple[str, ...] = ()
) -> Type:
    """Return the type that a JSON Schema describes, or else `any`.

    `enclosing` names the definitions around it. A history may be in the form of dspex (turns with a
    role) or of dspy (a dict of fields for each turn).
    """
    if "$ref" in schema:
        return _resolve_reference(schema["$ref"].rpartition("/")[2], definitions, enclosing)
    if mark := schema.get(MARK):
        dspy_types = {
            "History": union(make("History"), make("dict", make("str"), make("any"))),
            "Reasoning": make("str"),
        }
        return make(_OWN[mark]) if mark in _OWN else dspy_types[mark]
    if "const" in schema or "enum" in schema:
        return Type(
            "atom", constraints=(("one_of", tuple(schema.get("enum", [schema.get("const")]))),)
        )
    if members := schema.get("anyOf") or schema.get("oneOf"):
        return union(*(to_type(member, definitions, enclosing) for member in members))
    rules = {ours: schema[theirs] for theirs, ours in _RULES.items() if theirs in schema}
    kind = schema.get("type")
    if isinstance(kind, list):
        return union(*(to_type({**schema, "type": item}, definitions, enclosing) for item in kind))
    if (
        kind == "array"
        and schema.get("prefixItems")
        and len(schema["prefixItems"]) == schema.get("maxItems")
    ):
        return make(
            "tuple", *(to_type(part, definitions, enclosing) for part in schema["prefixItems"])
        )
    if kind == "array":
        items = [to_type(schema["items"], definitions, enclosing)] if schema.get("items") else []
        return make("list", *items, constraints=rules)
    if kind == "object" and "properties" in schema:
        return _object(schema, definitions, enclosing)
    if kind == "object" and isinstance(schema.get("additionalProperties"), Mapping):
        value = to_type(schema["additionalProperties"], definitions, enclosing)
        return make("dict", make("str"), value, constraints=rules)
    return make(_KINDS[kind], constraints=rules) if kind in _KINDS else make("any")


def _resolve_reference(
    name: str, definitions: Mapping[str, Any], enclosing: tuple[str, ...]
) -> Type:
    definition = definitions[name]
    if name not in enclosing:
        return to_type(definition, definitions, (*enclosing, name))
    is_object = definition.get("type") == "object" and "properties" in definition
    return Type("ref", title=definition.get("title", "Object")) if is_object else make("any")


def _object(
    schema: Mapping[str, Any], definitions: Mapping[str, Any], enclosing: tuple[str, ...]
) -> Type:
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
    additional = schema.get("additionalProperties")
    rules = extra[additional] if isinstance(additional, bool) else {}
    return object_type(schema.get("title", "Object"), members, constraints=rules)
