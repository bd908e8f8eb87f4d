"""The schemas of a signature in the dialects of those who read them."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from dspex.errors import SignatureError, suggest
from dspex.language.signatures.checks import walk_type
from dspex.language.signatures.conformance import problems
from dspex.language.signatures.dialects import gemini_schema, openai_schema
from dspex.language.signatures.field import Field
from dspex.language.signatures.json_schema import Schema, fields_schema
from dspex.language.signatures.names import NAME_LIMIT, key_name, provider_name

PROVIDERS = ("generic", "openai", "anthropic", "gemini", "mcp")
PURPOSES = ("inputs", "outputs", "tool", "structured")


def provider_schema(  # each is a word of the caller
    name: str,
    instructions: str,
    fields: Mapping[str, Field],
    *,
    provider: str,
    purpose: str,
    strict: bool | None = None,
) -> dict[str, Any]:
    """Return the schema of one side of a signature, or the part of a request around it.

    Raises:
        SignatureError: `provider` or `purpose` is unknown, or the provider's dialect cannot say what a field holds.
    """
    for value, choices, what in ((provider, PROVIDERS, "schema dialect"), (purpose, PURPOSES, "purpose")):
        if value not in choices:
            raise SignatureError(
                f"there is no {what} {value!r}.{suggest(value, choices)} There are: {', '.join(choices)}"
            )
    role = "input" if purpose in {"inputs", "tool"} else "output"
    if strict and provider != "openai":
        raise SignatureError(f"only 'openai' has a strict form, not {provider!r}; leave strict out")
    side = [field for field in fields.values() if field.role == role]
    rename = key_name if provider == "anthropic" else str
    general = fields_schema(side, key=lambda field: rename(field.wire_name), title=name, member_key=rename)
    is_strict = provider == "openai" and strict is not False
    schema, faults = _dialect(provider, side, general, is_strict=is_strict)
    if faults and is_strict and strict is None and purpose in {"tool", "structured"}:
        is_strict = False  # which the envelope says
        schema, faults = _dialect(provider, side, general, is_strict=False)
    if faults:
        hint = ". strict=False gives the form that is not strict" if is_strict else ""
        raise SignatureError(
            f"signature {name!r} has no {provider} schema: {'; '.join(faults[:3])}{hint}",
            provider=provider,
            problems=faults,
        )
    if purpose == "tool":
        return _tool(provider, provider_name(name), instructions, schema=schema, is_strict=is_strict)
    if purpose == "structured":
        return _structured(provider, name, schema, is_strict=is_strict)
    return schema


def _dialect(provider: str, fields: list[Field], general: Schema, *, is_strict: bool) -> tuple[Schema, list[str]]:
    """Return the schema as the provider writes it, and what is wrong with it by the provider's rules."""
    if provider == "openai" and not is_strict:
        return general, problems("generic", general)
    schema = _DIALECTS[provider](general)
    inexpressible = [
        f"{field.name}: a rule of JSON Schema that strict form has no words for"
        for field in fields
        if is_strict and any(part.constraint("schema") is not None for part, _ in walk_type(field.type))
    ]
    return schema, [*inexpressible, *problems(provider, schema)]


def copy_json(node: Any) -> Any:  # noqa: ANN401  # any JSON value
    """Return JSON data of its own, which the caller may change."""
    if isinstance(node, dict):
        return {key: copy_json(value) for key, value in node.items()}
    return [copy_json(item) for item in node] if isinstance(node, list) else node


def _tool(provider: str, name: str, instructions: str, *, schema: Schema, is_strict: bool) -> dict[str, Any]:
    header = {"name": name, "description": instructions}
    match provider:
        case "openai":
            return {"type": "function", "function": {**header, "parameters": schema, "strict": is_strict}}
        case "anthropic":
            return {**header, "input_schema": schema}
        case "mcp":
            return {**header, "inputSchema": schema}
        case "gemini" if not schema["properties"]:
            return header  # it takes no object without properties
    return {**header, "parameters": schema}


def _schema_name(name: str) -> str:
    """Return the name of a request's schema, which nothing reads back: a long one is cut."""
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
