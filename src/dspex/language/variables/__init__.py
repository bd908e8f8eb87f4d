"""Variables of a program as data: variables, their space, and assignments of values."""

from dspex.language.variables.constraint import Constraint
from dspex.language.variables.expression import Expression, var
from dspex.language.variables.kinds import (
    Boolean,
    Choice,
    Composite,
    Examples,
    Float,
    Integer,
    Text,
)
from dspex.language.variables.sampling import samples
from dspex.language.variables.space import Assignment, Space
from dspex.language.variables.variable import Variable, VariableKind

__all__ = [
    "Assignment",
    "Boolean",
    "Choice",
    "Composite",
    "Constraint",
    "Examples",
    "Expression",
    "Float",
    "Integer",
    "Space",
    "Text",
    "Variable",
    "VariableKind",
    "samples",
    "var",
]
