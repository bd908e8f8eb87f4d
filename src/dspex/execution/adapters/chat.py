"""Fields under `[[ ## name ## ]]` headers: readable by every chat model, no JSON needed."""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from dspex.execution.adapters.adapter import Prompt
from dspex.execution.adapters.turns import (
    INCOMPLETE,
    describe,
    laid_out,
    ordered_demos,
    unreadable,
    validated,
    value_of,
)
from dspex.language.records import Message
from dspex.language.signatures import Field, Signature

_HEADER = re.compile(r"^[ \t]*\[\[ ## (\w+) ## \]\][ \t]*", re.MULTILINE)
_DONE = "[[ ## completed ## ]]"


class ChatAdapter:
    """The default adapter. The first occurrence of a field wins; text before the first header is ignored."""

    name = "chat"

    def render(self, signature: Signature, demos: Sequence[Mapping[str, Any]], inputs: Mapping[str, Any]) -> Prompt:
        """Return system message, demonstrations and the input; see `Adapter.render`."""
        system, reminder = _static(signature)
        messages = [system]
        for demo, is_complete in ordered_demos(signature, demos):
            note = "" if is_complete else INCOMPLETE
            messages.append(Message("user", note + laid_out(signature.input_fields, demo)))
            messages.append(Message("assistant", f"{laid_out(signature.output_fields, demo)}\n\n{_DONE}"))
        messages.append(Message("user", f"{laid_out(signature.input_fields, inputs)}\n\n{reminder}".lstrip()))
        return Prompt(messages=tuple(messages))

    def parse(self, signature: Signature, reply: str) -> dict[str, Any]:
        """Return the outputs under their headers; see `Adapter.parse`."""
        by_wire_name = {field.wire_name: field for field in signature.output_fields.values()}
        found: dict[str, Any] = {}
        marks = list(_HEADER.finditer(reply))
        for mark, following in zip(marks, [*marks[1:], None], strict=True):
            field = by_wire_name.get(mark[1])
            if field is not None and field.name not in found:
                found[field.name] = value_of(field, reply[mark.end() : following.start() if following else None])
        if not found and signature.output_fields:
            expected = ", ".join(f"[[ ## {name} ## ]]" for name in by_wire_name)
            raise unreadable(signature, reply, found, because=f"it has none of the headers {expected}")
        return validated(signature, reply, found)


@lru_cache(maxsize=1024)
def _static(signature: Signature) -> tuple[Message, str]:
    """Return what does not change from call to call: the system message and the reminder after the input."""
    inputs, outputs = signature.input_fields.values(), signature.output_fields.values()
    layout = "\n\n".join(f"[[ ## {field.wire_name} ## ]]\n{{{field.wire_name}}}" for field in (*inputs, *outputs))
    given = f"You are given these fields:\n{describe(inputs)}\n\n" if inputs else ""
    system = (
        f"{given}You answer with these fields:\n{describe(outputs)}\n\n"
        "Every exchange has this layout, with each value in the place of its braces:\n\n"
        f"{layout}\n\n{_DONE}\n\n"
        f"Your task: {signature.instructions}"
    )
    order = ", then ".join(f"`[[ ## {field.wire_name} ## ]]`{_hint(field)}" for field in outputs)
    return Message("system", system), f"Answer with {order}, and end with `{_DONE}`."


def _hint(field: Field) -> str:
    return "" if field.type.kind == "str" else " (JSON)" if field.type.kind in {"list", "dict", "object"} else ""
