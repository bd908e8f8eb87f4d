"""Checks the fields of a signature together."""

import inspect
import keyword
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from dspex.error_text import shorten
from dspex.errors import InputError, SignatureError
from dspex.language.signatures.field import ROLES, Field
from dspex.language.signatures.limits import check_limit
from dspex.language.signatures.patterns import engine_pattern, pattern_states
from dspex.language.signatures.recursion import check_recursion, has_open_reference
from dspex.language.signatures.types import MISSING, Type
from dspex.language.signatures.validation import check_default, is_plain_default

_WORD = re.compile(r"[^\W\d]\w*")
_PATTERNS = frozenset({"pattern", "step_format"})


def check_fields(
    signature: str, fields: Sequence[Field], *, reserved: frozenset[str]
) -> tuple[Field, ...]:
    """Check `fields` together and return them with their defaults as JSON data.

    Raises:
        SignatureError: names the field and the fix; `context["field"]` is its index in `fields`.
    """
    if not any(field.role == "output" for field in fields):
        raise SignatureError(
            f"signature {signature!r} has no output field; write '... -> answer' or mark a field "
            "with Output()"
        )
    names: set[str] = set()
    result = []
    for at, field in enumerate(fields):
        _check_texts(signature, field, at=at)
    check_size(signature, fields)
    for at, field in enumerate(fields):
        _check_name(signature, field, reserved=reserved, at=at)
        for name in {field.name, field.wire_name}:
            if name in names:
                raise SignatureError(
                    f"signature {signature!r} has two fields named {name!r}; rename one of them",
                    field=at,
                )
        names |= {field.name, field.wire_name}
        _check_type(signature, field, at=at)
        if field.checks and field.role == "input":
            raise SignatureError(
                f"signature {signature!r}: the input {field.name!r} has a check; only outputs can "
                "have checks",
                field=at,
            )
        result.append(_with_checked_default(signature, field, at=at))
    return tuple(result)


def clean_instructions(signature: str, instructions: object) -> str:
    """Return instructions without common indentation.

    Raises:
        SignatureError: they are not text.
    """
    if isinstance(instructions, str):
        return inspect.cleandoc(instructions)
    raise SignatureError(
        f"signature {signature!r}: the instructions must be text, not {shorten(instructions)}"
    )


def _check_texts(signature: str, field: Field, *, at: int) -> None:
    """Raise unless what must be text is text, and the role is one of both."""
    texts = {"description": field.desc, "alias": field.alias or ""}
    for what, text in texts.items():
        if not isinstance(text, str):
            raise SignatureError(
                f"signature {signature!r}: the {what} of the field {field.name!r} must be text, "
                f"not {shorten(text)}",
                field=at,
            )
    if field.role not in ROLES:
        raise SignatureError(
            f"signature {signature!r}: the role of the field {field.name!r} must be "
            f"{' or '.join(map(repr, ROLES))}, not {shorten(field.role)}",
            field=at,
        )


def is_legal_name(name: str, reserved: frozenset[str]) -> bool:
    """Whether a field may be called `name`."""
    return (
        name.isidentifier()
        and not keyword.iskeyword(name)
        and not name.startswith("_")
        and _WORD.fullmatch(name) is not None
        and name not in reserved
    )


def _check_name(signature: str, field: Field, *, reserved: frozenset[str], at: int) -> None:
    name = field.name
    if is_legal_name(name, reserved):
        return
    if name in reserved:
        raise SignatureError(
            f"signature {signature!r}: field {name!r} has the name of an operation of signatures; "
            f"name it {name}_ and give alias={name!r} to keep the name that models see",
            field=at,
        )
    raise SignatureError(
        f"signature {signature!r}: {name!r} is not a legal field name (a Python identifier that "
        f"begins with a letter and is not a keyword); name it {name.strip('_')}_ and give "
        f"alias={name!r} to keep the name for models",
        field=at,
    )


