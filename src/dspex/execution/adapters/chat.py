"""Fields under `[[ ## name ## ]]` headers: readable by every chat model, no JSON needed."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from dspex.execution.adapters.adapter import Prompt
from dspex.execution.adapters.compiled import PerSignature
from dspex.execution.adapters.replies import Reader, reader_of
from dspex.execution.adapters.splitting import ChatSplitter, Splitter
from dspex.execution.adapters.turns import (
    Layout,
    describe,
    shown_demos,
    unreadable,
    validated,
)
from dspex.language.records import Message
from dspex.language.signatures import Field, Signature

HEADER = re.compile(r"^[ \t]*\[\[ ## (\w+) ## \]\][ \t]*", re.MULTILINE)
_DONE = "[[ ## completed ## ]]"


class _Plan(msgspec.Struct, frozen=True):
    """What does not change from call to call."""

    system: Message
    reminder: str
    given: Layout
    made: Callable[[Mapping[str, Any]], str]
    readers: dict[str, tuple[str, Reader]]


class ChatAdapter:
    """The default adapter. The first occurrence of a field wins; text before the first header is ignored."""

    name = "chat"

    def render(self, signature: Signature, demos: Sequence[Mapping[str, Any]], inputs: Mapping[str, Any]) -> Prompt:
        """Return system message, demonstrations and the input; see `Adapter.render`."""
        plan = _plan(signature)
        shown = shown_demos(signature, demos, given=plan.given.text, made=plan.made) if demos else ()
        text = plan.given.text(inputs)
        asked = Message("user", f"{text}\n\n{plan.reminder}" if text else plan.reminder)
        return Prompt(messages=(plan.system, *shown, asked))

    def parse(self, signature: Signature, reply: str) -> dict[str, Any]:
        """Return the outputs under their headers; see `Adapter.parse`."""
        readers = _plan(signature).readers
        found: dict[str, Any] = {}
        name, reader, start = "", None, 0
        for mark in HEADER.finditer(reply):
            if reader is not None and name not in found:
                found[name] = reader(reply[start : mark.start()])
            name, reader = readers.get(mark[1], ("", None))
            start = mark.end()
        if reader is not None and name not in found:
            found[name] = reader(reply[start:])
        if not found:
            expected = ", ".join(f"[[ ## {name} ## ]]" for name in readers)
            raise unreadable(signature, reply, found, because=f"it has none of the headers {expected}")
        return validated(signature, reply, found)

    def splitter(self, signature: Signature) -> Splitter:
        """Return what reads one reply while it comes."""
        return ChatSplitter({wire: name for wire, (name, _) in _plan(signature).readers.items()})


def _compile(signature: Signature) -> _Plan:
    inputs, outputs = signature.input_fields.values(), signature.output_fields.values()
    layout = "\n\n".join(f"[[ ## {field.wire_name} ## ]]\n{{{field.wire_name}}}" for field in (*inputs, *outputs))
    given = f"You are given these fields:\n{describe(inputs)}\n\n" if inputs else ""
    system = (
        f"{given}You answer with these fields:\n{describe(outputs)}\n\n"
        "Every exchange has this layout, with each value in the place of its braces:\n\n"
        f"{layout}\n\n{_DONE}\n\n"
        f"Your task: {signature.instructions}"
    )
    answer = Layout(outputs)
    order = ", then ".join(f"`[[ ## {field.wire_name} ## ]]`{_hint(field)}" for field in outputs)
    return _Plan(
        system=Message("system", system),
        reminder=f"Answer with {order}, and end with `{_DONE}`.",
        given=Layout(inputs),
        made=lambda values: f"{answer.text(values)}\n\n{_DONE}",
        readers={field.wire_name: (field.name, reader_of(field.type)) for field in outputs},
    )


_plan = PerSignature(_compile)


def _hint(field: Field) -> str:
    return " (JSON)" if field.type.kind in {"list", "dict", "object"} else ""
