"""The variables of a module tree: their space, their values, and the slots that they set."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from dspex.errors import DefinitionError, VariableError
from dspex.execution.modules.defaults import with_current_default
from dspex.execution.modules.slot import Slot, SlotHolder
from dspex.language.programs import ModulePath
from dspex.language.variables import Constraint, Space, Variable
from dspex.language.variables.conditions import check_conditions

Part = tuple[ModulePath, SlotHolder]


class VariableTree:
    """The slots of all modules of a tree, by place. Valid as long as the tree is not changed."""

    def __init__(self, parts: Iterable[Part]) -> None:
        """Take the modules of the tree with their paths."""
        self._parts = list(parts)

    def space(
        self, additions: Sequence[Variable | Constraint] = (), *, order: tuple[str, ...] = ()
    ) -> Space:
        """Return the space of the variables that are declared inline, added, or free slots.

        Args:
            additions: variables and constraints; the variables replace inline ones of their places.
            order: the names in the order of a stored program, which keeps its content hash.
        """
        bound = [item for item in additions if isinstance(item, Variable)]
        bound_places = {place for variable in bound for place in variable.paths}
        declared = [
            variable
            for path, part in self._parts
            for variable in part.own_variables(path)
            if not set(variable.paths) <= bound_places
        ]
        variables = [*declared, *bound]
        places = {place for variable in variables for place in variable.paths}
        free = [
            Variable(name=place, kind=slot.kind, paths=(place,))
            for place, slot in self._slots()
            if place not in places
        ]
        items = [*free, *variables]
        constraints = [item for item in additions if isinstance(item, Constraint)]
        if not order:  # conditions that an earlier version stored are not checked
            check_conditions({variable.name: variable for variable in items}, constraints)
        for path, part in self._parts:
            items = [part.with_condition(path, variable) for variable in items]
        return Space.derived(items, constraints, order=order)

    def values(self) -> dict[str, Any]:
        """Return the changed values of slots, by place."""
        return {place: slot.value for place, slot in self._slots() if slot.value is not None}

    def resolve(self, variable: Variable) -> Variable:
        """Return an added variable with its places and its current default.

        Raises:
            DefinitionError: a place does not exist, or takes no variable.
            VariableError: a place does not accept a value of the variable.
        """
        if not variable.paths and self._owner(variable.name) is not None:
            variable = replace(variable, paths=(variable.name,))
        settings = []
        for place in variable.paths:
            part, slot = self._find(place)
            if not part.takes(slot):
                raise DefinitionError(
                    f"{type(part).__name__} takes no variable in the slot {slot!r} of {place!r}"
                )
            part.check_variable(variable, place, slot)
            settings.append(part.setting(slot))
        return with_current_default(variable, settings)

    def bind(self, place: str, value: Any) -> None:
        """Set the slot at `place`.

        Raises:
            VariableError: the slot does not accept the value.
            DefinitionError: the place does not exist.
        """
        part, slot = self._find(place)
        if expected := part.unfit(slot, value):
            raise VariableError(f"{place!r} takes {expected}")
        part.bind(slot, value)

    def _slots(self) -> list[tuple[str, Slot]]:
        return [
            (path.place(name), slot)
            for path, part in self._parts
            for name, slot in part.slots().items()
        ]

    def _owner(self, place: str) -> Part | None:
        """Return the innermost module that contains `place`."""
        owners = [item for item in self._parts if item[0].contains(place)]
        return max(owners, key=lambda item: len(str(item[0])), default=None)

    def _find(self, place: str) -> tuple[SlotHolder, str]:
        owner = self._owner(place)
        if owner is None:
            paths = ", ".join(str(path) for path, _ in self._parts)
            raise DefinitionError(f"the program has nothing at {place!r}; it has: {paths}")
        path, part = owner
        return part, path.slot_of(place)
