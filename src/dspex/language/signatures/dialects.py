"""The general JSON Schema, said again in what OpenAI's strict form and Gemini's subset of OpenAPI know.

What a dialect cannot say as a rule it says in the description, where the model reads it; validation still holds it.
"""

from collections.abc import Callable, Mapping
from typing import Any

from dspex.language.signatures.conformance import GEMINI_KEYWORDS, OPENAI_FORMATS

Schema = dict[str, Any]
_OPENAI_SAID = ("minLength", "maxLength", "default", "uniqueItems", "minProperties", "maxProperties", "contentEncoding")
_CHILDREN = ("items", "additionalProperties", "propertyNames")
_LISTS = ("anyOf", "oneOf", "prefixItems")
_MAPS = ("properties", "$defs")


def openai(node: Schema | bool) -> Schema:  # noqa: FBT001  # true and false are schemas
    """Every property required, nothing additional, an optional one null, a mapping as a list of pairs.

    A property with a default other than null has to be given: the description says what it is.
    """
    if isinstance(node, bool):
        return {}
    made = _each_child({key: value for key, value in node.items() if key not in {"title", "allOf"}}, openai)
    said = {key: made.pop(key) for key in _OPENAI_SAID if key in made}
    if "oneOf" in made:
        made["anyOf"] = made.pop("oneOf")
    if made.get("format", OPENAI_FORMATS[0]) not in OPENAI_FORMATS:
        said["format"] = made.pop("format")
    if "prefixItems" in made:
        made = _flat_tuple(made, said)
    if "properties" in made:
        required = node.get("required", [])
        made["properties"] = {
            name: part if name in required or _has_default(node["properties"][name]) else _nullable(part)
            for name, part in made["properties"].items()
        }
        made |= {"required": list(made["properties"]), "additionalProperties": False}
    elif made.get("type") == "object":
        made = _pairs(made, said)
    return _with_said(made, said)


def gemini(node: Schema | bool) -> Schema:  # noqa: FBT001
    """`nullable` instead of null, one type each, texts only in enums, no references, no closed objects."""
    if isinstance(node, bool):
        return {} if node else {"description": "(no value fits)"}
    if "$ref" in node:
        return node
    said: dict[str, Any] = {}
    made = _flat_types(node, said)
    made = _flat_union(_each_child(made, gemini))
    if "prefixItems" in made:
        made = _flat_tuple(made, said)
    if "properties" in made:
        made["propertyOrdering"] = list(made["properties"])
    if made.get("type") == "array" and not isinstance(made.get("items"), dict):
        made["items"] = {"description": "any value"}
    if made.get("type") == "string" and made.get("format") not in {None, "date-time", "enum"}:
        said["format"] = made.pop("format")
    if "enum" in made and made.get("type") != "string":
        said["one of"] = made.pop("enum")
    for key in made:
        if key not in {*GEMINI_KEYWORDS, "$defs", "$ref", "allOf"} and made[key] not in (True, False, {}):
            said[_WORDS.get(key, key)] = made[key]
    return _with_said({key: value for key, value in made.items() if key in {*GEMINI_KEYWORDS, "$defs"}}, said)


_WORDS = {"exclusiveMinimum": "more than", "exclusiveMaximum": "less than", "additionalProperties": "each value"}


def _each_child(node: Schema, change: Callable[[Schema], Schema]) -> Schema:
    made = dict(node)
    for key in _CHILDREN:
        if isinstance(made.get(key), dict):
            made[key] = change(made[key])
    for key in _LISTS:
        if key in made:
            made[key] = [change(part) for part in made[key]]
    for key in _MAPS:
        if key in made:
            made[key] = {name: change(part) for name, part in made[key].items()}
    return made


def _flat_tuple(made: Schema, said: dict[str, Any]) -> Schema:
    """Neither knows places of a list with types of their own: any of the types, and the order in words."""
    places = made.pop("prefixItems")
    said["each place in turn"] = places
    kinds = list({repr(place): place for place in places}.values())
    return {**made, "items": kinds[0] if len(kinds) == 1 else {"anyOf": kinds}}


def _has_default(schema: Schema | bool) -> bool:  # noqa: FBT001
    return isinstance(schema, dict) and schema.get("default") is not None


def _pairs(made: Schema, said: dict[str, Any]) -> Schema:
    """Write a mapping as a list of pairs, which validation reads back: strict form knows only fixed names."""
    value = made.pop("additionalProperties", {})
    key = {"type": "string", **made.pop("propertyNames", {})}
    if "required" in made:
        said["required keys"] = made.pop("required")
    pair = {
        "type": "object",
        "properties": {"key": key, "value": value if isinstance(value, dict) else {}},
        "required": ["key", "value"],
        "additionalProperties": False,
    }
    return {**made, "type": "array", "items": pair}


def _nullable(schema: Schema) -> Schema:
    kind = schema.get("type")
    if kind == "null" or (isinstance(kind, list) and "null" in kind) or {"type": "null"} in schema.get("anyOf", []):
        return schema
    if kind is not None and not {"enum", "properties", "items"} & schema.keys():
        return {**schema, "type": [*(kind if isinstance(kind, list) else [kind]), "null"]}
    said = {key: schema[key] for key in ("description",) if key in schema}
    inner = {key: value for key, value in schema.items() if key not in said}
    return {"anyOf": [*(inner["anyOf"] if set(inner) == {"anyOf"} else [inner]), {"type": "null"}], **said}


def _flat_types(node: Schema, said: dict[str, Any]) -> Schema:
    """Write several types as alternatives of one type each."""
    if not isinstance(node.get("type"), list):
        return dict(node)
    outer: Schema = {key: node[key] for key in ("description", "title", "default") if key in node}
    if "enum" in node:
        said["one of"] = node["enum"]
    rules = {key: value for key, value in node.items() if key not in {*outer, "type", "enum"}}
    return {**outer, "anyOf": [{"type": kind, **rules} for kind in node["type"]]}


def _flat_union(made: Schema) -> Schema:
    """Write null as a flag, and a union of one as that one."""
    alternatives = made.pop("oneOf", None) or made.pop("anyOf", None)
    if alternatives is None:
        return made
    parts = [part for part in alternatives if part.get("type") != "null"]
    flag = {"nullable": True} if len(parts) < len(alternatives) else {}
    return {**parts[0], **made, **flag} if len(parts) == 1 else {**made, "anyOf": parts, **flag}


def _with_said(made: Schema, said: Mapping[str, Any]) -> Schema:
    if not said or "$ref" in made:
        return made
    text = ", ".join(f"{key}: {value!r}" for key, value in said.items())
    before = made.get("description", "")
    return {**made, "description": f"{before} ({text})" if before else text}
