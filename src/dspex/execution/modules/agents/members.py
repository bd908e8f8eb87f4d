"""The members of a team: modules by name, and what each of them is for."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from dspex.error_text import shorten, suggest
from dspex.errors import DefinitionError
from dspex.execution.modules.inner import AGENT_SETTINGS, inner_module, member_module
from dspex.execution.modules.module import Module
from dspex.execution.modules.stored_program import StoredProgram
from dspex.language.signatures import Signature, Type
from dspex.language.signatures.types import union

Members = Mapping[str, Module | str] | Sequence[Module]
"""Modules by name; a text is the role of a `Predict` of the team's signature."""
MemberContract = Callable[[Signature, Sequence[str]], Signature]
"""Returns the signature of a member from that of the team, and the names of the others."""
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
MEMBER_SETTINGS: Final = ("signature", "role", "program", *AGENT_SETTINGS)


def named_members(members: Members, signature: Signature | None) -> dict[str, Module]:
    """Return the members by name; a list is numbered from 1.

    Raises:
        DefinitionError: there is no member, or one of them is not a module.
    """
    items = (
        members.items()
        if isinstance(members, Mapping)
        else ((str(number), module) for number, module in enumerate(members, start=1))
    )
    modules: dict[str, Module] = {}
    for name, member in items:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise DefinitionError(
                f"a member is named by letters, digits, _ and -, at most 64, not {name!r}"
            )
        if isinstance(member, str) and signature is not None:
            modules[name] = inner_module(signature.with_instructions(member), {})
        elif isinstance(member, Module):
            modules[name] = member
        else:
            raise DefinitionError(
                f"the member {name!r} must be a module, or a text with its role, not "
                f"{shorten(member)}"
            )
    if not modules:
        raise DefinitionError("a team needs at least one member")
    return modules


def members_from_settings(
    settings: Mapping[str, Any], signature: Signature, contract_of: MemberContract | None = None
) -> dict[str, Module | str]:
    """Return the members that the setting `members` describes, by name.

    Each is described by its role or by an object with the keys of `MEMBER_SETTINGS`; `signature` is
    by default what `contract_of` returns for that of the team with the role, and for the names of
    the other members. `program` is the name of a stored program that is the member.

    Raises:
        DefinitionError: a member is described wrongly; the message names it.
    """
    members = settings.get("members")
    if not isinstance(members, Mapping) or not members:
        raise DefinitionError(
            "the setting `members` is an object: a role, or signature and role, by name; it is "
            f"{shorten(members)}"
        )
    modules: dict[str, Module | str] = {}
    for name, options in members.items():
        if isinstance(options, str):
            modules[name] = options
            continue
        if not isinstance(options, Mapping):
            raise DefinitionError(f"the member {name!r} must be text or an object")
        if unknown := [key for key in options if key not in MEMBER_SETTINGS]:
            raise DefinitionError(
                f"the member {name!r} takes no {unknown[0]!r}."
                f"{suggest(unknown[0], list(MEMBER_SETTINGS))} It takes: "
                f"{', '.join(MEMBER_SETTINGS)}"
            )
        contract = Signature.of(options.get("signature", signature))
        if role := options.get("role", ""):
            contract = contract.with_instructions(role)
        if contract_of is not None and not {"signature", "program"} & options.keys():
            contract = contract_of(contract, [key for key in members if key != name])
        if "program" in options:
            modules[name] = StoredProgram(str(options["program"]), contract)
            continue
        settings = {key: options[key] for key in options if key in AGENT_SETTINGS}
        try:
            modules[name] = member_module(contract, settings)
        except DefinitionError as error:
            raise error.with_message(f"the member {name!r}: {error.message}") from error
    return modules


def inputs_for(module: Module, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the values that are inputs of `module`."""
    return {name: values[name] for name in module.contract().input_fields if name in values}


def missing_inputs(contract: Signature, names: Sequence[str]) -> list[str]:
    """Return the required inputs of a signature that are not among `names`."""
    return [
        name
        for name, field in contract.input_fields.items()
        if field.is_required and name not in names
    ]


def missing_outputs(contract: Signature, of: Signature) -> list[str]:
    """Return the required outputs of the signature `of` that `contract` does not have."""
    return [
        name
        for name, field in of.output_fields.items()
        if field.is_required and name not in contract.output_fields
    ]


def delegation_signature(
    signature: Signature, field: str, names: Sequence[str], *, desc: str
) -> Signature:
    """Return a signature whose outputs may be absent when the output `field` names a member.

    Checks of outputs are left out; the team enforces them.

    Raises:
        DefinitionError: the signature has a field of this name.
    """
    if field in signature.fields:
        raise DefinitionError(f"the field {field!r} is added by the team itself; rename yours")
    for name, output in signature.output_fields.items():
        type_ = output.type if output.type.is_optional else union(output.type, Type("none"))
        signature = signature.with_field(name, type_, default=None, check=None, suggest=None)
    labels = ", ".join(map(repr, names))
    type_text = f"Literal[{labels}] | none" if names else "none"
    return signature.insert(0, field, type_text, default=None, desc=desc)
