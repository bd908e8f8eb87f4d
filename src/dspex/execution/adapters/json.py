"""The reply as one JSON object: for models that follow schemas, and as the fallback layout."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec

from dspex.errors import SignatureError
from dspex.execution.adapters.adapter import Prompt
from dspex.execution.adapters.field_splitter import FieldSplitter, JSONSplitter
from dspex.execution.adapters.media import MediaGuard
from dspex.execution.adapters.replies import fit_of, only_object, repair
from dspex.execution.adapters.signature_cache import SignatureCache
from dspex.execution.adapters.turns import (
    Layout,
    describe,
    earlier_turns,
    is_history,
    json_writer,
    unreadable_reply,
    validate_outputs,
)
from dspex.language.records import Message
from dspex.language.signatures import Field, Signature

_decode = msgspec.json.Decoder().decode


class _Plan(msgspec.Struct, frozen=True):
    """The parts of a prompt that are the same for every call of a signature."""

    system: Message
    schema: dict[str, Any] | None
    input_layout: Layout
    outputs: tuple[tuple[str, str, Callable[[Any], Any] | None], ...]
    guard: MediaGuard


class JSONAdapter:
    """Asks for an object with the output fields as keys; repairs broken JSON."""

    name = "json"

    def render(
        self, signature: Signature, demos: Sequence[Mapping[str, Any]], inputs: Mapping[str, Any]
    ) -> Prompt:
        """Return the messages and the schema of the reply; see `Adapter.render`."""
        plan = _plan(signature)
        turns = earlier_turns(
            signature,
            demos,
            inputs,
            render_inputs=plan.input_layout.content,
            render_outputs=partial(_write_object, signature.output_fields, plan.guard),
        )
        user_turn = Message("user", plan.input_layout.content(inputs) or "Begin.")
        return Prompt(
            messages=(plan.system, *turns, user_turn),
            response_schema=plan.schema,
            json_mode=True,
        )

    def parse(self, signature: Signature, reply: str) -> dict[str, Any]:
        """Return the outputs in the JSON object; see `Adapter.parse`."""
        data = _read(reply)
        if not isinstance(data, dict):
            raise unreadable_reply(signature, reply, {}, because="it holds no JSON object")
        outputs = {}
        for wire_name, name, fit in _plan(signature).outputs:
            if wire_name in data:
                outputs[name] = data[wire_name] if fit is None else fit(data[wire_name])
        return validate_outputs(signature, reply, outputs)

    def splitter(self, signature: Signature) -> FieldSplitter:
        """Return a splitter for one streamed reply."""
        return JSONSplitter({wire: name for wire, name, _ in _plan(signature).outputs})


def _read(reply: str) -> Any:
    """Return the JSON in a reply: the whole text, else its first balanced object, else a repair."""
    try:
        return only_object(_decode(reply))
    except (ValueError, RecursionError):  # also raised for text that is not valid UTF-8
        pass
    start = reply.find("{")
    if start < 0:
        return None
    try:
        return json.JSONDecoder().raw_decode(reply, start)[0]
    except (ValueError, RecursionError):
        return repair(reply[start:])


def _write_object(
    fields: Mapping[str, Field],
    guard: MediaGuard,
    values: Mapping[str, Any],
    /,
    *,
    skips_absent: bool = True,
) -> str:
    """Return the object of outputs; absent ones are never in it."""
    guard.check(values)
    data = {
        field.wire_name: json_writer(field.type)(values[name])
        for name, field in fields.items()
        if values.get(name) is not None
    }
    return json.dumps(data, ensure_ascii=False)


def _compile(signature: Signature) -> _Plan:
    inputs = [field for field in signature.input_fields.values() if not is_history(field)]
    outputs = signature.output_fields.values()
    inputs_text = f"You are given these fields:\n{describe(inputs)}\n\n" if inputs else ""
    names = ", ".join(f"`{field.wire_name}`" for field in outputs)
    system = (
        f"{inputs_text}You answer with a JSON object of these fields:\n{describe(outputs)}\n\n"
        f"Your task: {signature.instructions}\n\n"
        f"Respond with a JSON object and nothing else; its keys, in this order: {names}."
    )
    return _Plan(
        system=Message("system", system),
        schema=_schema(signature),
        input_layout=Layout(inputs),
        outputs=tuple((field.wire_name, field.name, fit_of(field.type)) for field in outputs),
        guard=MediaGuard(outputs),
    )


_plan = SignatureCache(_compile)


def _schema(signature: Signature) -> dict[str, Any] | None:
    """Return the strict schema of the outputs, None if a field allows any value or dict."""
    try:
        return signature.to_json_schema("openai")
    except SignatureError:
        return None
