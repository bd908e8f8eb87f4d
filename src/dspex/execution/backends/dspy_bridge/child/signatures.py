"""Converts signatures between the wire format and dspy."""

from typing import Any

import dspy

from .types import Annotations, rules_of, schema_of
from .values import plain


def to_dspy(data: "dict[str, Any]") -> Any:
    """Return the dspy signature of `{name, instructions, fields, $defs}`.

    Each field is `{name, role, desc, schema, default?}`.
    """
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


def from_dspy(signature: Any) -> "dict[str, Any]":
    """Return a dspy signature as data in the same form."""
    fields = []
    for role, signature_fields in (
        ("input", signature.input_fields),
        ("output", signature.output_fields),
    ):
        for name, field in signature_fields.items():
            desc = (field.json_schema_extra or {}).get("desc") or ""
            text = "" if desc == f"${{{name}}}" else desc
            data = {"name": name, "role": role, "desc": text, "schema": schema_of(field)}
            if not field.is_required():
                data["default"] = plain(field.get_default(call_default_factory=True))
            fields.append(data)
    return {"name": signature.__name__, "instructions": signature.instructions, "fields": fields}
