"""How far a figure may be off for having been measured on few rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import variance

from dspex.learning.optimizers.limits import figure_of
from dspex.learning.optimizers.proposer import Trial
from dspex.learning.optimizers.sampler import Measured

TIMES = 0.2
LEAST = 1e-6


@dataclass(slots=True)
class _Seen:
    trial: Trial
    rows: dict[str, list[float]]


class Pooled:
    """The latest trial of each candidate; the variance between rows is estimated from all of them together.

    One candidate on few rows says little of it: all of them right does not mean that the next one will be.
    """

    def __init__(self, objectives: Sequence[str]) -> None:
        """Take the figures, with a leading minus where less is better."""
        self.objectives = tuple(objectives)
        self._seen: dict[int, _Seen] = {}

    def add(self, number: int, trial: Trial) -> None:
        """Take note of a trial, unless an earlier one of the same candidate was on more rows."""
        known = self._seen.get(number)
        if known is not None and known.trial.report.scored > trial.report.scored:
            return
        rows = {name: _per_row(trial, name) for name in map(_bare, self.objectives)}
        self._seen[number] = _Seen(trial, rows)

    def measured(self) -> dict[int, list[Measured] | None]:
        """Return the figures of each candidate with their variances; None where none of its rows could be scored."""
        between = [self._between_rows(_bare(name)) for name in self.objectives]
        found: dict[int, list[Measured] | None] = {}
        for number, seen in self._seen.items():
            values = [figure_of(seen.trial.figures, name) for name in self.objectives]
            count = max(1, seen.trial.report.scored)
            found[number] = (
                None
                if seen.trial.score is None
                else [
                    Measured(value, (TIMES * value) ** 2 if spread is None else max(LEAST * value**2, spread / count))
                    for value, spread in zip(values, between, strict=True)
                ]
            )
        return found

    def _between_rows(self, name: str) -> float | None:
        """Return the variance of a figure between rows; None where rows have no such figure, as with quantiles."""
        many = [seen.rows[name] for seen in self._seen.values() if len(seen.rows[name]) > 1]
        if not many:
            return None
        return sum(variance(rows) * (len(rows) - 1) for rows in many) / sum(len(rows) - 1 for rows in many)


def _bare(name: str) -> str:
    return name.removeprefix("-")


def _per_row(trial: Trial, name: str) -> list[float]:
    """Return a figure of each scored row. Times are left out: they are not the same when a search is resumed."""
    scored = [row for row in trial.report.rows if row.score is not None]
    if name == "usd":
        found = [row.usage.cost_usd for row in scored]
    elif name == "tokens":
        found = [float(row.usage.total_tokens) for row in scored]
    else:
        found = [row.scores.get(name) for row in scored]
    return [value for value in found if value is not None]
