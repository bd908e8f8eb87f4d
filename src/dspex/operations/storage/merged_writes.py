"""Changes of many callers, merged where their order does not matter."""

from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from dspex.operations.framework.store import Insert, Update
from dspex.operations.storage.statements import Statements
from dspex.operations.storage.write_groups import Step, Write

# The key of the number of updates that one row represents. An increment has the key "+attribute",
# the value that a conditional update expects "=attribute".
COUNT = "#"

_Place = tuple[str, UUID]
_UNTOUCHED: Final = object()


@dataclass(frozen=True, slots=True)
class Shape:
    """What updates have in common that one statement makes: resource, attributes and states."""

    statements: Statements[Any]
    values: tuple[str, ...]
    increments: tuple[str, ...]
    expected: tuple[str, ...]
    statuses: tuple[str, ...]

    @property
    def is_repeatable(self) -> bool:
        """Whether a row that allows the update once allows it any number of times."""
        return not self.expected and not (self.statuses and "status" in self.values)


class MergedWrites:
    """Collects writes whose inserts and updates can be made in any order.

    A row that is changed twice in different ways, or inserted and changed, needs its order.
    Increments of a row are summed, so that a counter of many executions is written once, even if it
    may only change in some states.
    """

    def __init__(self) -> None:
        """Start without writes."""
        self.writes: list[Write] = []
        self.inserts: dict[Statements[Any], list[Any]] = {}
        self.updates: dict[Shape, dict[UUID, dict[str, Any]]] = {}
        self._touched: dict[_Place, Shape | None] = {}

    def try_add(self, steps: Write) -> bool:
        """Add a write if it is compatible with the group; return whether it was added.

        Otherwise add nothing.
        """
        planned: dict[_Place, Shape | None] = {}
        shapes = []
        for step in steps:
            try:
                place, shape = _place(step)
                before = (
                    planned[place] if place in planned else self._touched.get(place, _UNTOUCHED)
                )
            except TypeError:  # a value that cannot be hashed
                return False
            if before is not _UNTOUCHED and (
                shape is None or not shape.is_repeatable or before != shape
            ):
                return False
            planned[place] = shape
            shapes.append(shape)
        for step, shape in zip(steps, shapes, strict=True):
            self._take(step, shape)
        self._touched.update(planned)
        self.writes.append(steps)
        return True

    def _take(self, step: Step, shape: Shape | None) -> None:
        change = step.change
        if isinstance(change, Insert):
            self.inserts.setdefault(step.statements, []).append(change.entity)
            return
        shape = shape or _shape(step.statements, change)
        row = self.updates.setdefault(shape, {}).setdefault(change.id, {"id": change.id, COUNT: 0})
        row |= change.values
        row[COUNT] += 1
        row |= {"=" + name: value for name, value in change.expected.items()}
        for name, number in change.increments.items():
            row["+" + name] = row.get("+" + name, 0) + number


def _place(step: Step) -> tuple[_Place, Shape | None]:
    change = step.change
    if isinstance(change, Insert):
        return (step.statements.table, change.entity.id), None
    return (step.statements.table, change.id), _shape(step.statements, change)


def _shape(statements: Statements[Any], change: Update) -> Shape:
    return Shape(
        statements,
        tuple(change.values),
        tuple(change.increments),
        tuple(change.expected),
        change.statuses,
    )
