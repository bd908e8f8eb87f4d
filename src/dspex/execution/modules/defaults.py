"""What variables stand at: before they are assigned, and beside their places afterwards."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from dspex.errors import VariableError
from dspex.language.variables import Assignment, Space, Variable


def with_current_default(variable: Variable, settings: Sequence[Any]) -> Variable:
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


def values_beside_slots(space: Space, assigned: Assignment) -> dict[str, Any]:
    """Return which values have to be remembered beside the places: an inactive variable has not set its place."""
    active = space.complete(assigned)
    return {name: value for name, value in assigned.items() if name not in active or not is_stored_in_slot(space[name])}


def is_stored_in_slot(variable: Variable) -> bool:
    """Whether the place itself keeps the value, so that nothing else has to remember it."""
    return variable.paths == (variable.name,) and variable.kind in {"text", "examples"} and not variable.options
