"""The JSON Schemas of a signature, in the dialects of those who read them."""

from typing import TYPE_CHECKING, Any

from dspex.errors import SignatureError, suggest

if TYPE_CHECKING:
    from dspex.language.signatures.signature import Signature

PROVIDERS = ("generic", "openai")
_UNSUPPORTED_BY_OPENAI = ("default", "title", "format", "minLength", "maxLength", "minProperties", "maxProperties")


def provider_schema(signature: "Signature", provider: str, purpose: str) -> dict[str, Any]:
    """Return the schema of one side of `signature`, properties under their wire names.

    Raises:
        SignatureError: `provider` or `purpose` is unknown.
    """
    if purpose not in {"inputs", "outputs"}:
        raise SignatureError(f"a schema has the purpose 'inputs' or 'outputs', not {purpose!r}")
    if provider not in PROVIDERS:
        hint = suggest(provider, PROVIDERS)
        raise SignatureError(f"there is no schema dialect {provider!r}.{hint} Dialects are: {', '.join(PROVIDERS)}")
    schema = _generic(signature, purpose)
    return _strict(schema) if provider == "openai" else schema


def _generic(signature: "Signature", purpose: str) -> dict[str, Any]:
    fields = signature.output_fields if purpose == "outputs" else signature.input_fields
    validator = signature.output_validator if purpose == "outputs" else signature.input_validator
    found = validator.json_schema()
    properties = {}
    for name, field in fields.items():
        part = {key: value for key, value in found.get("properties", {})[name].items() if key != "title"}
        properties[field.wire_name] = {**part, "description": field.desc} if field.desc else part
    schema: dict[str, Any] = {
        "type": "object",
        "title": signature.name,
        "properties": properties,
        "required": [field.wire_name for field in fields.values() if field.is_required],
        "additionalProperties": False,
    }
    return {**schema, "$defs": found["$defs"]} if "$defs" in found else schema


def _strict(node: Any) -> Any:  # noqa: ANN401  # walks any JSON value
    """Every property required, nothing additional, unsupported keywords said in the description instead."""
    if isinstance(node, list):
        return [_strict(item) for item in node]
    if not isinstance(node, dict):
        return node
    made = {
        key: _strict(value)
        for key, value in node.items()
        if key not in _UNSUPPORTED_BY_OPENAI or isinstance(value, dict)
    }
    said = [
        f"{key}: {node[key]!r}" for key in _UNSUPPORTED_BY_OPENAI[2:] if key in node and not isinstance(node[key], dict)
    ]
    if said:
        made["description"] = " ".join(
            [*([node["description"]] if "description" in node else []), f"({', '.join(said)})"]
        )
    if isinstance(node.get("properties"), dict) and node.get("type") == "object":
        made |= {"required": list(node["properties"]), "additionalProperties": False}
    return made
