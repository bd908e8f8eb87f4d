"""Variables: what an optimizer may change in a program, declared where it is used.

A variable stands in the place of a value (`Predict(..., temperature=Float(0, 1))`), or is bound to
a path of a whole program. A `Space` holds the variables of a program with their constraints.
"""

from dspex.execution.modules.strategies import strategies
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
from dspex.language.variables.presets import (
    demonstration_count,
    model_settings,
    reply_room,
    retriever_k,
    strategy,
)
from dspex.language.variables.sampling import samples
from dspex.language.variables.space import Assignment, Space
from dspex.language.variables.variable import Variable

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
    "demonstration_count",
    "model_settings",
    "reply_room",
    "retriever_k",
    "samples",
    "strategies",
    "strategy",
    "var",
]
