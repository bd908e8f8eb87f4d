"""What the adapters share: the order of turns, the text of values, and the reading of values from text."""

import enum
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from dspex.errors import AdapterError, DspexError, InvalidError
from dspex.execution.adapters.choices import Choices, choices_in
from dspex.execution.adapters.media import MediaGuard
from dspex.language.records import Message
from dspex.language.signatures import Field, Signature, Type, type_schema, type_text
from dspex.language.signatures.instances import as_json, holds_binary

Reader = Callable[[str], Any]
_decode = msgspec.json.Decoder().decode
INCOMPLETE = "(an example with parts missing)\n\n"


def shown_demos(
    signature: Signature,
    demos: Iterable[Mapping[str, Any]],
    *,
    given: Callable[[Mapping[str, Any]], str],
    made: Callable[[Mapping[str, Any]], str],
) -> Iterator[Message]:
    """Yield the turns of demonstrations; `given` and `made` lay out the inputs and the outputs of one."""
    for demo, is_complete in ordered_demos(signature, demos):
        yield Message("user", f"{'' if is_complete else INCOMPLETE}{given(demo)}")
        yield Message("assistant", made(demo))


def ordered_demos(signature: Signature, demos: Iterable[Mapping[str, Any]]) -> list[tuple[Mapping[str, Any], bool]]:
    """Return (demonstration, is complete) pairs, incomplete ones first, those that show nothing left out."""
    complete, partial = [], []
    for demo in demos:
        given = {name for name in signature.fields if demo.get(name) is not None}
        if len(given) == len(signature.fields):
            complete.append((demo, True))
        elif given & signature.input_fields.keys() and given & signature.output_fields.keys():
            partial.append((demo, False))
    return partial + complete


def text_of(value: object) -> str:
    """Return a value as a prompt shows it: text as it is, everything else as JSON."""
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, bool | int | float):
        return json.dumps(value)
    from pydantic_core import to_jsonable_python

    plain = to_jsonable_python(value)
    return plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)


def written(type_: Type) -> Callable[[Any], Any]:
    """Return a function from values of `type_` to JSON; bytes are base64, wherever they are."""
    from pydantic_core import to_jsonable_python

    return as_json if holds_binary(type_) else to_jsonable_python


def _writer_of(type_: Type) -> Callable[[Any], str] | None:
    """Return what writes values into prompts, None where `text_of` does."""
    if holds_binary(type_):
        return lambda value: text_of(value if isinstance(value, str) else as_json(value))
    texts = {(type(value), value): choice.written(value) for choice in choices_in(type_) for value in choice.values}
    return (lambda value: _choice_text(texts, value)) if texts else None


def _choice_text(texts: Mapping[tuple[type, Any], str], value: object) -> str:
    value = value.value if isinstance(value, enum.Enum) else value
    is_scalar = isinstance(value, str | int | float)
    return texts.get((type(value), value)) or text_of(value) if is_scalar else text_of(value)


class Layout:
    """Values, each under its `[[ ## name ## ]]` header; the headers are laid out once."""

    __slots__ = ("_fields", "_guard")

    def __init__(self, fields: Iterable[Field]) -> None:
        """Take the fields in their order."""
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
            MediaError: one of them is no text, and has none.
        """
        self._guard.check(values)
        parts = []
        for name, header, absent, writer in self._fields:
            value = values.get(name)
            if writer is not None and value is not None:
                parts.append(header + writer(value))
            else:
                parts.append(header + (value if type(value) is str else absent if value is None else text_of(value)))
        return "\n\n".join(parts)


def describe(fields: Iterable[Field]) -> str:
    """Return a numbered list of fields: name, type, description, and the schema of nested types."""
    return "\n".join(f"{number}. {_line(field)}" for number, field in enumerate(fields, start=1))


def _line(field: Field) -> str:
    text = f"`{field.wire_name}` ({_kind(field.type)})"
    if field.desc:
        text += f": {field.desc}"
    if _is_nested(field.type):
        text += f". Its JSON follows this schema: {json.dumps(type_schema(field.type), ensure_ascii=False)}"
    return text


def _kind(type_: Type) -> str:
    if type_.kind == "atom":
        return f"one of: {Choices(type_).listed()}"
    return type_text(type_)


def _is_nested(type_: Type) -> bool:
    is_described = type_.kind == "object" or type_.constraint("schema") is not None
    return is_described or any(_is_nested(arg) for arg in type_.args)


def validated(signature: Signature, reply: str, parsed: Mapping[str, Any]) -> dict[str, Any]:
    """Return `parsed` as the signature's outputs.

    Raises:
        AdapterError: it does not fit them.
    """
    try:
        return signature.output_validator(parsed)
    except InvalidError as error:
        raise unreadable(signature, reply, parsed, because=error) from error


def unreadable(
    signature: Signature, reply: str, parsed: Mapping[str, Any], *, because: DspexError | str
) -> AdapterError:
    """Return the error for a reply that is not the signature's outputs."""
    reason = because.message if isinstance(because, DspexError) else because
    errors: Sequence[object] = because.fields if isinstance(because, DspexError) else ()
    shown = reply if len(reply) <= 500 else f"{reply[:500]}... ({len(reply)} characters)"
    return AdapterError(
        f"the reply cannot be read as the outputs of {signature.name!r}: {reason}\nThe reply was: {shown!r}",
        signature=signature.name,
        reply=reply,
        parsed=dict(parsed),
        errors=list(errors),
    )
