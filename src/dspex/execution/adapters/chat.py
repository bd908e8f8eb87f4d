"""Fields under `[[ ## name ## ]]` headers: a layout that every chat model can follow."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from dspex.execution.adapters.adapter import Prompt
from dspex.execution.adapters.field_splitter import ChatSplitter, FieldSplitter
from dspex.execution.adapters.replies import Reader, reader_of
from dspex.execution.adapters.signature_cache import SignatureCache
from dspex.execution.adapters.turns import (
    Layout,
    TurnWriter,
    describe,
    earlier_turns,
    is_history,
    unreadable_reply,
    validate_outputs,
)
from dspex.language.records import Message
from dspex.language.records.message import join_content
from dspex.language.signatures import Field, Signature

HEADER = re.compile(r"^[ \t]*\[\[ ## (\w+) ## \]\][ \t]*", re.MULTILINE)
_END = "[[ ## completed ## ]]"


class _Plan(msgspec.Struct, frozen=True):
    """The parts of a prompt that are the same for every call of a signature."""

    system: Message
    reminder: str
    input_layout: Layout
    has_history: bool
    render_outputs: TurnWriter
    readers: dict[str, tuple[str, Reader]]


class ChatAdapter:
    """The default adapter: fields under headers.

    The first occurrence of a field wins. Text before the first header is ignored.
    """

    name = "chat"

    def render(
        self, signature: Signature, demos: Sequence[Mapping[str, Any]], inputs: Mapping[str, Any]
    ) -> Prompt:
        """Return the system message, demonstrations and input; see `Adapter.render`."""
        plan = _plan(signature)
        turns: Iterable[Message] = ()
        if demos or plan.has_history:
            turns = earlier_turns(
                signature,
                demos,
                inputs,
                render_inputs=plan.input_layout.content,
                render_outputs=plan.render_outputs,
            )
        content = plan.input_layout.content(inputs)
        user_content = join_content(content, "\n\n", plan.reminder) if content else plan.reminder
        return Prompt(messages=(plan.system, *turns, Message("user", user_content)))

    def parse(self, signature: Signature, reply: str) -> dict[str, Any]:
        """Return the outputs under their headers; see `Adapter.parse`."""
        readers = _plan(signature).readers
        outputs: dict[str, Any] = {}
        name, reader, start = "", None, 0
        for mark in HEADER.finditer(reply):
            if reader is not None and name not in outputs:
                outputs[name] = reader(reply[start : mark.start()])
            name, reader = readers.get(mark[1], ("", None))
            start = mark.end()
        if reader is not None and name not in outputs:
            outputs[name] = reader(reply[start:])
        if not outputs:
            expected = ", ".join(f"[[ ## {name} ## ]]" for name in readers)
            raise unreadable_reply(
                signature, reply, outputs, because=f"it has none of the headers {expected}"
            )
        return validate_outputs(signature, reply, outputs)

    def splitter(self, signature: Signature) -> FieldSplitter:
        """Return a splitter for one streamed reply."""
        return ChatSplitter({wire: name for wire, (name, _) in _plan(signature).readers.items()})


def _compile(signature: Signature) -> _Plan:
    inputs = [field for field in signature.input_fields.values() if not is_history(field)]
    outputs = signature.output_fields.values()
    layout = "\n\n".join(
        f"[[ ## {field.wire_name} ## ]]\n{{{field.wire_name}}}" for field in (*inputs, *outputs)
    )
    inputs_text = f"You are given these fields:\n{describe(inputs)}\n\n" if inputs else ""
    system = (
        f"{inputs_text}You answer with these fields:\n{describe(outputs)}\n\n"
        "Every exchange has this layout, with each value in the place of its braces:\n\n"
        f"{layout}\n\n{_END}\n\n"
        f"Your task: {signature.instructions}"
    )
    output_layout = Layout(outputs)

    def render_outputs(values: Mapping[str, Any], /, *, skips_absent: bool = False) -> str:
        return f"{output_layout.text(values, skips_absent=skips_absent)}\n\n{_END}"

    order = ", then ".join(f"`[[ ## {field.wire_name} ## ]]`{_hint(field)}" for field in outputs)
    return _Plan(
        system=Message("system", system),
        reminder=f"Answer with {order}, and end with `{_END}`.",
        input_layout=Layout(inputs),
        has_history=len(inputs) < len(signature.input_fields),
        render_outputs=render_outputs,
        readers={field.wire_name: (field.name, reader_of(field.type)) for field in outputs},
    )


_plan = SignatureCache(_compile)


def _hint(field: Field) -> str:
    return " (JSON)" if field.type.kind in {"list", "dict", "object"} else ""
