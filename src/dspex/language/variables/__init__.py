"""What may be varied in a program, as data: variables, the space of them, and an assignment of values."""

from dspex.language.variables.space import Assignment, Space
from dspex.language.variables.variable import Variable, VariableKind

__all__ = ["Assignment", "Space", "Variable", "VariableKind"]
