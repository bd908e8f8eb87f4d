"""What a variable that is bound from outside stands at until it is assigned."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from dspex.errors import VariableError
from dspex.language.variables import Variable


def standing_at(variable: Variable, settings: Sequence[Any]) -> Variable:
    """Return a variable with what its places are set to as its default, where they all are and agree on it.

    Where they are set to what the variable does not take, they stay so until it is assigned.
    """
    if not settings or variable.bindings or variable.compute is not None or settings[0] is None:
        return variable
    if any(value != settings[0] for value in settings):
        return variable
    try:
        return replace(variable, default=settings[0])
    except VariableError:
        return variable
