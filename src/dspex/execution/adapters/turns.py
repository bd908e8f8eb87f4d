"""Shared by the adapters: demonstration turns, field layout, validation of outputs."""

import enum
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from dspex.errors import AdapterError, DspexError, FieldError, InputError, MediaError
from dspex.execution.adapters.choices import Choices, choices_in
from dspex.execution.adapters.media import (
    MediaGuard,
    instances_in,
    is_media,
    may_hold,
    media_content,
)
from dspex.execution.adapters.passages import is_passages, passages_text
from dspex.execution.adapters.signature_cache import SignatureCache
from dspex.language.records import Message
from dspex.language.records.message import Content, join_content
from dspex.language.signatures import Field, Signature, Type, type_schema, type_text
from dspex.language.signatures.content import History, Turn
from dspex.language.signatures.instances import as_json, holds_binary
from dspex.language.signatures.types import make

Reader = Callable[[str], Any]
_decode = msgspec.json.Decoder().decode
INCOMPLETE = "(an example with parts missing)\n\n"
_ANY = make("any")


class TurnWriter(Protocol):
    """Writes the inputs or the outputs of one turn in the layout of an adapter."""

    def __call__(self, values: Mapping[str, Any], /, *, skips_absent: bool = False) -> Content:
        """Return the content; with `skips_absent`, only of the fields that have a value."""
        ...


def earlier_turns(
    signature: Signature,
    demos: Sequence[Mapping[str, Any]],
    inputs: Mapping[str, Any],
    *,
    render_inputs: TurnWriter,
    render_outputs: TurnWriter,
) -> Iterator[Message]:
    """Yield what comes before the input: each demonstration as a user and an assistant turn.

    The conversations in a demonstration and in the inputs are turns of their own, see
    `history_turns`.
    """
    writers = {"render_inputs": render_inputs, "render_outputs": render_outputs}
    for demo, is_complete in order_demos(signature, demos) if demos else ():
        yield from history_turns(signature, demo, **writers)
        content = render_inputs(demo)
        yield Message("user", content if is_complete else join_content(INCOMPLETE, content))
        yield Message("assistant", render_outputs(demo))
    yield from history_turns(signature, inputs, **writers)


def is_history(field: Field) -> bool:
    """Return whether the values of a field are conversations, which become turns."""
    kinds = {
        part.kind for part in (field.type.args if field.type.kind == "union" else (field.type,))
    }
    return "History" in kinds and kinds <= {"History", "none"}


def _names_of_histories(signature: Signature) -> tuple[str, ...]:
    return tuple(name for name, field in signature.input_fields.items() if is_history(field))


_history_names = SignatureCache(_names_of_histories)


def history_turns(
    signature: Signature,
    values: Mapping[str, Any],
    *,
    render_inputs: TurnWriter,
    render_outputs: TurnWriter,
) -> Iterator[Message]:
    """Yield the turns of the conversations in `values`, in the layout of an adapter.

    The content of a turn maps fields to values; any other content is the value of the first input
    that is not a medium, or of the last output.

    Raises:
        InputError: a turn has another role than user, assistant and system.
        MediaError: a turn of the assistant holds media.
    """
    names = _history_names(signature)
    if not names:
        return
    outputs = signature.output_fields
    inputs = {key: item for key, item in signature.input_fields.items() if key not in names}
    texts = [key for key, field in inputs.items() if not is_media(field.type)]
    for name in names:
        for number, turn in enumerate(_turns_of(values.get(name))):
            path = f"{name}.messages[{number}]"
            if turn.role == "user":
                fields = _fields_of(turn, texts[:1], inputs)
                content = render_inputs(fields, skips_absent=True) or media_content(
                    _ANY, turn.content, f"{path}.content", write=text_of, plain=json_writer(_ANY)
                )
                yield Message("user", content)
            elif turn.role == "assistant":
                _refuse_media(turn, f"{path}.content")
                fields = _fields_of(turn, [*outputs][-1:], outputs)
                yield Message("assistant", render_outputs(fields, skips_absent=True))
            elif turn.role == "system":
                yield Message("system", text_of(turn.content))
            else:
                raise _unknown_role(turn, name, f"{path}.role")


def _refuse_media(turn: Turn, path: str) -> None:
    if media := next(instances_in(turn.content, path), None):
        message = f"{media.path} holds media ({media.kind}), which only turns of the user can"
        raise MediaError(message, path=media.path, kind=media.kind)


