"""Scores pooled over all trials of a candidate, with their variance."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, variance
from typing import TYPE_CHECKING

from dspex.learning.optimizers.limits import figure_of, values_of, worst_of
from dspex.learning.optimizers.proposer import Trial
from dspex.learning.optimizers.sampler import Measurement
from dspex.learning.optimizers.surrogate import Surrogate, numpy

if TYPE_CHECKING:
    from dspex.learning.optimizers.surrogate import Array

TIMES = 0.2
LEAST = 1e-6


@dataclass(slots=True)
class _CandidateScores:
    """One candidate: its latest figures, and the values of each row that it was scored on.

    The mean and the sum of squares are kept too, because they are read after each trial of any
    candidate.
    """

    figures: Mapping[str, float] = field(default_factory=dict)
    rows: dict[str, dict[str, float]] = field(default_factory=dict)
    means: dict[str, float] = field(default_factory=dict)
    squares: dict[str, float] = field(default_factory=dict)
    is_scored: bool = False


class PooledScores:
    """Pools all trials of a candidate, and the variance between rows over all candidates.

    A single candidate on few rows tells little about that variance: all rows right does not mean
    that the next is.
    """

    def __init__(self, objectives: Sequence[str]) -> None:
        """Take the figures; a leading minus means that less is better."""
        self.objectives = tuple(objectives)
        self._candidates: dict[int, _CandidateScores] = {}

    def add(self, number: int, trial: Trial) -> None:
        """Add a trial; a row that was scored before counts once."""
        record = self._candidates.setdefault(number, _CandidateScores())
        record.figures, record.is_scored = (
            trial.figures,
            record.is_scored or trial.score is not None,
        )
        for objective in self.objectives:
            name = _bare(objective)
            rows = record.rows.setdefault(name, {})
            rows.update(_per_row(trial, name, is_less_better=objective != name))
            if rows:
                record.means[name] = fmean(rows.values())
            if len(rows) > 1:
                record.squares[name] = variance(rows.values()) * (len(rows) - 1)

    def measurements(self) -> dict[int, list[Measurement] | None]:
        """Return figures and variances by candidate; None if none of its rows was scored."""
        between = {name: self._between_rows(_bare(name)) for name in self.objectives}
        return {
            number: [_measurement(record, name, between[name]) for name in self.objectives]
            if record.is_scored
            else None
            for number, record in self._candidates.items()
        }

    def _between_rows(self, name: str) -> float | None:
        """Return the variance of a figure between rows; None if single rows lack it.

        Quantiles, for example, exist only for many rows.
        """
        many = [record for record in self._candidates.values() if name in record.squares]
        if not many:
            return None
        return sum(record.squares[name] for record in many) / sum(
            len(record.rows[name]) - 1 for record in many
        )


def _bare(name: str) -> str:
    return name.removeprefix("-")


def _measurement(record: _CandidateScores, name: str, between: float | None) -> Measurement:
    rows = record.rows[_bare(name)]
    if not rows or between is None:
        value = figure_of(record.figures, name)
        return Measurement(value, (TIMES * value) ** 2)
    value = record.means[_bare(name)]
    return Measurement(
        -value if name.startswith("-") else value, max(LEAST * value**2, between / len(rows))
    )


def _per_row(trial: Trial, name: str, *, is_less_better: bool) -> dict[str, float]:
    """Return one figure per row, the worst for a failed row; empty if no row could be scored.

    Times are left out, because they differ when a search is resumed.
    """
    report = trial.report
    if not report.scored or name in {"p50", "p95"}:
        return {}
    worst = worst_of([report], name, is_less_better=is_less_better, on_error=trial.on_error)
    values = values_of(report, name, None if math.isnan(worst) else worst)
    return {repr(row.example): values[row.index] for row in report.rows if row.index in values}


class OptionScores:
    """Expected scores of combinations of options, given the trials of all combinations.

    The fewer trials a combination has, the more its expected score follows combinations that share
    its options.
    """

    def __init__(self, names: Sequence[str], metric: str, *, seed: int = 0) -> None:
        """Take the choices by name."""
        self._names = list(names)
        self._scores = PooledScores((metric,))
        self._numbers: dict[tuple[tuple[str, int], ...], int] = {}
        self._surrogate = Surrogate([False] * len(self._names), seed=seed)
        self._metric = metric

    def add(self, key: tuple[tuple[str, int], ...], trial: Trial) -> None:
        """Add a trial of the combination `key`."""
        self._scores.add(self._numbers.setdefault(key, len(self._numbers)), trial)

    def expected(self, keys: Sequence[tuple[tuple[str, int], ...]]) -> list[float]:
        """Return the expected score of each combination; 0 while nothing was scored."""
        np = numpy()
        figures = self._scores.measurements()
        measurements = [
            (key, objectives[0])
            for key, number in self._numbers.items()
            if (objectives := figures.get(number))
        ]
        if not measurements:
            return [0.0] * len(keys)
        values = np.array([measurements.value for _, measurements in measurements])
        noise = np.array([measurements.variance for _, measurements in measurements])
        self._surrogate.fit(self._encode([key for key, _ in measurements]), values, noise)
        return [float(value) for value in self._surrogate.predict(self._encode(keys))[0]]

    def _encode(self, keys: Sequence[tuple[tuple[str, int], ...]]) -> "Array":
        codes: Array = numpy().array(
            [[float(dict(key)[name]) for name in self._names] for key in keys]
        )
        return codes.reshape(len(keys), len(self._names))
