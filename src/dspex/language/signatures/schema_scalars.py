"""Converts scalar schemas to types: strings, numbers, listed values, and mapping keys."""

import math
from collections.abc import Mapping
from typing import Any

from dspex.language.signatures.json_schema import BASE64
from dspex.language.signatures.kinds import FORMATS
from dspex.language.signatures.schema_document import Schema
from dspex.language.signatures.schema_keywords import assertions, is_equal, kinds_of
from dspex.language.signatures.types import Type, make

_NUMBERS = {
    "minimum": "ge",
    "exclusiveMinimum": "gt",
    "maximum": "le",
    "exclusiveMaximum": "lt",
    "multipleOf": "multiple_of",
}
_BASE64_WORDS = {"base64", "base64url"}


class BeyondTypes(Exception):  # noqa: N818  # internal to the schema reader
    """No type expresses a schema exactly; the text says why."""


def no_rules(rules: set[str]) -> dict[str, Any]:
    """Return an empty dict; raise if there are rules."""
    if rules:
        raise BeyondTypes(f"no type can express {sorted(rules)[0]!r}")
    return {}


def choice(schema: Schema, rules: set[str]) -> Type:
    """Return the type of listed values, without values of the wrong type."""
    if rules - {"enum", "const", "type"}:
        raise BeyondTypes("it has other rules besides its values")
    values = schema["enum"] if "enum" in schema else [schema["const"]]
    if "enum" in schema and "const" in schema:
        values = [value for value in values if is_equal(value, schema["const"])]
    if "type" in schema:
        kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        values = [value for value in values if kinds_of(value) & set(kinds)]
    return make("atom", constraints={"one_of": values})


def key(names: Schema | bool) -> Type:  # noqa: FBT001
    """Return the type of mapping keys that match the schema `names`."""
    if not isinstance(names, Mapping):
        raise BeyondTypes("no name matches")
    rules = assertions(names, "string") - {"type"}
    if names.get("pattern") == "^-?[0-9]+$" and rules == {"pattern"}:
        return make("int")
    if "enum" in rules:
        return choice({**names, "type": "string"}, rules)
    if "type" in names and names["type"] != "string":
        raise BeyondTypes("names are strings")
    return string({key: value for key, value in names.items() if key != "contentEncoding"}, rules)


def string(schema: Schema, rules: set[str]) -> Type:
    """Return the type of a text."""
    no_rules(rules - {"minLength", "maxLength", "pattern", "format"})
    if schema.get("contentEncoding") in _BASE64_WORDS:
        no_rules(rules - ({"pattern"} if schema.get("pattern") == BASE64 else set()))
        return make("binary")
    names = {"minLength": "min_length", "maxLength": "max_length", "pattern": "pattern"}
    constraints = {name: schema[key] for key, name in names.items() if key in schema}
    if schema.get("format") in FORMATS:
        constraints["format"] = schema["format"]
    return make("str", constraints=constraints)


def number(kind: str, schema: Schema, rules: set[str]) -> Type:
    """Return the type of a number."""
    no_rules(rules - _NUMBERS.keys())
    constraints: dict[str, Any] = {}
    for key, name in _NUMBERS.items():
        if key in schema:
            constraints[name] = _whole(name, schema[key]) if kind == "integer" else schema[key]
    return make("int" if kind == "integer" else "float", constraints=constraints)


def _whole(name: str, value: Any) -> Any:
    """Return a bound of an integer type as an integer."""
    if isinstance(value, int):
        return value
    if name == "multiple_of" and not value.is_integer():
        raise BeyondTypes(f"a whole number that is a multiple of {value!r}")
    return math.ceil(value) if name in {"ge", "lt"} else math.floor(value)