def _turns_of(history: Any) -> Iterator[Turn]:
    """Yield the turns of a conversation, which may be in JSON form in a demonstration."""
    turns = history.messages if isinstance(history, History) else history or ()
    for turn in turns.get("messages", ()) if isinstance(turns, Mapping) else turns:
        yield turn if isinstance(turn, Turn) else Turn(turn["role"], turn["content"])


def _fields_of(turn: Turn, default: Sequence[str], fields: Mapping[str, Field]) -> dict[str, Any]:
    content = turn.content
    if isinstance(content, Mapping) and content and content.keys() <= fields.keys():
        return dict(content)
    return dict.fromkeys(default, content)


def _unknown_role(turn: Turn, name: str, path: str) -> InputError:
    expected = "'user', 'assistant' or 'system'"
    message = f"the role of a turn is {expected}, not {turn.role!r}"
    error = FieldError(
        field=name,
        path=path,
        value=turn.role,
        message=message,
        constraint="role",
        expected=expected,
    )
    return InputError(f"{path}: {message}", errors=[error])


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


def writer_of(type_: Type) -> Callable[[Any], str] | None:
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


class Marks(NamedTuple):
    """What stands around the value of a field; `{}` is the name of the field."""

    before: str = "[[ ## {} ## ]]\n"
    after: str = ""


_HEADER = Marks()


class Layout:
    """Renders values, each under its header or within its tags; formats these once."""

    __slots__ = ("_fields", "_guard", "_may_hold_media")

    def __init__(
        self,
        fields: Iterable[Field],
        *,
        marks: Marks = _HEADER,
        writer_for: Callable[[Field], Callable[[Any], str] | None] | None = None,
    ) -> None:
        """Take the fields in display order; `writer_for` returns another writer of values."""
        fields = tuple(fields)
        self._guard = MediaGuard(fields)
        self._may_hold_media = any(may_hold(field.type) for field in fields)
        self._fields = tuple(
            (
                field,
                field.name,
                marks.before.format(field.wire_name),
                "null" if field.type.is_optional else "(not given)",
                writer_of(field.type) if writer_for is None else writer_for(field),
                marks.after.format(field.wire_name),
            )
            for field in fields
        )

    def text(self, values: Mapping[str, Any], /, *, skips_absent: bool = False) -> str:
        """Return the text of outputs.

        Raises:
            MediaError: a value holds media, which a model cannot write.
        """
        self._guard.check(values)
        return self._text(values, skips_absent=skips_absent)

    def content(self, values: Mapping[str, Any], /, *, skips_absent: bool = False) -> Content:
        """Return the content of inputs, with media as parts.

        Raises:
            MediaError: a medium has neither bytes nor a URL that a provider can read.
        """
        if not self._may_hold_media and not skips_absent:
            return self._text(values)
        pieces: list[Content] = []
        for field, name, header, absent, writer, after in self._fields:
            value = values.get(name)
            if value is None and skips_absent:
                continue
            pieces.append(f"\n\n{header}" if pieces else header)
            pieces.append(
                absent if value is None else field_content(field, value, write=writer or text_of)
            )
            pieces.append(after)
        return join_content(*pieces)

    def _text(self, values: Mapping[str, Any], *, skips_absent: bool = False) -> str:
        parts = []
        for _, name, header, absent, writer, after in self._fields:
            value = values.get(name)
            if writer is not None and value is not None:
                parts.append(header + writer(value) + after)
            elif value is not None or not skips_absent:
                parts.append(
                    header
                    + (value if type(value) is str else absent if value is None else text_of(value))
                    + after
                )
        return "\n\n".join(parts)


def field_content(field: Field, value: Any, *, write: Callable[[Any], str] = text_of) -> Content:
    """Return the content that shows the value of a field; a turn may hold any value.

    Raises:
        MediaError: a medium has neither bytes nor a URL that a provider can read.
    """
    type_ = field.type if may_hold(field.type) else _ANY
    return media_content(type_, value, field.name, write=write, plain=json_writer(field.type))


def describe(fields: Iterable[Field], *, schema: str = "Its JSON follows this schema") -> str:
    """Return a numbered list of fields: name, type, description, and the schema of nested types.

    `schema` introduces the schema.
    """
    return "\n".join(
        f"{number}. {_line(field, schema)}" for number, field in enumerate(fields, start=1)
    )


def _line(field: Field, schema: str) -> str:
    text = f"`{field.wire_name}` ({_kind(field.type)})"
    if field.desc:
        text += f": {field.desc}"
    if _is_nested(field.type):
        text += f". {schema}: {json.dumps(type_schema(field.type), ensure_ascii=False)}"
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
