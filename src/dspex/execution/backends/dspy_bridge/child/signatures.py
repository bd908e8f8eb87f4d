"""Signatures from the wire to dspy and back."""

from typing import Any

import dspy

from .types import Annotations, rules_of, schema_of
from .values import plain


def to_dspy(data: "dict[str, Any]") -> Any:  # noqa: ANN401  # a signature class
    """Return dspy's signature of `{name, instructions, fields: [{name, role, desc, schema, default?}], $defs}`."""
    annotations = Annotations(data.get("$defs", {}))
    fields = {}
    for field in data["fields"]:
        make = dspy.InputField if field["role"] == "input" else dspy.OutputField
        options: dict[str, Any] = rules_of(field["schema"])
        if field.get("desc"):
            options["desc"] = field["desc"]
        if "default" in field:
            options["default"] = field["default"]
        fields[field["name"]] = (annotations.bare(field["schema"]), make(**options))
    return dspy.Signature(fields, data["instructions"], signature_name=data["name"])


def from_dspy(signature: Any) -> "dict[str, Any]":  # noqa: ANN401
    """Return a dspy signature as data, in the same form."""
    fields = []
    for role, found in (("input", signature.input_fields), ("output", signature.output_fields)):
        for name, field in found.items():
            desc = (field.json_schema_extra or {}).get("desc") or ""
            told = "" if desc == f"${{{name}}}" else desc
            made = {"name": name, "role": role, "desc": told, "schema": schema_of(field)}
            if not field.is_required():
                made["default"] = plain(field.get_default(call_default_factory=True))
            fields.append(made)
    return {"name": signature.__name__, "instructions": signature.instructions, "fields": fields}
