"""Defaults of variables from their slots, and assigned values that no slot stores."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from dspex.errors import VariableError
from dspex.language.variables import Assignment, Space, Variable


def with_current_default(variable: Variable, settings: Sequence[Any]) -> Variable:
    """Return a variable whose default is the current value of its places, if they agree.

    If the variable does not accept that value, the places keep it until the variable is assigned.
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
    """Return the values that no slot stores, such as those of inactive variables."""
    active = space.complete(assigned)
    return {
        name: value
        for name, value in assigned.items()
        if name not in active or not is_stored_in_slot(space[name])
    }


def is_stored_in_slot(variable: Variable) -> bool:
    """Return whether the slot of the variable stores its value."""
    return (
        variable.paths == (variable.name,)
        and variable.kind in {"text", "examples"}
        and not variable.options
    )
