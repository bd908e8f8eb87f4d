"""A place of a module whose value may vary."""

from dataclasses import dataclass
from typing import Any

from dspex.language.variables import VariableKind


@dataclass(frozen=True, slots=True)
class Slot:
    """A place of a module whose value may vary: its kind, and the value where it is not the declared one."""

    kind: VariableKind
    value: Any = None
