"""A place of a module whose value may vary."""

from dataclasses import dataclass
from typing import Any

from dspex.language.variables import VariableKind


@dataclass(frozen=True, slots=True)
class Slot:
    """A place of a module whose value may vary: its kind, and its value if it was changed."""

    kind: VariableKind
    value: Any = None
