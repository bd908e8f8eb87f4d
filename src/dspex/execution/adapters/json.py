"""One JSON object as the reply: for models that follow schemas, and where the chat layout failed."""

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from dspex.execution.adapters.adapter import Prompt
from dspex.execution.adapters.turns import (
    INCOMPLETE,
    describe,
    laid_out,
    ordered_demos,
    repair,
    unreadable,
    validated,
    value_of,
)
from dspex.language.records import Message
from dspex.language.signatures import Field, Signature

_STRUCTURED = {"list", "dict", "object", "atom"}


class JSONAdapter:
    """Asks for an object whose keys are the output fields. Broken JSON is mended; unknown keys are dropped."""

    name = "json"

    def render(self, signature: Signature, demos: Sequence[Mapping[str, Any]], inputs: Mapping[str, Any]) -> Prompt:
        """Return system message, demonstrations, the input and the schema of the reply; see `Adapter.render`."""
        system, schema = _static(signature)
        messages = [system]
        for demo, is_complete in ordered_demos(signature, demos):
            note = "" if is_complete else INCOMPLETE
            messages.append(Message("user", note + laid_out(signature.input_fields, demo)))
            messages.append(Message("assistant", _object(signature.output_fields, demo)))
        messages.append(Message("user", laid_out(signature.input_fields, inputs) or "Begin."))
        return Prompt(messages=tuple(messages), response_schema=schema, json_mode=True)

    def parse(self, signature: Signature, reply: str) -> dict[str, Any]:
        """Return the outputs in the object; see `Adapter.parse`."""
        found = _read(reply)
        if not isinstance(found, Mapping):
            raise unreadable(signature, reply, {}, because="it holds no JSON object")
        outputs = {
            field.name: _value(field, found[field.wire_name])
            for field in signature.output_fields.values()
            if field.wire_name in found
        }
        return validated(signature, reply, outputs)


def _value(field: Field, value: Any) -> Any:  # noqa: ANN401  # any JSON value
    """A model that writes an object or a list as text inside JSON is understood."""
    return value_of(field, value) if isinstance(value, str) and field.type.kind in _STRUCTURED else value


def _read(reply: str) -> Any:  # noqa: ANN401
    """Return the JSON in a reply: all of it, else the first balanced object, else what mending makes of it."""
    try:
        return json.loads(reply)
    except (ValueError, RecursionError):
        pass
    start = reply.find("{")
    if start < 0:
        return None
    try:
        return json.JSONDecoder().raw_decode(reply, start)[0]
    except (ValueError, RecursionError):
        return repair(reply[start:])


def _object(fields: Mapping[str, Field], values: Mapping[str, Any]) -> str:
    from pydantic_core import to_jsonable_python

    shown = {field.wire_name: values[name] for name, field in fields.items() if values.get(name) is not None}
    return json.dumps(to_jsonable_python(shown), ensure_ascii=False)


@lru_cache(maxsize=1024)
def _static(signature: Signature) -> tuple[Message, dict[str, Any]]:
    inputs, outputs = signature.input_fields.values(), signature.output_fields.values()
    given = f"You are given these fields:\n{describe(inputs)}\n\n" if inputs else ""
    names = ", ".join(f"`{field.wire_name}`" for field in outputs)
    system = (
        f"{given}You answer with a JSON object of these fields:\n{describe(outputs)}\n\n"
        f"Your task: {signature.instructions}\n\n"
        f"Respond with a JSON object and nothing else; its keys, in this order: {names}."
    )
    return Message("system", system), signature.to_json_schema("openai")
