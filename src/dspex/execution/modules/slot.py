"""The places of a module whose values may vary."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dspex.errors import DefinitionError, VariableError
from dspex.language.programs import ModulePath
from dspex.language.variables import Variable, VariableKind


@dataclass(frozen=True, slots=True)
class Slot:
    """A place of a module whose value may vary: its kind, and its value if it was changed."""

    kind: VariableKind
    value: Any = None


class SlotHolder:
    """The slots of one module, without its parts.

    By default they are its settings: `config.k` for each public attribute `k` that holds a text, a
    number or a boolean.
    """

    def slots(self) -> Mapping[str, Slot]:
        """Return the slots that are variables without being declared, such as instructions."""
        return {}

    def own_variables(self, path: ModulePath) -> Sequence[Variable]:
        """Return the variables declared inline in this module, which is at `path`."""
        del path
        return ()

    def with_condition(self, path: ModulePath, variable: Variable) -> Variable:
        """Return a descendant's variable with the condition of this module, which is at `path`."""
        del path
        return variable

    def takes(self, slot: str) -> bool:
        """Return whether `bind` accepts this slot: one of `slots`, or a setting."""
        return slot in self.slots() or self._setting_attribute(slot) is not None

    def setting(self, slot: str) -> Any:
        """Return the value of a slot that `bind` accepts; None if unset or not a plain value."""
        name = self._setting_attribute(slot)
        return None if name is None else vars(self)[name]

    def unfit(self, slot: str, value: object) -> str:
        """Return what `slot` accepts instead of `value`, or an empty text if the value fits."""
        name = self._setting_attribute(slot)
        if name is None:
            return ""
        setting = vars(self)[name]
        kind = type(setting)
        fits = type(value) is kind or (kind is float and type(value) is int)
        return "" if fits else f"a value like {setting!r}: {kind.__name__}, not {value!r}"

    def bind(self, slot: str, value: Any) -> None:
        """Set one slot; only for modules under construction, never for running ones.

        Raises:
            DefinitionError: the slot does not exist.
        """
        if (name := self._setting_attribute(slot)) is not None:
            setattr(self, name, value)
            return
        slots = ", ".join(self.slots()) or "none"
        raise DefinitionError(f"{type(self).__name__} has no slot {slot!r}; its slots are: {slots}")

    def check_variable(self, variable: Variable, place: str, slot: str) -> None:
        """Raise if a variable has a value that `slot`, at `place`, does not accept.

        Raises:
            VariableError: the message names the variable, the place and the value.
        """
        for value in variable.sample_values(place):
            if expected := self.unfit(slot, value):
                raise VariableError(
                    f"variable {variable.name or place!r}: {place!r} takes {expected}"
                )

    def _setting_attribute(self, slot: str) -> str | None:
        """Return the attribute behind a slot such as `config.k`, or None."""
        prefix, _, name = slot.partition(".")
        is_setting = (
            isinstance(vars(self).get(name), str | int | float)
            and name != "signature"
            and name[0] != "_"
        )
        return name if prefix == "config" and is_setting else None
