"""Translates the general JSON Schema to OpenAI's strict form and Gemini's subset of OpenAPI.

A rule that a dialect cannot express moves to the description, where the model reads it; validation
still enforces it.
"""

from collections.abc import Callable, Mapping
from typing import Any

from dspex.language.signatures.conformance import GEMINI_KEYWORDS, OPENAI_FORMATS

Schema = dict[str, Any]
_OPENAI_NOTES = (
    "minLength",
    "maxLength",
    "default",
    "uniqueItems",
    "minProperties",
    "maxProperties",
    "contentEncoding",
)
_CHILDREN = ("items", "additionalProperties", "propertyNames")
_LISTS = ("anyOf", "oneOf", "prefixItems")
_MAPS = ("properties", "$defs")


def openai_schema(node: Schema | bool) -> Schema:  # noqa: FBT001  # true and false are schemas
    """Return OpenAI's strict form: every property required, no others, mappings as lists of pairs.

    Optional properties become nullable. A property with a default other than null must be given;
    its description states the default.
    """
    if isinstance(node, bool):
        return {}
    schema = _each_child(
        {key: value for key, value in node.items() if key not in {"title", "allOf"}}, openai_schema
    )
    notes = {key: schema.pop(key) for key in _OPENAI_NOTES if key in schema}
    if "oneOf" in schema:
        schema["anyOf"] = schema.pop("oneOf")
    if schema.get("format", OPENAI_FORMATS[0]) not in OPENAI_FORMATS:
        notes["format"] = schema.pop("format")
    if "prefixItems" in schema:
        schema = _flat_tuple(schema, notes)
    if "properties" in schema:
        required = node.get("required", [])
        schema["properties"] = {
            name: part
            if name in required or _has_default(node["properties"][name])
            else _nullable(part)
            for name, part in schema["properties"].items()
        }
        schema |= {"required": list(schema["properties"]), "additionalProperties": False}
    elif schema.get("type") == "object":
        schema = _pairs(schema, notes)
    return _with_notes(schema, notes)


def gemini_schema(node: Schema | bool) -> Schema:  # noqa: FBT001
    """Return Gemini's form: `nullable` instead of null, one type each, only strings in enums."""
    if isinstance(node, bool):
        return {} if node else {"description": "(no value fits)"}
    if "$ref" in node:
        return node
    notes: dict[str, Any] = {}
    schema = _flat_types(node, notes)
    schema = _flat_union(_each_child(schema, gemini_schema))
    if "prefixItems" in schema:
        schema = _flat_tuple(schema, notes)
    if "properties" in schema:
        schema["propertyOrdering"] = list(schema["properties"])
    if schema.get("type") == "array" and not isinstance(schema.get("items"), dict):
        schema["items"] = {"description": "any value"}
    if schema.get("type") == "string" and schema.get("format") not in {None, "date-time", "enum"}:
        notes["format"] = schema.pop("format")
    if "enum" in schema and schema.get("type") != "string":
        notes["one of"] = schema.pop("enum")
    for key in schema:
        if key not in {*GEMINI_KEYWORDS, "$defs", "$ref", "allOf"} and schema[key] not in (
            True,
            False,
            {},
        ):
            notes[_NOTE_WORDS.get(key, key)] = schema[key]
    return _with_notes(
        {key: value for key, value in schema.items() if key in {*GEMINI_KEYWORDS, "$defs"}}, notes
    )


_NOTE_WORDS = {
    "exclusiveMinimum": "more than",
    "exclusiveMaximum": "less than",
    "additionalProperties": "each value",
}


def _each_child(node: Schema, change: Callable[[Schema], Schema]) -> Schema:
    schema = dict(node)
    for key in _CHILDREN:
        if isinstance(schema.get(key), dict):
            schema[key] = change(schema[key])
    for key in _LISTS:
        if key in schema:
            schema[key] = [change(part) for part in schema[key]]
    for key in _MAPS:
        if key in schema:
            schema[key] = {name: change(part) for name, part in schema[key].items()}
    return schema


def _flat_tuple(schema: Schema, notes: dict[str, Any]) -> Schema:
    """Write a tuple as a list of any of its types, with a note on their order."""
    places = schema.pop("prefixItems")
    notes["each place in turn"] = places
    kinds = list({repr(place): place for place in places}.values())
    return {**schema, "items": kinds[0] if len(kinds) == 1 else {"anyOf": kinds}}


def _has_default(schema: Schema | bool) -> bool:  # noqa: FBT001
    return isinstance(schema, dict) and schema.get("default") is not None


def _pairs(schema: Schema, notes: dict[str, Any]) -> Schema:
    """Write a mapping as a list of pairs, which validation accepts: strict form has fixed names."""
    value = schema.pop("additionalProperties", {})
    key = {"type": "string", **schema.pop("propertyNames", {})}
    if "required" in schema:
        notes["required keys"] = schema.pop("required")
    pair = {
        "type": "object",
        "properties": {"key": key, "value": value if isinstance(value, dict) else {}},
        "required": ["key", "value"],
        "additionalProperties": False,
    }
    return {**schema, "type": "array", "items": pair}


def _nullable(schema: Schema) -> Schema:
    kind = schema.get("type")
    if (
        kind == "null"
        or (isinstance(kind, list) and "null" in kind)
        or {"type": "null"} in schema.get("anyOf", [])
    ):
        return schema
    if kind is not None and not {"enum", "properties", "items"} & schema.keys():
        return {**schema, "type": [*(kind if isinstance(kind, list) else [kind]), "null"]}
    outer = {key: schema[key] for key in ("description",) if key in schema}
    inner = {key: value for key, value in schema.items() if key not in outer}
    return {
        "anyOf": [*(inner["anyOf"] if set(inner) == {"anyOf"} else [inner]), {"type": "null"}],
        **outer,
    }


def _flat_types(node: Schema, notes: dict[str, Any]) -> Schema:
    """Write several types as alternatives of one type each."""
    if not isinstance(node.get("type"), list):
        return dict(node)
    outer: Schema = {key: node[key] for key in ("description", "title", "default") if key in node}
    if "enum" in node:
        notes["one of"] = node["enum"]
    rules = {key: value for key, value in node.items() if key not in {*outer, "type", "enum"}}
    return {**outer, "anyOf": [{"type": kind, **rules} for kind in node["type"]]}


def _flat_union(schema: Schema) -> Schema:
    """Write null as a flag, and a union with one member as that member."""
    alternatives = schema.pop("oneOf", None) or schema.pop("anyOf", None)
    if alternatives is None:
        return schema
    parts = [part for part in alternatives if part.get("type") != "null"]
    flag = {"nullable": True} if len(parts) < len(alternatives) else {}
    return {**parts[0], **schema, **flag} if len(parts) == 1 else {**schema, "anyOf": parts, **flag}


def _with_notes(schema: Schema, notes: Mapping[str, Any]) -> Schema:
    if not notes or "$ref" in schema:
        return schema
    text = ", ".join(f"{key}: {value!r}" for key, value in notes.items())
    before = schema.get("description", "")
    return {**schema, "description": f"{before} ({text})" if before else text}
