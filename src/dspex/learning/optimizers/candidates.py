"""Assignments of a space as rows of numbers, drawn and changed many at a time."""

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
class Pool:
    """Assignments, one a row, with a column for each variable that is searched; NaN where it is inactive.

    `places` say where in its distribution a variable stands (0 up to 1); `codes` are what a surrogate reads: the index
    of an option, or the place at which a number really lies.
    """

    places: "Array"
    codes: "Array"

    def __len__(self) -> int:
        return len(self.codes)

    def pick(self, rows: Any) -> "Pool":  # noqa: ANN401  # an index or a mask of NumPy
        """Return some of the rows."""
        return Pool(self.places[rows], self.codes[rows])

    def joined(self, other: "Pool") -> "Pool":
        """Return the rows of both."""
        np = numpy()
        return Pool(np.concatenate([self.places, other.places]), np.concatenate([self.codes, other.codes]))

    def keys(self) -> list[bytes]:
        """Return what tells one assignment from another."""
        np = numpy()
        return [row.tobytes() for row in np.nan_to_num(np.round(self.codes, DIGITS) + 0.0, nan=-1.0)]


class Candidates:
    """Draws assignments of a space, and changes them; seeded.

    Where there are no constraints and all conditions read options, whole columns are computed at once; else each
    assignment is made by itself, which takes some ten times as long.
    """

    def __init__(self, space: Space, *, seed: int = 0) -> None:
        """Take the space."""
        self._np = numpy()
        self._space = space
        self.names = [name for name in space.order if space[name].is_searchable]
        self._options = [options(space[name]) for name in self.names]
        self._indexes = [{_key(option): float(n) for n, option in enumerate(found)} for found in self._options]
        self._rng = self._np.random.default_rng([seed, 1])
        self._random = samples(space, seed=seed + 1)
        self._codings = [_coding(space[name]) for name in self.names]
        self._active: dict[tuple[int, int], bool] = {}
        self._is_regular = not space.constraints and all(
            self._options[self.names.index(other)] if other in self.names else False
            for name in self.names
            for other in self._read(name)
        )

    @property
    def is_number(self) -> list[bool]:
        """Which columns are no options."""
        return [not found for found in self._options]

    def of(self, points: Sequence[Mapping[str, Any]]) -> Pool:
        """Return the rows of assignments."""
        np, shape = self._np, (len(points), len(self.names))
        places = np.array([self._places(point) for point in points], dtype=float).reshape(shape)
        codes = places.copy()
        for column, known in enumerate(self._indexes):
            if known:
                name = self.names[column]
                codes[:, column] = [known[_key(point[name])] if name in point else math.nan for point in points]
        return Pool(places, codes)

    def index(self, name: str, option: Any) -> tuple[int, float]:  # noqa: ANN401
        """Return the column of a variable and the code of one of its options."""
        column = self.names.index(name)
        return column, self._indexes[column][_key(option)]

    def values(self, pool: Pool, row: int) -> Mapping[str, Any] | None:
        """Return the values of the active variables in a row; None where a constraint refuses them."""
        at = dict(zip(self.names, pool.places[row], strict=True))
        try:
            return assignment_at(self._space, lambda name: float(at[name]))
        except VariableError:
            return None

    def drawn(self, count: int) -> Pool:
        """Return random assignments, which may be equal."""
        if not self._is_regular:
            return self.of(list(islice(self._random, count)))
        return self._settled(self._rng.random((count, len(self.names))))

    def changed(self, parents: Pool, *, count: int, scale: float) -> Pool:
        """Return for each parent up to `count` with one or two values changed, numbers by about `scale`.

        What becomes active by it is drawn anew.
        """
        np, rng = self._np, self._rng
        rows = np.repeat(parents.places, count, axis=0)
        is_active = ~np.isnan(rows)
        drawn = np.where(is_active, rng.random(rows.shape), np.inf)
        many = np.where(rng.random(len(rows)) < 1 / 3, min(1, len(self.names) - 1), 0)
        limit = np.take_along_axis(np.sort(drawn, axis=1), many[:, None], axis=1)
        is_changed = is_active & (drawn <= limit)
        moved = np.clip(rows + scale * rng.standard_normal(rows.shape), 0.0, LAST)
        is_fresh = ~is_active | (is_changed & ~np.array(self.is_number))
        return self._settled(np.where(is_fresh, rng.random(rows.shape), np.where(is_changed, moved, rows)))

    def _settled(self, places: "Array") -> Pool:
        """Return the assignments at `places`, without those that a constraint refuses."""
        np = self._np
        if not self._is_regular:
            made = [self.values(Pool(places, places), row) for row in range(len(places))]
            return self.of([values for values in made if values is not None])
        codes = np.empty_like(places)
        for column, coding in enumerate(self._codings):
            codes[:, column] = coding(places[:, column])
            if self._read(self.names[column]):
                codes[np.logical_not(self._is_active(column, codes)), column] = math.nan
        return Pool(np.where(np.isnan(codes), math.nan, places), codes)

    def _is_active(self, column: int, codes: "Array") -> "Array":
        """Return which rows a variable is active in; each combination of the options that it reads is asked once."""
        np = self._np
        read = [self.names.index(name) for name in self._read(self.names[column])]
        combined = np.zeros(len(codes), dtype=int)
        for other in read:
            combined = combined * (len(self._options[other]) + 1) + np.nan_to_num(codes[:, other] + 1).astype(int)
        kinds, first, which = np.unique(combined, return_index=True, return_inverse=True)
        for kind, row in zip(kinds, first, strict=True):
            if (column, int(kind)) in self._active:
                continue
            said = {other: codes[row, other] for other in read if not math.isnan(codes[row, other])}
            values = {self.names[other]: self._options[other][int(code)] for other, code in said.items()}
            self._active[column, int(kind)] = self._space.is_active(self.names[column], values)
        found: Array = np.array([self._active[column, int(kind)] for kind in kinds])[which]
        return found

    def _read(self, name: str) -> Sequence[str]:
        when = self._space[name].when
        return () if when is None else sorted(when.variables())

    def _places(self, point: Mapping[str, Any]) -> list[float]:
        return [place_of(self._space[name], point[name]) if name in point else math.nan for name in self.names]


def _coding(variable: Variable) -> "Callable[[Array], Array]":
    """Return what makes codes of places."""
    np = numpy()
    if found := options(variable):
        reach = np.cumsum(variable.weights or (1.0,) * len(found))
        return lambda places: np.minimum(np.searchsorted(reach, places * reach[-1], side="right"), len(found) - 1)
    if variable.kind == "float" and variable.precision is None and variable.low != variable.high:
        return lambda places: places
    if variable.kind == "integer" and variable.prior is None and not variable.log and variable.low != variable.high:
        steps = int(((variable.high or 0.0) - (variable.low or 0.0)) // variable.step) + 1
        return lambda places: (np.minimum(np.floor(places * steps), steps - 1) + 0.5) / steps
    return lambda places: np.array([place_of(variable, value_at(variable, float(place))) for place in places])


def _key(value: object) -> str:
    return repr(value)
