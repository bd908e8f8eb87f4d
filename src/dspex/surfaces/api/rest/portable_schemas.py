"""JSON Schemas in the form that generators of clients read."""

import json
from typing import Any

from dspex.language.signatures.schema_keywords import with_subschemas

Schema = dict[str, Any]
_MEMBERS = {"properties", "patternProperties", "additionalProperties", "allOf", "anyOf", "oneOf"}
_TYPES = {str: "string", bool: "boolean", int: "integer", float: "number"}


def portable(schema: Any) -> Schema:
    """Return a schema that means the same to validators and more to generators of clients.

    - They stop at schemas that are `true` or `false`, and at arrays without `items`. They take an
      object without members for an empty one.
    - Titles become names of classes, which then are not unique.
    - A member with a default becomes one that has to be given: defaults go to the description.
    """
    if not isinstance(schema, dict):
        return {} if schema else {"not": {}}
    result = with_subschemas(schema, lambda part: part)
    extra = {
        name: result.pop(name)
        for name in ("additionalProperties", "unevaluatedProperties", "unevaluatedItems")
        if isinstance(result.get(name), bool)
    }
    if result.get("items") is False and result.get("maxItems") == len(
        result.get("prefixItems", ())
    ):
        del result["items"]
    result = {**with_subschemas(result, portable), **extra}
    result.pop("title", None)
    if result.get("type") == "object" and not _MEMBERS & result.keys():
        result["additionalProperties"] = True
    if result.get("type") == "array" and not {"items", "prefixItems"} & result.keys():
        result["items"] = {}
    return _with_split_choices(_without_default(result))


def _without_default(schema: Schema) -> Schema:
    if "default" not in schema:
        return schema
    default = schema.pop("default")
    if default is None or "$ref" in schema:
        return schema
    text = json.dumps(default, ensure_ascii=False)
    return {**schema, "description": f"{schema.get('description', '')} Default: {text}.".strip()}


def _with_split_choices(schema: Schema) -> Schema:
    """Return a choice among values of several types as a choice among choices."""
    values = schema.get("enum", [])
    kinds = list(dict.fromkeys(_TYPES.get(type(value), "null") for value in values))
    if len({*kinds} - {"null"}) < 2:
        return schema
    rest = {name: value for name, value in schema.items() if name not in {"type", "enum"}}
    parts = [
        {"type": kind, "enum": [each for each in values if _TYPES.get(type(each), "null") == kind]}
        for kind in kinds
    ]
    return {
        **rest,
        "anyOf": [{"type": "null"} if part["type"] == "null" else part for part in parts],
    }
