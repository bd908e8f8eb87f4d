"""What must hold for the fields of a signature together."""

import keyword
import re
from collections.abc import Sequence
from dataclasses import replace

from dspex.errors import InvalidError, SignatureError
from dspex.language.signatures.field import Field
from dspex.language.signatures.types import MISSING, Type
from dspex.language.signatures.validation import check_one, is_plainly

_WORD = re.compile(r"[^\W\d]\w*")


def checked_fields(signature: str, fields: Sequence[Field], *, reserved: frozenset[str]) -> tuple[Field, ...]:
    """Return `fields`, their defaults as JSON data, once it is sure that they can stand together.

    Raises:
        SignatureError: naming the field, and the mend; `context["field"]` is the field's place in `fields`.
    """
    if not any(field.role == "output" for field in fields):
        raise SignatureError(
            f"signature {signature!r} has no output field; write '... -> answer' or mark a field with Output()"
        )
    seen: set[str] = set()
    made = []
    for at, field in enumerate(fields):
        _check_name(signature, field, reserved=reserved, at=at)
        for name in {field.name, field.wire_name}:
            if name in seen:
                raise SignatureError(
                    f"signature {signature!r} has two fields named {name!r}; rename one of them", field=at
                )
        seen |= {field.name, field.wire_name}
        _check_type(signature, field, at=at)
        if field.checks and field.role == "input":
            raise SignatureError(
                f"signature {signature!r}: the input {field.name!r} has a check; a check is of an output", field=at
            )
        made.append(_with_checked_default(signature, field, at=at))
    return tuple(made)


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
        f"signature {signature!r}: {name!r} is no legal field name (a Python identifier that is no keyword and "
        f"begins with a letter); name it {name.strip('_')}_ and give alias={name!r} to keep the name for models",
        field=at,
    )


def _check_type(signature: str, field: Field, *, at: int) -> None:
    """Refuse references that lead nowhere, and type data that was put together by hand."""
    pending: list[tuple[Type, frozenset[str]]] = [(field.type, frozenset())]
    while pending:
        type_, enclosing = pending.pop()
        if type_.kind == "ref" and type_.title not in enclosing:
            raise SignatureError(
                f"signature {signature!r}: field {field.name!r} refers to {type_.title!r}, which encloses nothing here",
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
        if member.default is MISSING or is_plainly(probe) or refers_outside(member.type):
            continue
        try:
            check_one(probe)
        except InvalidError as error:
            raise SignatureError(
                f"signature {signature!r}: field {field.name!r}: the default of member {member.name!r} is refused by "
                f"its own type: {error.fields[0].message}",
                field=at,
            ) from None


def refers_outside(type_: Type) -> bool:
    """Whether `type_` refers to objects that enclose it, and so cannot be looked at alone."""
    return _open_refs(type_, frozenset())


def _open_refs(type_: Type, enclosing: frozenset[str]) -> bool:
    if type_.kind == "ref":
        return type_.title not in enclosing
    within = enclosing | {type_.title} if type_.kind == "object" else enclosing
    return any(_open_refs(part, within) for part in [*type_.args, *(member.type for member in type_.members)])


def _with_checked_default(signature: str, field: Field, *, at: int) -> Field:
    if field.default is MISSING or is_plainly(field):
        return field
    try:
        default = check_one(field)[1]
    except InvalidError as error:
        raise SignatureError(
            f"signature {signature!r}: the default of {field.name!r} is refused by its own type: "
            f"{error.fields[0].path}: {error.fields[0].message}",
            field=at,
        ) from None
    return field if repr(default) == repr(field.default) else replace(field, default=default)


def default_instructions(fields: Sequence[Field]) -> str:
    """Return a sentence that names the fields, for a signature that was given no instructions."""
    sides = {role: [f"`{field.wire_name}`" for field in fields if field.role == role] for role in ("input", "output")}
    if not sides["input"]:
        return f"Produce {', '.join(sides['output'])}."
    return f"From {', '.join(sides['input'])}, produce {', '.join(sides['output'])}."
