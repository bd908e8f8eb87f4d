"""The schemas of a signature in the dialects of those who read them."""

from collections.abc import Callable, Mapping
from typing import Any

from dspex.errors import SignatureError, suggest
from dspex.language.signatures.conformance import problems
from dspex.language.signatures.dialects import gemini, openai
from dspex.language.signatures.field import Field
from dspex.language.signatures.json_schema import Schema, fields_schema
from dspex.language.signatures.names import provider_name

PROVIDERS = ("generic", "openai", "anthropic", "gemini", "mcp")
PURPOSES = ("inputs", "outputs", "tool", "structured")


def provider_schema(
    name: str, instructions: str, fields: Mapping[str, Field], *, provider: str, purpose: str
) -> dict[str, Any]:
    """Return the schema of one side of a signature, or the part of a request around it.

    Raises:
        SignatureError: `provider` or `purpose` is unknown, or the provider's dialect cannot say what a field holds.
    """
    for given, known, what in ((provider, PROVIDERS, "schema dialect"), (purpose, PURPOSES, "purpose")):
        if given not in known:
            raise SignatureError(f"there is no {what} {given!r}.{suggest(given, known)} There are: {', '.join(known)}")
    role = "input" if purpose in {"inputs", "tool"} else "output"
    general = fields_schema(
        [field for field in fields.values() if field.role == role], key=lambda field: field.wire_name, title=name
    )
    schema = _DIALECTS[provider](general)
    if found := problems(provider, schema):
        raise SignatureError(
            f"signature {name!r} has no {provider} schema: {'; '.join(found[:3])}", provider=provider, problems=found
        )
    if purpose == "tool":
        return _tool(provider, provider_name(name), instructions, schema=schema)
    return _structured(provider, provider_name(name), schema) if purpose == "structured" else schema


def copied(node: Any) -> Any:  # noqa: ANN401  # any JSON value
    """Return JSON data of its own, which the caller may change."""
    if isinstance(node, dict):
        return {key: copied(value) for key, value in node.items()}
    return [copied(item) for item in node] if isinstance(node, list) else node


def _tool(provider: str, name: str, instructions: str, *, schema: Schema) -> dict[str, Any]:
    said = {"name": name, "description": instructions}
    match provider:
        case "openai":
            return {"type": "function", "function": {**said, "parameters": schema, "strict": True}}
        case "anthropic":
            return {**said, "input_schema": schema}
        case "mcp":
            return {**said, "inputSchema": schema}
    return {**said, "parameters": schema}


def _structured(provider: str, name: str, schema: Schema) -> dict[str, Any]:
    match provider:
        case "openai":
            return {"type": "json_schema", "json_schema": {"name": name, "schema": schema, "strict": True}}
        case "anthropic":
            return {"type": "json_schema", "schema": schema}
        case "gemini":
            return {"responseMimeType": "application/json", "responseSchema": schema}
        case "mcp":
            return {"outputSchema": schema}
    return schema


_DIALECTS: dict[str, Callable[[Schema], Schema]] = {
    "generic": lambda general: general,
    "mcp": lambda general: general,
    "anthropic": lambda general: general,
    "openai": openai,
    "gemini": gemini,
}
