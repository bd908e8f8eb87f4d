"""What must hold for the fields of a signature together."""

import keyword
from collections.abc import Sequence

from dspex.errors import InvalidError, SignatureError
from dspex.language.signatures.field import MISSING, Field
from dspex.language.signatures.validation import Validator


def check_fields(signature: str, fields: Sequence[Field], *, reserved: frozenset[str]) -> None:
    """Refuse fields that cannot stand together, or whose defaults their own types refuse.

    Raises:
        SignatureError: naming the field, and the mend.
    """
    if not any(field.role == "output" for field in fields):
        raise SignatureError(
            f"signature {signature!r} has no output field; write '... -> answer' or mark a field with Output()"
        )
    seen: set[str] = set()
    for field in fields:
        _check_name(signature, field, reserved)
        for name in {field.name, field.wire_name}:
            if name in seen:
                raise SignatureError(f"signature {signature!r} has two fields named {name!r}; rename one of them")
        seen |= {field.name, field.wire_name}
        _check_default(signature, field)


def _check_name(signature: str, field: Field, reserved: frozenset[str]) -> None:
    name = field.name
    if not name.isidentifier() or keyword.iskeyword(name) or name.startswith("_"):
        raise SignatureError(
            f"signature {signature!r}: {name!r} is no legal field name (a Python identifier that is no keyword and "
            f"begins with a letter); name it {name.strip('_')}_ and give alias={name!r} to keep the name for models"
        )
    if name in reserved:
        raise SignatureError(
            f"signature {signature!r}: field {name!r} has the name of an operation of signatures; "
            f"name it {name}_ and give alias={name!r} to keep the name that models see"
        )


def _check_default(signature: str, field: Field) -> None:
    if field.default is MISSING or (field.default is None and field.type.is_optional):
        return
    try:
        Validator("default", [field])({field.name: field.default})
    except InvalidError as error:
        raise SignatureError(
            f"signature {signature!r}: the default of {field.name!r} is refused by its own type: "
            f"{error.fields[0].message}"
        ) from None


def default_instructions(fields: Sequence[Field]) -> str:
    """Return a sentence that names the fields, for a signature that was given no instructions."""
    sides = {role: [f"`{field.wire_name}`" for field in fields if field.role == role] for role in ("input", "output")}
    if not sides["input"]:
        return f"Produce {', '.join(sides['output'])}."
    return f"From {', '.join(sides['input'])}, produce {', '.join(sides['output'])}."
