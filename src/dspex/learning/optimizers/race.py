"""Races: a trial stops as soon as it cannot win any more."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace

import msgspec

from dspex.errors import DefinitionError
from dspex.learning.evaluation import Dataset
from dspex.learning.optimizers.goal import Goal
from dspex.learning.optimizers.limits import values_of
from dspex.learning.optimizers.runner import Run
from dspex.learning.statistics import BoundedMeanTest

ALPHA = 0.2  # the probability that a better candidate is stopped; such are only slightly better
_PARTS = 8
_SMALLEST = 4  # rows between two looks


class Race:
    """Runs one candidate against the best score so far, part by part.

    The rows are drawn in random order, the same for every candidate of a search. After each part, a
    sequential test for draws without replacement tells whether the mean of all rows can still reach
    the best score: at the latest when the remaining rows could not make up for it.
    """

    def __init__(self, goal: Goal, *, best: float, rows: Dataset, seed: int) -> None:
        """Take the score to beat, and the rows of the candidate."""
        self._goal = goal
        self._rows = rows
        self._order = list(range(len(rows)))
        random.Random(f"{seed}/race").shuffle(self._order)
        self._test = (
            BoundedMeanTest(best, alpha=ALPHA, side="below", population=len(rows))
            if 0 < best < 1
            else None
        )
        self._runs: list[Run] = []
        self._count = 0

    def parts(self) -> Iterator[Dataset]:
        """Yield rows to run next, until there are no more or the race is lost; `add` each run."""
        size = max(_SMALLEST, -(-len(self._rows) // _PARTS))
        while self._count < len(self._rows) and not self.is_lost:
            places = self._order[self._count : self._count + size]
            self._count += len(places)
            yield self._rows.pick(places)

    def add(self, run: Run) -> None:
        """Take the run of the last part."""
        self._runs.append(run)
        if self._test is None:
            return
        failure = self._goal.worst([run.report], self._goal.figure)
        scores = values_of(run.report, self._goal.figure, failure)
        if not all(0 <= score <= 1 for score in scores.values()):
            self._test = None  # the bounds do not hold, so nothing can be excluded
            return
        for score in scores.values():
            self._test.add(score)

    @property
    def is_lost(self) -> bool:
        """Whether the candidate was stopped."""
        is_beaten = self._test is not None and self._test.is_refuted
        return is_beaten and self._count < len(self._rows)

    @property
    def progress(self) -> str:
        """How many of the rows were run, in words."""
        return f"{self._count} of {len(self._rows)} rows"

    def result(self) -> Run:
        """Return all parts as one run, in the order of the rows."""
        return _join(self._runs, self._order[: self._count], self._rows)


def _join(runs: Sequence[Run], places: Sequence[int], rows: Dataset) -> Run:
    picked = rows.pick(sorted(places))
    ranks = {place: rank for rank, place in enumerate(sorted(places))}
    results = [row for run in runs for row in run.report.rows]
    calls = [calls for run in runs for calls in run.calls]
    order = sorted(range(len(places)), key=lambda number: places[number])
    report = replace(
        runs[0].report,
        rows=tuple(msgspec.structs.replace(results[n], index=ranks[places[n]]) for n in order),
        dataset=picked.name,
        checksum=picked.checksum,
        seconds=sum(run.report.seconds for run in runs),
    )
    return Run(report, [calls[n] for n in order] if calls else ())


def check_race(goal: Goal) -> None:
    """Check that trials can be raced: the objective is a metric, and there are no limits.

    Raises:
        DefinitionError: a trial that scores less might still win.
    """
    if goal.limits or goal.objective not in goal.metrics:
        what = f"the limit {goal.limits[0]}" if goal.limits else f"the objective {goal.objective!r}"
        raise DefinitionError(
            f"race=True compares scores of one metric, and with {what} a trial with a lower score "
            "may win; race without it, or set race=False"
        )
