"""The signature of a dspy program, read from its code, and the error for unfit outputs."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from dspex.errors import DefinitionError, InputError, SignatureError
from dspex.execution.backends.dspy_bridge.schemas import field_of
from dspex.execution.backends.outputs import GUESS
from dspex.language.programs import Program
from dspex.language.signatures import MISSING, Field, Signature, Type
from dspex.language.signatures.types import make, union

FROM_CODE = "code"
_LENIENT = {"str", "int", "float", "bool", "list", "dict", "tuple", "none", "any", "union"}
_WORDS = {bool: "bool", int: "int", float: "float", list: "list", dict: "dict"}


def contract_of(described: Mapping[str, Any], target: str) -> tuple[Signature, str]:
    """Return the signature of a dspy program, and how certain its outputs are: FROM_CODE or GUESS.

    Outputs that are not in every prediction are not declared: a program may return more than its
    signature declares. A guessed output may be missing.

    Raises:
        DefinitionError: its outputs are unknown, or a field is not possible in dspex.
    """
    contract = described["contract"]
    input_names = {item["name"] for item in contract["inputs"]}
    # names are unique
    items = [item for item in contract["outputs"] if item["name"] not in input_names]
    outputs = [field for item in items if (field := _output(item, is_sure=not contract["guess"]))]
    if not outputs:
        raise DefinitionError(
            f"cannot determine the outputs of {target} "
            f"({contract['guess'] or 'none has a usable name'}): "
            f"pass its signature, {_signature_hint(described, ['answer'])}"
        )
    name = target.rpartition(":")[2] or "Imported"
    try:
        signature = Signature.from_fields(
            name, [*map(_input, contract["inputs"]), *outputs], _instructions(described)
        )
    except SignatureError as error:
        raise DefinitionError(
            f"the contract of {target} cannot be read from its code: {error.message}; pass its "
            f"signature, {_signature_hint(described, [field.name for field in outputs])}"
        ) from error
    return signature, GUESS if contract["guess"] else FROM_CODE


def _instructions(described: Mapping[str, Any]) -> str:
    predictors = list(described["predictors"].values())
    return str(predictors[-1]["signature"]["instructions"]) if predictors else ""


def _input(item: Mapping[str, Any]) -> Field:
    """Return an input. Without an annotation it takes any value: dspy's types are only hints."""
    field = _to_field(item)
    type_ = field.type
    if not item["typed"] and all(part.kind in _LENIENT for part in _parts(type_)):
        is_text = type_.kind == "str" or (
            not item["schema"] and isinstance(item.get("default", ""), str)
        )
        type_ = union(make("str"), make("any")) if is_text else make("any")
    if field.default is None and not type_.is_optional and type_.kind != "any":
        type_ = union(type_, make("none"))
    input_field = Field(
        name=field.name,
        type=type_,
        role="input",
        desc=field.desc,
        default=field.default,
        alias=field.alias,
    )
    return input_field if _takes_default(input_field) else replace(input_field, type=make("any"))


def _takes_default(field: Field) -> bool:
    """Whether the default fits the type; Python accepts `words: int = "many"`."""
    try:
        Signature.from_fields("probe", [replace(field, role="output", alias=None)])
    except SignatureError:
        return False
    return True


def _parts(type_: Type) -> list[Type]:
    return [type_, *(part for arg in type_.args for part in _parts(arg))]


def _to_field(item: Mapping[str, Any]) -> Field:
    """Return a field; rename it if its name is reserved (`fields`), with the name as alias."""
    field = field_of(item)
    try:
        Signature.from_fields("name", [Field(name=field.name, type=make("any"), role="output")])
    except SignatureError:
        name = f"{field.name.strip('_')}_"
        return Field(
            name=name, type=field.type, role=field.role, default=field.default, alias=field.name
        )
    return field


def _output(item: Mapping[str, Any], *, is_sure: bool) -> Field | None:
    field = _to_field(item)
    if field.alias is not None:
        return None  # returned under its own name, like all undeclared outputs
    if is_sure:
        return Field(
            name=field.name, type=field.type, role="output", desc=field.desc, default=MISSING
        )
    return Field(name=field.name, type=make("any"), role="output", desc=field.desc, default=None)


def mismatch_error(
    program: Program, answer: Mapping[str, Any], error: InputError
) -> DefinitionError:
    """Return the error for a prediction that does not fit a signature, which must be corrected."""
    target = program.root.config.get("target", program.name)
    source = "given at import"
    if program.root.config.get("contract") in {FROM_CODE, GUESS}:
        source = "read from its code, which was not enough"
    inputs = ", ".join(field.wire_name for field in program.signature.input_fields.values())
    outputs = ", ".join(f"{name}{_type_suffix(value)}" for name, value in answer.items())
    return DefinitionError(
        f"{target} returned {', '.join(answer) or 'nothing'}, which does not fit its signature "
        f"({source}): "
        f"{error.message}. Import it with the right one: --signature '{inputs} -> {outputs}'",
        errors=error.fields,
        outputs=dict(answer),
    )


def _type_suffix(value: object) -> str:
    return f": {_WORDS[type(value)]}" if type(value) in _WORDS else ""


def _signature_hint(described: Mapping[str, Any], outputs: list[str]) -> str:
    inputs = ", ".join(item["name"] for item in described["contract"]["inputs"])
    return f"--signature '{inputs} -> {', '.join(outputs)}' (in Python: signature=...)"
