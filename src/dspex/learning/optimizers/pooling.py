"""How far a figure may be off for having been measured on few rows."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, variance
from typing import TYPE_CHECKING

from dspex.learning.optimizers.limits import figure_of, values_of, worst_of
from dspex.learning.optimizers.proposer import Trial
from dspex.learning.optimizers.sampler import Measured
from dspex.learning.optimizers.surrogate import Surrogate, numpy

if TYPE_CHECKING:
    from dspex.learning.optimizers.surrogate import Array

TIMES = 0.2
LEAST = 1e-6


@dataclass(slots=True)
class _Seen:
    """One candidate: its figures when it was seen last, and by figure the value of each row that it was scored on.

    Of these, the mean and the sum of squares about it are kept too: they are asked for after each trial of any other.
    """

    figures: Mapping[str, float] = field(default_factory=dict)
    rows: dict[str, dict[str, float]] = field(default_factory=dict)
    means: dict[str, float] = field(default_factory=dict)
    squares: dict[str, float] = field(default_factory=dict)
    is_scored: bool = False


class Pooled:
    """All trials of each candidate together; the variance between rows is estimated from all candidates.

    One candidate on few rows says little of it: all of them right does not mean that the next one will be.
    """

    def __init__(self, objectives: Sequence[str]) -> None:
        """Take the figures, with a leading minus where less is better."""
        self.objectives = tuple(objectives)
        self._seen: dict[int, _Seen] = {}

    def add(self, number: int, trial: Trial) -> None:
        """Take note of a trial; a row that was scored before counts once."""
        seen = self._seen.setdefault(number, _Seen())
        seen.figures, seen.is_scored = trial.figures, seen.is_scored or trial.score is not None
        for objective in self.objectives:
            name = _bare(objective)
            rows = seen.rows.setdefault(name, {})
            rows.update(_per_row(trial, name, is_less_better=objective != name))
            if rows:
                seen.means[name] = fmean(rows.values())
            if len(rows) > 1:
                seen.squares[name] = variance(rows.values()) * (len(rows) - 1)

    def measured(self) -> dict[int, list[Measured] | None]:
        """Return the figures of each candidate with their variances; None where none of its rows could be scored."""
        between = {name: self._between_rows(_bare(name)) for name in self.objectives}
        return {
            number: [_measured(seen, name, between[name]) for name in self.objectives] if seen.is_scored else None
            for number, seen in self._seen.items()
        }

    def _between_rows(self, name: str) -> float | None:
        """Return the variance of a figure between rows; None where rows have no such figure, as with quantiles."""
        many = [seen for seen in self._seen.values() if name in seen.squares]
        if not many:
            return None
        return sum(seen.squares[name] for seen in many) / sum(len(seen.rows[name]) - 1 for seen in many)


def _bare(name: str) -> str:
    return name.removeprefix("-")


def _measured(seen: _Seen, name: str, between: float | None) -> Measured:
    rows = seen.rows[_bare(name)]
    if not rows or between is None:
        value = figure_of(seen.figures, name)
        return Measured(value, (TIMES * value) ** 2)
    value = seen.means[_bare(name)]
    return Measured(-value if name.startswith("-") else value, max(LEAST * value**2, between / len(rows)))


def _per_row(trial: Trial, name: str, *, is_less_better: bool) -> dict[str, float]:
    """Return a figure of each row, of a failed one the worst, once any row could be scored.

    Times are left out: they are not the same when a search is resumed.
    """
    report = trial.report
    if not report.scored or name in {"p50", "p95"}:
        return {}
    worst = worst_of([report], name, is_less_better=is_less_better, on_error=trial.on_error)
    values = values_of(report, name, None if math.isnan(worst) else worst)
    return {repr(row.example): values[row.index] for row in report.rows if row.index in values}


class Beliefs:
    """What combinations of options probably score, from the trials of all of them together.

    A combination is expected to do like those that it shares options with, the more so the less it was tried itself.
    """

    def __init__(self, names: Sequence[str], metric: str, *, seed: int = 0) -> None:
        """Take the choices by name."""
        self._names = list(names)
        self._pooled = Pooled((metric,))
        self._numbers: dict[tuple[tuple[str, int], ...], int] = {}
        self._surrogate = Surrogate([False] * len(self._names), seed=seed)
        self._metric = metric

    def add(self, key: tuple[tuple[str, int], ...], trial: Trial) -> None:
        """Take note of a trial of the combination `key`."""
        self._pooled.add(self._numbers.setdefault(key, len(self._numbers)), trial)

    def expected(self, keys: Sequence[tuple[tuple[str, int], ...]]) -> list[float]:
        """Return the expected score of each combination; 0 before anything could be scored."""
        np = numpy()
        found = self._pooled.measured()
        known = [(key, one[0]) for key, number in self._numbers.items() if (one := found.get(number))]
        if not known:
            return [0.0] * len(keys)
        values = np.array([measured.value for _, measured in known])
        noise = np.array([measured.variance for _, measured in known])
        self._surrogate.fit(self._coded([key for key, _ in known]), values, noise)
        return [float(value) for value in self._surrogate.predict(self._coded(keys))[0]]

    def _coded(self, keys: Sequence[tuple[tuple[str, int], ...]]) -> "Array":
        made: Array = numpy().array([[float(dict(key)[name]) for name in self._names] for key in keys])
        return made.reshape(len(keys), len(self._names))
