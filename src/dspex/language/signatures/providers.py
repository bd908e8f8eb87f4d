"""The schemas of a signature in the dialects of model providers and MCP."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from dspex.error_text import suggest
from dspex.errors import SignatureError
from dspex.language.signatures.checks import walk_type
from dspex.language.signatures.conformance import problems
from dspex.language.signatures.dialects import gemini_schema, openai_schema
from dspex.language.signatures.field import Field
from dspex.language.signatures.json_schema import Schema, fields_schema
from dspex.language.signatures.names import NAME_LIMIT, key_name, provider_name

PROVIDERS = ("generic", "openai", "anthropic", "gemini", "mcp")
PURPOSES = ("inputs", "outputs", "tool", "structured")


def provider_schema(  # the parameters of `Signature.to_json_schema`
    name: str,
    instructions: str,
    fields: Mapping[str, Field],
    *,
    provider: str,
    purpose: str,
    strict: bool | None = None,
) -> dict[str, Any]:
    """Return the schema of one side of a signature, or a request part that contains it.

    Raises:
        SignatureError: `provider` or `purpose` is unknown, or the dialect cannot express a field.
    """
    for value, choices, what in (
        (provider, PROVIDERS, "schema dialect"),
        (purpose, PURPOSES, "purpose"),
    ):
        if value not in choices:
            raise SignatureError(
                f"unknown {what} {value!r}.{suggest(value, choices)} Choices are: "
                f"{', '.join(choices)}"
            )
    role = "input" if purpose in {"inputs", "tool"} else "output"
    if strict and provider != "openai":
        raise SignatureError(f"only 'openai' has a strict form, not {provider!r}; leave strict out")
    side = [field for field in fields.values() if field.role == role]
    rename = key_name if provider == "anthropic" else str
    general = fields_schema(
        side, key=lambda field: rename(field.wire_name), title=name, member_key=rename
    )
    is_strict = provider == "openai" and strict is not False
    schema, faults = _dialect(provider, side, general, is_strict=is_strict)
    if faults and is_strict and strict is None and purpose in {"tool", "structured"}:
        is_strict = False  # the envelope contains `strict`
        schema, faults = _dialect(provider, side, general, is_strict=False)
    if faults:
        hint = ". strict=False gives the non-strict form" if is_strict else ""
        raise SignatureError(
            f"signature {name!r} has no {provider} schema: {'; '.join(faults[:3])}{hint}",
            provider=provider,
            problems=faults,
        )
    if purpose == "tool":
        return _tool(
            provider, provider_name(name), instructions, schema=schema, is_strict=is_strict
        )
    if purpose == "structured":
        return _structured(provider, name, schema, is_strict=is_strict)
    return schema


def _dialect(
    provider: str, fields: list[Field], general: Schema, *, is_strict: bool
) -> tuple[Schema, list[str]]:
    """Return the schema in the provider's dialect, and its violations of the provider's rules."""
    if provider == "openai" and not is_strict:
        return general, problems("generic", general)
    schema = _DIALECTS[provider](general)
    inexpressible = [
        f"{field.name}: strict form cannot express one of its JSON Schema rules"
        for field in fields
        if is_strict
        and any(part.constraint("schema") is not None for part, _ in walk_type(field.type))
    ]
    return schema, [*inexpressible, *problems(provider, schema)]


def copy_json(node: Any) -> Any:
    """Return a deep copy of JSON data, which the caller may change."""
    if isinstance(node, dict):
        return {key: copy_json(value) for key, value in node.items()}
    return [copy_json(item) for item in node] if isinstance(node, list) else node


def _tool(
    provider: str, name: str, instructions: str, *, schema: Schema, is_strict: bool
) -> dict[str, Any]:
    header = {"name": name, "description": instructions}
    match provider:
        case "openai":
            return {
                "type": "function",
                "function": {**header, "parameters": schema, "strict": is_strict},
            }
        case "anthropic":
            return {**header, "input_schema": schema}
        case "mcp":
            return {**header, "inputSchema": schema}
        case "gemini" if not schema["properties"]:
            return header  # Gemini refuses an object without properties
    return {**header, "parameters": schema}


def _schema_name(name: str) -> str:
    """Return the name of a request's schema, shortened if necessary: nothing reads it back."""
    try:
        return provider_name(name)
    except SignatureError:
        word = re.sub(r"[^A-Za-z0-9_]+", "_", name).strip("_") or "outputs"
        return (f"_{word}" if word[0].isdigit() else word)[:NAME_LIMIT]


def _structured(provider: str, name: str, schema: Schema, *, is_strict: bool) -> dict[str, Any]:
    match provider:
        case "openai":
            return {
                "type": "json_schema",
                "json_schema": {"name": _schema_name(name), "schema": schema, "strict": is_strict},
            }
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
    "openai": openai_schema,
    "gemini": gemini_schema,
}
