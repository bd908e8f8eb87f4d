"""Shared by the adapters: demonstration turns, field layout, validation of outputs."""

import enum
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import msgspec

from dspex.errors import AdapterError, DspexError, InputError
from dspex.execution.adapters.choices import Choices, choices_in
from dspex.execution.adapters.media import MediaGuard
from dspex.execution.adapters.passages import is_passages, passages_text
from dspex.language.records import Message
from dspex.language.signatures import Field, Signature, Type, type_schema, type_text
from dspex.language.signatures.instances import as_json, holds_binary

Reader = Callable[[str], Any]
_decode = msgspec.json.Decoder().decode
INCOMPLETE = "(an example with parts missing)\n\n"


def demo_turns(
    signature: Signature,
    demos: Iterable[Mapping[str, Any]],
    *,
    render_inputs: Callable[[Mapping[str, Any]], str],
    render_outputs: Callable[[Mapping[str, Any]], str],
) -> Iterator[Message]:
    """Yield a user and an assistant turn for each demonstration."""
    for demo, is_complete in order_demos(signature, demos):
        yield Message("user", f"{'' if is_complete else INCOMPLETE}{render_inputs(demo)}")
        yield Message("assistant", render_outputs(demo))


def order_demos(
    signature: Signature, demos: Iterable[Mapping[str, Any]]
) -> list[tuple[Mapping[str, Any], bool]]:
    """Return (demonstration, is complete) pairs, incomplete ones first; skip uninformative ones."""
    complete, partial = [], []
    for demo in demos:
        present = {name for name in signature.fields if demo.get(name) is not None}
        if len(present) == len(signature.fields):
            complete.append((demo, True))
        elif present & signature.input_fields.keys() and present & signature.output_fields.keys():
            partial.append((demo, False))
    return partial + complete


def text_of(value: object) -> str:
    """Return a value as a prompt shows it: text unchanged, everything else as JSON."""
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, bool | int | float):
        return json.dumps(value)
    from pydantic_core import to_jsonable_python

    plain = to_jsonable_python(value)
    return plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)


def json_writer(type_: Type) -> Callable[[Any], Any]:
    """Return a function from values of `type_` to JSON data; bytes become base64."""
    from pydantic_core import to_jsonable_python

    return as_json if holds_binary(type_) else to_jsonable_python


def _writer_of(type_: Type) -> Callable[[Any], str] | None:
    """Return a function that writes values of `type_` into prompts, None if `text_of` suffices."""
    if is_passages(type_):
        return lambda value: passages_text(value) if isinstance(value, list) else text_of(value)
    if holds_binary(type_):
        return lambda value: text_of(value if isinstance(value, str) else as_json(value))
    texts = {
        (type(value), value): choice.format(value)
        for choice in choices_in(type_)
        for value in choice.values
    }
    return (lambda value: _choice_text(texts, value)) if texts else None


def _choice_text(texts: Mapping[tuple[type, Any], str], value: object) -> str:
    value = value.value if isinstance(value, enum.Enum) else value
    is_scalar = isinstance(value, str | int | float)
    return texts.get((type(value), value)) or text_of(value) if is_scalar else text_of(value)


class Layout:
    """Renders values, each under its `[[ ## name ## ]]` header; formats the headers once."""

    __slots__ = ("_fields", "_guard")

    def __init__(self, fields: Iterable[Field]) -> None:
        """Take the fields in display order."""
        fields = tuple(fields)
        self._guard = MediaGuard(fields)
        self._fields = tuple(
            (
                field.name,
                f"[[ ## {field.wire_name} ## ]]\n",
                "null" if field.type.is_optional else "(not given)",
                _writer_of(field.type),
            )
            for field in fields
        )

    def text(self, values: Mapping[str, Any]) -> str:
        """Return the text of `values`.

        Raises:
            MediaError: a value holds media, which text prompts cannot show.
        """
        self._guard.check(values)
        parts = []
        for name, header, absent, writer in self._fields:
            value = values.get(name)
            if writer is not None and value is not None:
                parts.append(header + writer(value))
            else:
                parts.append(
                    header
                    + (value if type(value) is str else absent if value is None else text_of(value))
                )
        return "\n\n".join(parts)


def describe(fields: Iterable[Field]) -> str:
    """Return a numbered list of fields: name, type, description, and the schema of nested types."""
    return "\n".join(f"{number}. {_line(field)}" for number, field in enumerate(fields, start=1))


def _line(field: Field) -> str:
    text = f"`{field.wire_name}` ({_kind(field.type)})"
    if field.desc:
        text += f": {field.desc}"
    if _is_nested(field.type):
        text += (
            ". Its JSON follows this schema: "
            f"{json.dumps(type_schema(field.type), ensure_ascii=False)}"
        )
    return text


def _kind(type_: Type) -> str:
    if type_.kind == "atom":
        return f"one of: {Choices(type_).format_all()}"
    return type_text(type_)


def _is_nested(type_: Type) -> bool:
    is_described = type_.kind == "object" or type_.constraint("schema") is not None
    return is_described or any(_is_nested(arg) for arg in type_.args)


def validate_outputs(signature: Signature, reply: str, parsed: Mapping[str, Any]) -> dict[str, Any]:
    """Return `parsed` as validated outputs of the signature.

    Raises:
        AdapterError: the values do not fit the output fields.
    """
    try:
        return signature.output_validator(parsed)
    except InputError as error:
        raise unreadable_reply(signature, reply, parsed, because=error) from error


def unreadable_reply(
    signature: Signature, reply: str, parsed: Mapping[str, Any], *, because: DspexError | str
) -> AdapterError:
    """Return the error for a reply that does not contain the signature's outputs."""
    reason = because.message if isinstance(because, DspexError) else because
    excerpt = reply if len(reply) <= 500 else f"{reply[:500]}... ({len(reply)} characters)"
    return AdapterError(
        f"the reply cannot be read as the outputs of {signature.name!r}: {reason}\nThe reply was: "
        f"{excerpt!r}",
        signature=signature.name,
        reply=reply,
        parsed=dict(parsed),
        errors=because.fields if isinstance(because, DspexError) else (),
    )
