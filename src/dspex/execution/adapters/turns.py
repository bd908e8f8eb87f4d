"""What the adapters share: the order of turns, the text of values, and the reading of values from text."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dspex.errors import AdapterError, DspexError, InvalidError
from dspex.language.signatures import Field, Signature, Type, type_text

INCOMPLETE = "(an example with parts missing)\n\n"


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


def laid_out(fields: Mapping[str, Field], values: Mapping[str, Any]) -> str:
    """Return the values of `fields`, each under its `[[ ## name ## ]]` header."""
    return "\n\n".join(
        f"[[ ## {field.wire_name} ## ]]\n{_shown(field, values.get(name))}" for name, field in fields.items()
    )


def _shown(field: Field, value: object) -> str:
    return "(not given)" if value is None and not field.type.is_optional else text_of(value)


def describe(fields: Iterable[Field]) -> str:
    """Return a numbered list of fields: name, type, description, and the schema of nested types."""
    return "\n".join(f"{number}. {_line(field)}" for number, field in enumerate(fields, start=1))


def _line(field: Field) -> str:
    text = f"`{field.wire_name}` ({_kind(field.type)})"
    if field.desc:
        text += f": {field.desc}"
    if _is_nested(field.type):
        from pydantic import TypeAdapter

        from dspex.language.signatures.types import annotation

        schema = TypeAdapter(annotation(field.type)).json_schema()
        text += f". Its JSON follows this schema: {json.dumps(schema, ensure_ascii=False)}"
    return text


def _kind(type_: Type) -> str:
    if type_.kind == "atom":
        return f"one of: {'; '.join(str(choice) for choice in type_.constraint('one_of'))}"
    return type_text(type_)


def _is_nested(type_: Type) -> bool:
    return type_.kind == "object" or any(_is_nested(arg) for arg in type_.args)


def value_of(field: Field, text: str) -> Any:  # noqa: ANN401  # what the validator takes next
    """Return what `text`, the whole text of one field in a reply, means for the field's type."""
    text = text.strip()
    type_ = field.type
    if type_.kind == "str":
        return text
    if type_.kind == "atom":
        return _choice(type_, text)
    if type_.is_optional and text.lower() in {"", "null", "none"}:
        return None
    takes_text = any(arg.kind in {"str", "atom"} for arg in type_.args) if type_.kind == "union" else False
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text if takes_text or type_.kind == "any" else _repaired(text)


def _choice(type_: Type, text: str) -> Any:  # noqa: ANN401
    bare = text.strip("\"'` ")
    return next((choice for choice in type_.constraint("one_of") if str(choice) == bare), bare)


def _repaired(text: str) -> Any:  # noqa: ANN401
    """Return what broken JSON was meant to be, or the text itself: the validator then says what is wrong with it."""
    if not text.startswith(("{", "[", "```")):
        return {"True": True, "False": False}.get(text, text)
    return repair(text)


def repair(text: str) -> Any:  # noqa: ANN401
    """Mend broken JSON (a missing bracket, single quotes, a code fence); costs 100 us, so only after a strict parse."""
    from json_repair import repair_json

    try:
        return repair_json(text, return_objects=True, skip_json_loads=True)
    except (RecursionError, ValueError, IndexError):  # what it raises on input that nothing can be made of
        return text


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
