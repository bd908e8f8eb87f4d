"""Assignments of a space as rows of numbers, generated and mutated in bulk."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from dspex.errors import VariableError
from dspex.language.variables import Space, Variable, samples
from dspex.language.variables.sampling import assignment_at, options, place_of, value_at
from dspex.learning.optimizers.surrogate import numpy

if TYPE_CHECKING:
    from dspex.learning.optimizers.surrogate import Array

LAST = 1 - 1e-12
DIGITS = 9


@dataclass(frozen=True, slots=True)
class AssignmentTable:
    """One row per assignment, one column per searched variable; NaN if it is inactive.

    `places` are positions within each variable's distribution (0 to 1). `codes` are what a
    surrogate reads: the index of an option, or the position of the value that a number is rounded
    to.
    """

    places: "Array"
    codes: "Array"

    def __len__(self) -> int:
        return len(self.codes)

    def pick(self, rows: Any) -> "AssignmentTable":
        """Return some of the rows."""
        return AssignmentTable(self.places[rows], self.codes[rows])

    def concat(self, pool: "AssignmentTable") -> "AssignmentTable":
        """Return the rows of both."""
        np = numpy()
        return AssignmentTable(
            np.concatenate([self.places, pool.places]), np.concatenate([self.codes, pool.codes])
        )

    def keys(self) -> list[bytes]:
        """Return one key per row; equal assignments have equal keys."""
        np = numpy()
        return [
            row.tobytes() for row in np.nan_to_num(np.round(self.codes, DIGITS) + 0.0, nan=-1.0)
        ]


class AssignmentGenerator:
    """Draws random assignments of a space and mutates them; seeded.

    Without constraints, and with conditions on options only, whole columns are computed at once.
    Otherwise each assignment is built separately, which takes about ten times as long.
    """

    def __init__(self, space: Space, *, seed: int = 0) -> None:
        """Take the space."""
        self._np = numpy()
        self._space = space
        self.names = [name for name in space.order if space[name].is_searchable]
        self._options = [options(space[name]) for name in self.names]
        self._indexes = [
            {_key(option): float(n) for n, option in enumerate(choices)}
            for choices in self._options
        ]
        self._rng = self._np.random.default_rng([seed, 1])
        self._random = samples(space, seed=seed + 1)
        self._encoders = [_encoder(space[name]) for name in self.names]
        self._active: dict[tuple[int, int], bool] = {}
        self._is_regular = not space.constraints and all(
            self._options[self.names.index(condition_name)]
            if condition_name in self.names
            else False
            for name in self.names
            for condition_name in self._condition_names(name)
        )

    @property
    def is_number(self) -> list[bool]:
        """Which columns hold numbers rather than options."""
        return [not choices for choices in self._options]

    def encode(self, points: Sequence[Mapping[str, Any]]) -> AssignmentTable:
        """Return `points` as a table."""
        np, shape = self._np, (len(points), len(self.names))
        places = np.array([self._places(point) for point in points], dtype=float).reshape(shape)
        codes = places.copy()
        for column, indexes in enumerate(self._indexes):
            if indexes:
                name = self.names[column]
                codes[:, column] = [
                    indexes[_key(point[name])] if name in point else math.nan for point in points
                ]
        return AssignmentTable(places, codes)

    def index(self, name: str, option: Any) -> tuple[int, float]:
        """Return the column of a variable and the code of one of its options."""
        column = self.names.index(name)
        return column, self._indexes[column][_key(option)]

    def values(self, pool: AssignmentTable, row: int) -> Mapping[str, Any] | None:
        """Return the active variables' values in a row, or None if a constraint rejects them."""
        at = dict(zip(self.names, pool.places[row], strict=True))
        try:
            return assignment_at(self._space, lambda name: float(at[name]))
        except VariableError:
            return None

    def draw(self, count: int) -> AssignmentTable:
        """Return `count` random assignments, possibly with duplicates."""
        if not self._is_regular:
            return self.encode(list(islice(self._random, count)))
        return self._apply_conditions(self._rng.random((count, len(self.names))))

    def mutate(self, parents: AssignmentTable, *, count: int, scale: float) -> AssignmentTable:
        """Return up to `count` mutants of each parent: one or two values differ.

        Numbers move by about `scale`. Variables that the change activates are drawn at random.
        """
        np, rng = self._np, self._rng
        rows = np.repeat(parents.places, count, axis=0)
        is_active = ~np.isnan(rows)
        ranks = np.where(is_active, rng.random(rows.shape), np.inf)
        many = np.where(rng.random(len(rows)) < 1 / 3, min(1, len(self.names) - 1), 0)
        limit = np.take_along_axis(np.sort(ranks, axis=1), many[:, None], axis=1)
        is_changed = is_active & (ranks <= limit)
        shifted = np.clip(rows + scale * rng.standard_normal(rows.shape), 0.0, LAST)
        is_fresh = ~is_active | (is_changed & ~np.array(self.is_number))
        return self._apply_conditions(
            np.where(is_fresh, rng.random(rows.shape), np.where(is_changed, shifted, rows))
        )

    def _apply_conditions(self, places: "Array") -> AssignmentTable:
        """Return the assignments at `places`, leaving out any that a constraint rejects."""
        np = self._np
        if not self._is_regular:
            assignments = [
                self.values(AssignmentTable(places, places), row) for row in range(len(places))
            ]
            return self.encode([values for values in assignments if values is not None])
        codes = np.empty_like(places)
        for column, coding in enumerate(self._encoders):
            codes[:, column] = coding(places[:, column])
            if self._condition_names(self.names[column]):
                codes[np.logical_not(self._is_active(column, codes)), column] = math.nan
        return AssignmentTable(np.where(np.isnan(codes), math.nan, places), codes)

    def _is_active(self, column: int, codes: "Array") -> "Array":
        """Return the rows in which a variable is active.

        Each combination of parent options is evaluated once.
        """
        np = self._np
        parents = [self.names.index(name) for name in self._condition_names(self.names[column])]
        combined = np.zeros(len(codes), dtype=int)
        for parent in parents:
            combined = combined * (len(self._options[parent]) + 1) + np.nan_to_num(
                codes[:, parent] + 1
            ).astype(int)
        kinds, first, which = np.unique(combined, return_index=True, return_inverse=True)
        for kind, row in zip(kinds, first, strict=True):
            if (column, int(kind)) in self._active:
                continue
            parent_codes = {
                parent: codes[row, parent]
                for parent in parents
                if not math.isnan(codes[row, parent])
            }
            values = {
                self.names[parent]: self._options[parent][int(code)]
                for parent, code in parent_codes.items()
            }
            self._active[column, int(kind)] = self._space.is_active(self.names[column], values)
        is_active: Array = np.array([self._active[column, int(kind)] for kind in kinds])[which]
        return is_active

    def _condition_names(self, name: str) -> Sequence[str]:
        when = self._space[name].when
        return () if when is None else sorted(when.variables())

    def _places(self, point: Mapping[str, Any]) -> list[float]:
        return [
            place_of(self._space[name], point[name]) if name in point else math.nan
            for name in self.names
        ]


def _encoder(variable: Variable) -> "Callable[[Array], Array]":
    """Return the function from positions to codes for one variable."""
    np = numpy()
    if choices := options(variable):
        reach = np.cumsum(variable.weights or (1.0,) * len(choices))
        return lambda places: np.minimum(
            np.searchsorted(reach, places * reach[-1], side="right"), len(choices) - 1
        )
    if variable.kind == "float" and variable.precision is None and variable.low != variable.high:
        return lambda places: places
    if (
        variable.kind == "integer"
        and variable.prior is None
        and not variable.log
        and variable.low != variable.high
    ):
        steps = int(((variable.high or 0.0) - (variable.low or 0.0)) // variable.step) + 1
        return lambda places: (np.minimum(np.floor(places * steps), steps - 1) + 0.5) / steps
    return lambda places: np.array(
        [place_of(variable, value_at(variable, float(place))) for place in places]
    )


def _key(value: object) -> str:
    return repr(value)
