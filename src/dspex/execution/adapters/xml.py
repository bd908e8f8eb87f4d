"""Fields between XML tags: the layout that dspy 3.5 uses by default."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

import msgspec

from dspex.execution.adapters.adapter import Prompt
from dspex.execution.adapters.field_splitter import FieldSplitter
from dspex.execution.adapters.signature_cache import SignatureCache
from dspex.execution.adapters.turns import (
    Layout,
    Marks,
    describe,
    earlier_turns,
    is_history,
    text_of,
    unreadable_reply,
    validate_outputs,
    writer_of,
)
from dspex.execution.adapters.xml_scanner import FieldScanner, FieldTags, XMLSplitter
from dspex.execution.adapters.xml_text import XMLElement, element, tag_escaper
from dspex.execution.adapters.xml_values import XMLValue
from dspex.language.records import Message
from dspex.language.records.message import join_content
from dspex.language.signatures import Field, Signature

_TAGS: Final = Marks("<{}>\n", "\n</{}>")


class _Plan(msgspec.Struct, frozen=True):
    """The parts of a prompt that are the same for every call of a signature."""

    system: Message
    reminder: str
    input_layout: Layout
    output_layout: Layout
    tags: FieldTags
    values: dict[str, tuple[str, XMLValue]]


class XMLAdapter:
    """Each field between its tags; lists, dicts and objects of a reply as elements inside.

    The first occurrence of a field wins. Text around the fields is ignored. A reply does not have
    to be well-formed: what looks like no tag of a field is text.
    """

    name = "xml"

    def render(
        self, signature: Signature, demos: Sequence[Mapping[str, Any]], inputs: Mapping[str, Any]
    ) -> Prompt:
        """Return the system message, demonstrations and input; see `Adapter.render`."""
        plan = _plan(signature)
        turns = earlier_turns(
            signature,
            demos,
            inputs,
            render_inputs=plan.input_layout.content,
            render_outputs=plan.output_layout.text,
        )
        content = plan.input_layout.content(inputs)
        user_content = join_content(content, "\n\n", plan.reminder) if content else plan.reminder
        return Prompt(messages=(plan.system, *turns, Message("user", user_content)))

    def parse(self, signature: Signature, reply: str) -> dict[str, Any]:
        """Return the outputs between their tags; see `Adapter.parse`."""
        plan = _plan(signature)
        contents: dict[str, list[str]] = {}
        for name, occurrence, markup in FieldScanner(plan.tags).feed(reply, is_last=True):
            elements = contents.setdefault(name, [])
            if occurrence > len(elements):
                elements.append("")
            elements[-1] += markup
        if not contents:
            expected = ", ".join(f"<{name}>" for name in plan.values)
            raise unreadable_reply(
                signature, reply, {}, because=f"it has none of the tags {expected}"
            )
        outputs = {}
        for wire_name, markups in contents.items():
            name, value = plan.values[wire_name]
            try:
                outputs[name] = value.read(*map(XMLElement.parse, markups))
            except RecursionError:
                raise unreadable_reply(
                    signature, reply, outputs, because=f"<{wire_name}> is nested too deeply"
                ) from None
        return validate_outputs(signature, reply, outputs)

    def splitter(self, signature: Signature) -> FieldSplitter:
        """Return a splitter for one streamed reply."""
        plan = _plan(signature)
        return XMLSplitter(plan.tags, {wire: name for wire, (name, _) in plan.values.items()})


def _compile(signature: Signature) -> _Plan:
    inputs = [field for field in signature.input_fields.values() if not is_history(field)]
    outputs = signature.output_fields.values()
    values = {field.wire_name: (field.name, XMLValue(field.type)) for field in outputs}
    escape_tags = tag_escaper(field.wire_name for field in (*inputs, *outputs))
    names = ", then ".join(f"`<{name}>`" for name in values)
    return _Plan(
        system=Message("system", _system_text(signature, inputs, values)),
        reminder=f"Answer with {names}, each closed by its own tag, and nothing else.",
        input_layout=Layout(
            inputs, marks=_TAGS, writer_for=lambda field: partial(_write, escape_tags, _text(field))
        ),
        output_layout=Layout(
            outputs, marks=_TAGS, writer_for=lambda field: values[field.wire_name][1].write
        ),
        tags=FieldTags({name: value.is_nested for name, (_, value) in values.items()}),
        values=values,
    )


_plan = SignatureCache(_compile)


def _system_text(
    signature: Signature, inputs: Sequence[Field], values: Mapping[str, tuple[str, XMLValue]]
) -> str:
    outputs = signature.output_fields.values()
    schema = "Its elements follow this JSON schema"
    inputs_text = f"You are given these fields:\n{describe(inputs)}\n\n" if inputs else ""
    layout = [
        f"<{field.wire_name}>\n{{{field.wire_name}}}\n</{field.wire_name}>" for field in inputs
    ]
    layout += [
        element(name, value.skeleton(name))
        if value.is_nested
        else f"<{name}>\n{{{name}}}\n</{name}>"
        for name, (_, value) in values.items()
    ]
    layout_text = "\n\n".join(layout)
    return (
        f"{inputs_text}You answer with these fields:\n{describe(outputs, schema=schema)}\n\n"
        "Every exchange has this layout, with each value in the place of its braces:\n\n"
        f"{layout_text}\n\n"
        "In a value of yours, write `&lt;` for `<` and `&amp;` for `&`.\n\n"
        f"Your task: {signature.instructions}"
    )


def _text(field: Field) -> Callable[[Any], str]:
    return writer_of(field.type) or text_of


def _write(escape_tags: Callable[[str], str], write: Callable[[Any], str], value: Any) -> str:
    return escape_tags(write(value))
