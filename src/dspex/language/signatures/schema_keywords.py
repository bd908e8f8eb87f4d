"""The table of JSON Schema's keywords: their values, and the JSON types that they apply to.

All code that walks schemas uses this table: it says which keywords hold schemas, so that data
(`enum`, `const`, `default`) is never treated as a schema.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from dspex.language.signatures.kinds import FORMATS

Takes = Literal[
    "schema", "schemas", "named schemas", "number", "count", "text", "flag", "names", "named names",
    "values", "value",
    "types", "annotation",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Keyword:
    """One row: the keyword's value, and the type of instance that it applies to (empty: any).

    An instance of another type always satisfies it.
    """

    takes: Takes
    kind: str = ""


KEYWORDS: dict[str, Keyword] = {
    "$ref": Keyword("text"),
    "type": Keyword("types"),
    "enum": Keyword("values"),
    "const": Keyword("value"),
    "allOf": Keyword("schemas"),
    "anyOf": Keyword("schemas"),
    "oneOf": Keyword("schemas"),
    "not": Keyword("schema"),
    "if": Keyword("schema"),
    "then": Keyword("schema"),
    "else": Keyword("schema"),
    "minimum": Keyword("number", "number"),
    "maximum": Keyword("number", "number"),
    "exclusiveMinimum": Keyword("number", "number"),
    "exclusiveMaximum": Keyword("number", "number"),
    "multipleOf": Keyword("number", "number"),
    "minLength": Keyword("count", "string"),
    "maxLength": Keyword("count", "string"),
    "pattern": Keyword("text", "string"),
    "format": Keyword("text", "string"),
    "items": Keyword("schema", "array"),
    "prefixItems": Keyword("schemas", "array"),
    "contains": Keyword("schema", "array"),
    "minContains": Keyword("count", "array"),
    "maxContains": Keyword("count", "array"),
    "minItems": Keyword("count", "array"),
    "maxItems": Keyword("count", "array"),
    "uniqueItems": Keyword("flag", "array"),
    "unevaluatedItems": Keyword("schema", "array"),
    "properties": Keyword("named schemas", "object"),
    "patternProperties": Keyword("named schemas", "object"),
    "additionalProperties": Keyword("schema", "object"),
    "propertyNames": Keyword("schema", "object"),
    "required": Keyword("names", "object"),
    "minProperties": Keyword("count", "object"),
    "maxProperties": Keyword("count", "object"),
    "dependentRequired": Keyword("named names", "object"),
    "dependentSchemas": Keyword("named schemas", "object"),
    "unevaluatedProperties": Keyword("schema", "object"),
    "title": Keyword("annotation"),
    "description": Keyword("annotation"),
    "default": Keyword("annotation"),
    "examples": Keyword("annotation"),
    "deprecated": Keyword("annotation"),
    "readOnly": Keyword("annotation"),
    "writeOnly": Keyword("annotation"),
    "contentEncoding": Keyword("annotation"),
    "contentMediaType": Keyword("annotation"),
    "discriminator": Keyword("annotation"),
}
ANNOTATIONS = frozenset(name for name, keyword in KEYWORDS.items() if keyword.takes == "annotation")
ASSERTIONS = KEYWORDS.keys() - ANNOTATIONS
TYPES = ("string", "integer", "number", "boolean", "null", "array", "object")


def subschemas(schema: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield each schema directly inside `schema`, with the keyword that holds it."""
    for name, value in schema.items():
        match KEYWORDS[name].takes if name in KEYWORDS else "":
            case "schema":
                yield name, value
            case "schemas":
                yield from ((name, part) for part in value)
            case "named schemas":
                yield from ((name, part) for part in value.values())


def with_subschemas(schema: Mapping[str, Any], change: Any) -> dict[str, Any]:
    """Return `schema` with `change` applied to each schema directly inside it."""
    result = dict(schema)
    for name, value in schema.items():
        match KEYWORDS[name].takes if name in KEYWORDS else "":
            case "schema":
                result[name] = change(value)
            case "schemas":
                result[name] = [change(part) for part in value]
            case "named schemas":
                result[name] = {key: change(part) for key, part in value.items()}
    return result


def assertions(schema: Mapping[str, Any], kind: str = "") -> set[str]:
    """Return the keywords of `schema` that a value (of type `kind`, if given) can violate."""
    kind = "number" if kind == "integer" else kind
    return {
        name
        for name, value in schema.items()
        if name in ASSERTIONS
        and (not kind or KEYWORDS[name].kind in {"", kind})
        and (name != "format" or value in FORMATS)
    }


def kinds_of(value: Any) -> set[str]:
    """Return the JSON types of a value; a whole number has two."""
    match value:
        case None:
            return {"null"}
        case bool():
            return {"boolean"}
        case int():
            return {"integer", "number"}
        case float():
            return {"integer", "number"} if value.is_integer() else {"number"}
        case str():
            return {"string"}
    return {"array"} if isinstance(value, list) else {"object"}


def is_equal(first: Any, second: Any) -> bool:
    """Whether two JSON values are equal: numbers by value, and never equal to booleans."""
    if isinstance(first, bool) or isinstance(second, bool):
        return first is second
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(
            is_equal(a, b) for a, b in zip(first, second, strict=True)
        )
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        return first.keys() == second.keys() and all(
            is_equal(first[key], second[key]) for key in first
        )
    return bool(first == second)
