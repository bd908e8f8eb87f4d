"""The schema restrictions that each provider documents, as executable rules.

Each rule has the page that documents it. `problems` runs the rules of one provider; the schemas
that `Signature.to_json_schema` returns have no problems.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

_OPENAI = "https://platform.openai.com/docs/guides/structured-outputs#supported-schemas"
_ANTHROPIC = "https://docs.anthropic.com/en/docs/agents-and-tools/tool-use/implement-tool-use"
_GEMINI = "https://ai.google.dev/api/caching#Schema"
_MCP = "https://modelcontextprotocol.io/specification/2025-06-18/server/tools"
_NESTED = ("properties", "$defs", "patternProperties", "dependentSchemas")
_INSIDE = (
    "items",
    "additionalProperties",
    "propertyNames",
    "not",
    "if",
    "then",
    "else",
    "contains",
)
_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
Node = dict[str, Any]
Problems = Iterator[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderRule:
    """One documented limit: `check` takes the root schema and yields a sentence per violation."""

    provider: str
    text: str
    source: str
    check: Callable[[Node], Problems]


def problems(provider: str, schema: Node) -> list[str]:
    """Return how `schema` violates the rules of `provider`; empty if it conforms."""
    return [
        problem for rule in RULES if rule.provider == provider for problem in rule.check(schema)
    ]


def walk(schema: Any, path: str = "#", depth: int = 0) -> Iterator[tuple[str, Node, int]]:
    """Yield each schema within `schema`: its path, itself, and its depth in nested objects."""
    if not isinstance(schema, dict):
        return
    yield path, schema, depth
    inner = depth + ("properties" in schema)
    for key in _NESTED:
        for name, part in schema.get(key, {}).items():
            yield from walk(part, f"{path}/{key}/{name}", inner if key == "properties" else 0)
    for key in _INSIDE:
        yield from walk(schema.get(key), f"{path}/{key}", inner)
    for key in _LISTS:
        for at, part in enumerate(schema.get(key, ())):
            yield from walk(part, f"{path}/{key}/{at}", inner)


def _root_is_object(schema: Node) -> Problems:
    if schema.get("type") != "object" or any(key in schema for key in ("anyOf", "oneOf", "allOf")):
        yield "the root of a schema must be an object"


def _types(node: Node) -> list[str]:
    kinds = node.get("type", [])
    return kinds if isinstance(kinds, list) else [kinds]


def _closed_objects(schema: Node) -> Problems:
    for path, node, _ in walk(schema):
        if "object" in _types(node) and node.get("additionalProperties") is not False:
            yield f"{path}: an object must have additionalProperties: false"


def _all_required(schema: Node) -> Problems:
    for path, node, _ in walk(schema):
        if set(node.get("properties", ())) - set(node.get("required", ())):
            yield f"{path}: every property must be required"


def _has_type(schema: Node) -> Problems:
    for path, node, _ in walk(schema):
        if not any(key in node for key in ("type", "anyOf", "$ref", "enum", "const")):
            yield f"{path}: a value of any type is not supported; give it a type"


def _only_keywords(*keywords: str) -> Callable[[Node], Problems]:
    supported = frozenset(keywords)

    def check(schema: Node) -> Problems:
        for path, node, _ in walk(schema):
            for key in node:
                if key not in supported:
                    yield f"{path}: the keyword {key!r} is not supported"

    return check


def _nesting(limit: int) -> Callable[[Node], Problems]:
    def check(schema: Node) -> Problems:
        for path, _, depth in walk(schema):
            if depth > limit:
                yield f"{path}: nested deeper than {limit} levels"
                return

    return check


def _size_limits(schema: Node) -> Problems:
    count = sum(len(node.get("properties", ())) for _, node, _ in walk(schema))
    if count > 5000:
        yield f"{count} properties, more than 5000"
    enums = [node["enum"] for _, node, _ in walk(schema) if "enum" in node]
    if (values := sum(map(len, enums))) > 1000:
        yield f"{values} enum values, more than 1000"
    for enum in enums:
        if len(enum) > 250 and sum(len(str(value)) for value in enum) > 15000:
            yield f"an enum of {len(enum)} values has more than 15000 characters"
    size = sum(
        len(name) for _, node, _ in walk(schema) for key in _NESTED for name in node.get(key, ())
    )
    size += sum(len(str(value)) for enum in enums for value in enum)
    if size > 120_000:
        yield f"names and enum values have {size} characters, more than 120000"


def _formats(*formats: str) -> Callable[[Node], Problems]:
    def check(schema: Node) -> Problems:
        for path, node, _ in walk(schema):
            if node.get("type") == "string" and node.get("format", formats[0]) not in formats:
                yield f"{path}: the format {node['format']!r} is not supported"

    return check


def _property_names(pattern: str) -> Callable[[Node], Problems]:
    legal = re.compile(pattern)

    def check(schema: Node) -> Problems:
        for path, node, _ in walk(schema):
            for name in node.get("properties", ()):
                if not legal.fullmatch(name):
                    yield (
                        f"{path}: the name {name!r} does not match {pattern}; give the field "
                        "another alias"
                    )

    return check


def _text_enums(schema: Node) -> Problems:
    for path, node, _ in walk(schema):
        if "enum" in node and not all(isinstance(value, str) for value in node["enum"]):
            yield f"{path}: an enum can hold only strings"


def _one_type(schema: Node) -> Problems:
    for path, node, _ in walk(schema):
        if isinstance(node.get("type"), list) or node.get("type") == "null":
            yield f"{path}: a schema has one type; null is written as nullable"


def _no_reference(schema: Node) -> Problems:
    for path, node, _ in walk(schema):
        if "$ref" in node or "$defs" in node:
            yield (
                f"{path}: recursive types are not supported, because this dialect has no references"
            )
            return


def _array_items(schema: Node) -> Problems:
    for path, node, _ in walk(schema):
        if "array" in _types(node) and not isinstance(node.get("items"), dict):
            yield f"{path}: an array must declare its items"


_OPENAI_KEYWORDS = (
    "type", "title", "description", "properties", "required", "additionalProperties", "items",
    "enum", "const", "anyOf",
    "$ref", "$defs", "pattern", "format", "multipleOf", "maximum", "exclusiveMaximum", "minimum",
    "exclusiveMinimum",
    "minItems", "maxItems",
)  # fmt: skip
GEMINI_KEYWORDS = (
    "type", "format", "title", "description", "nullable", "enum", "maxItems", "minItems",
    "properties", "required",
    "minProperties", "maxProperties", "minLength", "maxLength", "pattern", "example", "anyOf",
    "propertyOrdering",
    "default", "items", "minimum", "maximum",
)  # fmt: skip
OPENAI_FORMATS = (
    "date-time",
    "time",
    "date",
    "duration",
    "email",
    "hostname",
    "ipv4",
    "ipv6",
    "uuid",
)


def _rules(
    provider: str, *rows: tuple[str, str, Callable[[Node], Problems]]
) -> tuple[ProviderRule, ...]:
    return tuple(
        ProviderRule(provider=provider, text=text, source=source, check=check)
        for text, source, check in rows
    )


RULES: tuple[ProviderRule, ...] = (
    *_rules(
        "openai",
        ("the root is an object, not anyOf", _OPENAI, _root_is_object),
        ("every object has additionalProperties: false", _OPENAI, _closed_objects),
        ("every property is required", _OPENAI, _all_required),
        ("every value has a type", _OPENAI, _has_type),
        ("an array declares its items", _OPENAI, _array_items),
        ("only the listed keywords", _OPENAI, _only_keywords(*_OPENAI_KEYWORDS)),
        ("only the listed formats", _OPENAI, _formats(*OPENAI_FORMATS)),
        ("at most 10 levels of nesting", _OPENAI, _nesting(10)),
        ("at most 5000 properties, 1000 enum values, 120000 characters", _OPENAI, _size_limits),
    ),
    *_rules(
        "anthropic",
        ("the root of input_schema is an object", _ANTHROPIC, _root_is_object),
        (
            "property names match a pattern",
            "https://github.com/n8n-io/n8n/issues/30590",
            _property_names(r"[a-zA-Z0-9_.-]{1,64}"),
        ),
    ),
    *_rules(
        "gemini",
        ("the root is an object", _GEMINI, _root_is_object),
        ("no references", _GEMINI, _no_reference),
        ("only the listed fields of a schema", _GEMINI, _only_keywords(*GEMINI_KEYWORDS)),
        ("one type, null as nullable", _GEMINI, _one_type),
        ("enums of strings only", _GEMINI, _text_enums),
        ("an array declares its items", _GEMINI, _array_items),
        ("only the string formats enum and date-time", _GEMINI, _formats("enum", "date-time")),
    ),
    *_rules("mcp", ("inputSchema and outputSchema are objects", _MCP, _root_is_object)),
    *_rules(
        "generic",
        ("a signature is an object", "https://json-schema.org/draft/2020-12", _root_is_object),
    ),
)
# The names of functions: https://platform.openai.com/docs/api-reference/chat/create (OpenAI),
# https://ai.google.dev/api/caching#FunctionDeclaration (Gemini), and `_ANTHROPIC`.
PROVIDER_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_-]{0,63}")
