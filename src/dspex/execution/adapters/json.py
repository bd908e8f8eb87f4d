"""One JSON object as the reply: for models that follow schemas, and where the chat layout failed."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec

from dspex.errors import SignatureError
from dspex.execution.adapters.adapter import Prompt
from dspex.execution.adapters.compiled import PerSignature
from dspex.execution.adapters.media import MediaGuard
from dspex.execution.adapters.replies import fit_of, only_object, repair
from dspex.execution.adapters.splitting import JSONSplitter, Splitter
from dspex.execution.adapters.turns import (
    Layout,
    describe,
    shown_demos,
    unreadable,
    validated,
    written,
)
from dspex.language.records import Message
from dspex.language.signatures import Field, Signature

_decode = msgspec.json.Decoder().decode


class _Plan(msgspec.Struct, frozen=True):
    """What does not change from call to call."""

    system: Message
    schema: dict[str, Any] | None
    given: Layout
    outputs: tuple[tuple[str, str, Callable[[Any], Any] | None], ...]
    guard: MediaGuard


class JSONAdapter:
    """Asks for an object whose keys are the output fields. Broken JSON is mended; unknown keys are dropped."""

    name = "json"

    def render(self, signature: Signature, demos: Sequence[Mapping[str, Any]], inputs: Mapping[str, Any]) -> Prompt:
        """Return system message, demonstrations, the input and the schema of the reply; see `Adapter.render`."""
        plan = _plan(signature)
        made = partial(_object, signature.output_fields, plan.guard)
        shown = shown_demos(signature, demos, given=plan.given.text, made=made) if demos else ()
        asked = Message("user", plan.given.text(inputs) or "Begin.")
        return Prompt(messages=(plan.system, *shown, asked), response_schema=plan.schema, json_mode=True)

    def parse(self, signature: Signature, reply: str) -> dict[str, Any]:
        """Return the outputs in the object; see `Adapter.parse`."""
        found = _read(reply)
        if not isinstance(found, dict):
            raise unreadable(signature, reply, {}, because="it holds no JSON object")
        outputs = {}
        for wire_name, name, fit in _plan(signature).outputs:
            if wire_name in found:
                outputs[name] = found[wire_name] if fit is None else fit(found[wire_name])
        return validated(signature, reply, outputs)

    def splitter(self, signature: Signature) -> Splitter:
        """Return what reads one reply while it comes."""
        return JSONSplitter({wire: name for wire, name, _ in _plan(signature).outputs})


def _read(reply: str) -> Any:  # noqa: ANN401  # any JSON value
    """Return the JSON in a reply: all of it, else the first balanced object, else what mending makes of it."""
    try:
        return only_object(_decode(reply))
    except (ValueError, RecursionError):  # also of what cannot be UTF-8
        pass
    start = reply.find("{")
    if start < 0:
        return None
    try:
        return json.JSONDecoder().raw_decode(reply, start)[0]
    except (ValueError, RecursionError):
        return repair(reply[start:])


def _object(fields: Mapping[str, Field], guard: MediaGuard, values: Mapping[str, Any]) -> str:
    guard.check(values)
    shown = {
        field.wire_name: written(field.type)(values[name])
        for name, field in fields.items()
        if values.get(name) is not None
    }
    return json.dumps(shown, ensure_ascii=False)


def _compile(signature: Signature) -> _Plan:
    inputs, outputs = signature.input_fields.values(), signature.output_fields.values()
    given = f"You are given these fields:\n{describe(inputs)}\n\n" if inputs else ""
    names = ", ".join(f"`{field.wire_name}`" for field in outputs)
    system = (
        f"{given}You answer with a JSON object of these fields:\n{describe(outputs)}\n\n"
        f"Your task: {signature.instructions}\n\n"
        f"Respond with a JSON object and nothing else; its keys, in this order: {names}."
    )
    return _Plan(
        system=Message("system", system),
        schema=_schema(signature),
        given=Layout(inputs),
        outputs=tuple((field.wire_name, field.name, fit_of(field.type)) for field in outputs),
        guard=MediaGuard(outputs),
    )


_plan = PerSignature(_compile)


def _schema(signature: Signature) -> dict[str, Any] | None:
    """Return the strict schema of the outputs; None where it cannot say what a field holds (any value, a free dict)."""
    try:
        return signature.to_json_schema("openai")
    except SignatureError:
        return None