def check_size(signature: str, fields: Sequence[Field]) -> None:
    """Raise if `fields`, or all their types together, exceed one of `LIMITS`."""
    check_limit("fields", len(fields), "the signature")
    parts = states = 0
    patterns: dict[str, int] = {}
    for at, field in enumerate(fields):
        where = f"signature {shorten(signature)}: field {shorten(field.name)}"
        with _with_field_index(at):
            for name in (field.name, field.alias or ""):
                check_limit("name", len(name), where)
            for type_, depth in walk_type(field.type):
                parts += 1
                texts = [value for name, value in type_.constraints if name in _PATTERNS]
                states += sum(map(pattern_states, texts))
                patterns |= dict.fromkeys(texts, at)
                check_limit("depth", depth, where)
                check_limit("parts", parts, where)
                check_limit("all_pattern_states", states, where)
                _check_names(type_, where)
            check_recursion(field.type, where)
    for pattern, at in patterns.items():  # compiled only after the limits hold
        with _with_field_index(at):
            engine_pattern(pattern)


@contextmanager
def _with_field_index(at: int) -> Iterator[None]:
    """Add the index of a field to the errors of a block."""
    try:
        yield
    except SignatureError as error:
        raise error.with_message(error.message, field=at) from None


def _check_names(type_: Type, where: str) -> None:
    check_limit("members", len(type_.members), where)
    for name in (type_.title, *(member.name for member in type_.members)):
        check_limit("name", len(name), where)
    if type_.kind == "union" and type_.constraint("tag") is None:
        check_limit("alternatives", len(type_.args), where)


def walk_type(type_: Type) -> Iterator[tuple[Type, int]]:
    """Yield `type_` and each type inside it, with its depth."""
    pending = [(type_, 0)]
    while pending:
        part, depth = pending.pop()
        yield part, depth
        pending.extend((inner, depth + 1) for inner in part.args)
        pending.extend((member.type, depth + 1) for member in part.members)


def _check_type(signature: str, field: Field, *, at: int) -> None:
    """Raise on references to objects that do not enclose them, and on wrong member defaults."""
    pending: list[tuple[Type, frozenset[str]]] = [(field.type, frozenset())]
    while pending:
        type_, enclosing = pending.pop()
        if type_.kind == "ref" and type_.title not in enclosing:
            raise SignatureError(
                f"signature {signature!r}: field {field.name!r} refers to {type_.title!r}, which "
                "is not an enclosing object",
                field=at,
            )
        inside = enclosing | {type_.title} if type_.kind == "object" else enclosing
        if type_.kind == "object" and type_.python is None:
            _check_member_defaults(signature, field, type_, at=at)
        pending.extend((arg, inside) for arg in type_.args)
        pending.extend((member.type, inside) for member in type_.members)


def _check_member_defaults(signature: str, field: Field, type_: Type, *, at: int) -> None:
    for member in type_.members:
        probe = replace(field, name="default", type=member.type, default=member.default, alias=None)
        if member.default is MISSING or is_plain_default(probe) or refers_outside(member.type):
            continue
        try:
            check_default(probe)
        except InputError as error:
            raise SignatureError(
                f"signature {signature!r}: field {field.name!r}: the default of member "
                f"{member.name!r} does not fit its type: {error.fields[0].message}",
                field=at,
            ) from None


def refers_outside(type_: Type) -> bool:
    """Whether `type_` refers to objects that enclose it, so that it cannot be checked alone."""
    return has_open_reference(type_)


def _with_checked_default(signature: str, field: Field, *, at: int) -> Field:
    if field.default is MISSING or is_plain_default(field):
        return field
    try:
        default = check_default(field)[1]
    except InputError as error:
        raise SignatureError(
            f"signature {signature!r}: the default of {field.name!r} does not fit its type: "
            f"{error.fields[0].path}: {error.fields[0].message}",
            field=at,
        ) from None
    return field if repr(default) == repr(field.default) else replace(field, default=default)


def default_instructions(fields: Sequence[Field]) -> str:
    """Return a sentence that names the fields, for a signature without instructions."""
    sides = {
        role: [f"`{field.wire_name}`" for field in fields if field.role == role]
        for role in ("input", "output")
    }
    if not sides["input"]:
        return f"Produce {', '.join(sides['output'])}."
    return f"From {', '.join(sides['input'])}, produce {', '.join(sides['output'])}."
