"""The shared state of a blackboard: typed values with versions."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from dspex.error_text import suggest
from dspex.errors import DefinitionError, InputError
from dspex.language.signatures import Field, Signature, Type
from dspex.language.signatures.string_form import type_text
from dspex.language.signatures.types import union


class Board:
    """Typed values by name, each with the number of its changes; owned by one run.

    A write names the versions of the values that it rests on, and is refused if one of them has
    changed since: compare and set. Equal values do not count as a change.
    """

    def __init__(self, fields: Mapping[str, Field]) -> None:
        """Take the fields, as outputs; they have no values yet."""
        self._signatures = {
            name: Signature.from_fields("Board", [field]) for name, field in fields.items()
        }
        self._values: dict[str, Any] = {}
        self._versions = dict.fromkeys(fields, 0)

    def read(self, names: Iterable[str]) -> tuple[dict[str, Any], dict[str, int]]:
        """Return those of the values that are set, and the versions of all.

        Raises:
            InputError: there is no such field.
        """
        versions = {name: self._version(name) for name in names}
        return {name: self._values[name] for name in versions if name in self._values}, versions

    def compare_and_set(self, basis: Mapping[str, int], values: Mapping[str, Any]) -> bool:
        """Write all of the values, or none if a version of `basis` is not the current one.

        Raises:
            InputError: a value does not fit its field; nothing was written.
        """
        if any(self._version(name) != version for name, version in basis.items()):
            return False
        checked = {name: self._check(name, value) for name, value in values.items()}
        for name, value in checked.items():
            if name not in self._values or self._values[name] != value:
                self._values[name] = value
                self._versions[name] += 1
        return True

    def _version(self, name: str) -> int:
        if name not in self._versions:
            raise InputError(
                f"the board has no field {name!r}.{suggest(name, self._versions)} Fields are: "
                f"{', '.join(self._versions)}"
            )
        return self._versions[name]

    def _check(self, name: str, value: Any) -> Any:
        self._version(name)
        return self._signatures[name].validate_outputs({name: value})[name]


def board_fields(signatures: Iterable[Signature]) -> dict[str, Field]:
    """Return the fields of a board for these signatures; inputs and outputs share their names.

    Raises:
        DefinitionError: two signatures have different types for one name.
    """
    fields: dict[str, Field] = {}
    for signature in signatures:
        for name, field in signature.fields.items():
            state = Field(name=name, type=field.type, role="output", desc=field.desc)
            earlier = fields.setdefault(name, state)
            if _without_none(earlier.type) != _without_none(field.type):
                raise DefinitionError(
                    f"{name!r} has two types on the board, {type_text(earlier.type)} and "
                    f"{type_text(field.type)}: give all members the same"
                )
            if field.type.is_optional:
                fields[name] = replace(earlier, type=field.type)
    return fields


def _without_none(type_: Type) -> Type:
    parts = [part for part in type_.args if part.kind != "none"]
    return union(*parts) if type_.kind == "union" and parts else type_
