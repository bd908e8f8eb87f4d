"""The verdict on a winner from held-out rows: better in the objective, within the limits?"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from dspex.error_text import quantity
from dspex.learning.evaluation import Comparison, Report
from dspex.learning.evaluation.comparison import compare_values
from dspex.learning.optimizers.goal import Goal
from dspex.learning.optimizers.limits import Limit, figure_of, values_of
from dspex.learning.statistics import mean_interval
from dspex.notebook import lazy_html


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """One limit on the held-out rows: its figure before and after, and their comparison.

    There is no comparison if too few rows have the figure.
    """

    limit: Limit
    before: float
    after: float
    comparison: Comparison | None = None

    @property
    def was_kept(self) -> bool:
        """Whether the original program is within the limit."""
        return self.limit.holds({self.limit.figure: self.before})

    @property
    def is_kept(self) -> bool:
        """Whether the winner is within the limit."""
        return self.limit.holds({self.limit.figure: self.after})

    @property
    def is_gained(self) -> bool:
        """Whether the winner meets a limit that the original misses, significantly."""
        return (
            self.is_kept
            and not self.was_kept
            and self.comparison is not None
            and self.comparison.is_better
        )

    def __str__(self) -> str:
        return (
            f"{self.limit} {'kept' if self.is_kept else 'missed'} ({_number(self.before)} -> "
            f"{_number(self.after)})"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The original program, the winner, and their paired comparison on the held-out rows.

    `comparison` is of the objective; a positive difference favours the winner. A failed row counts
    as the worst:
    `failures` holds that value for each metric. `limits` are the search's limits on these rows,
    `figures` the objective before and after, and `unmet` the limits that no candidate met in the
    search.
    """

    before: Report
    after: Report
    comparison: Comparison
    objective: str = ""
    limits: tuple[Checked, ...] = ()
    figures: tuple[float, float] | None = None
    failures: Mapping[str, float] = field(default_factory=dict)
    unmet: tuple[str, ...] = ()

    @property
    def is_better(self) -> bool:
        """Whether the winner is significantly better.

        It meets all limits and is better in the objective by interval and paired test. If the
        original program misses limits, the winner has to be better in their figures instead.
        """
        if self.unmet or not all(checked.is_kept for checked in self.limits):
            return False
        missed = [checked for checked in self.limits if not checked.was_kept]
        return all(checked.is_gained for checked in missed) if missed else self.comparison.is_better

    @property
    def because(self) -> str:
        """The reason in a few words."""
        if self.unmet:
            return f"missed: {', '.join(self.unmet)}"
        if broken := [checked for checked in self.limits if not checked.is_kept]:
            return f"{broken[0].limit} does not hold on the held-out rows"
        missed = [checked for checked in self.limits if not checked.was_kept]
        if lost := [checked for checked in missed if not checked.is_gained]:
            how = f": {lost[0].comparison.because}" if lost[0].comparison is not None else ""
            return f"meeting {lost[0].limit} now may be chance{how}"
        if missed:
            return f"it meets {missed[0].limit}, unlike the original program: {_gain(missed[0])}"
        return self.comparison.because

    def to_dict(self) -> dict[str, Any]:
        """Return the verdict with the figures of its comparison as JSON-ready data."""
        return {
            "verdict": str(self),
            "is_better": self.is_better,
            "objective": self.objective or self.before.metrics[0],
            "limits": [str(checked) for checked in self.limits],
            "failed": [self.before.failed, self.after.failed],
            **self.comparison.to_dict(),
        }

    _repr_html_ = lazy_html("dspex.learning.optimizers.representation:verdict_html")

    def __str__(self) -> str:
        conclusion = "significantly better" if self.is_better else "no significant improvement"
        conclusion = "no program within the limits, compared" if self.unmet else conclusion
        name = self.objective or self.before.metrics[0]
        return (
            f"{conclusion} on {len(self.before.rows)} held-out rows ({self.because}): "
            f"{self._means()}; difference in {name} {self.comparison}{self._conditions}"
        )

    @property
    def reason(self) -> str:
        """The reason with the test behind it, the limits, and the failed rows."""
        test = str(self.comparison).partition(", p = ")[2]
        return f"{self.because}; p = {test}{self._conditions}"

    @property
    def _conditions(self) -> str:
        limits = "".join(f"; {checked}" for checked in self.limits)
        if not (self.before.failed or self.after.failed):
            return limits
        return (
            f"{limits}; {quantity(self.before.failed, 'row')} failed before and "
            f"{self.after.failed} after, counted as the worst"
        )

    def _means(self) -> str:
        metric = (self.objective or self.before.metrics[0]).removeprefix("-")
        objective = ""
        if self.figures is not None and metric not in self.before.metrics:
            objective = (
                f"{metric} {_number(self.figures[0])} before, {_number(self.figures[1])} after; "
            )
            metric = self.before.metrics[0]
        name = f"{metric} " if objective or metric != self.before.metrics[0] else ""
        return (
            f"{objective}{name}{self._mean(self.before, metric)} before, "
            f"{self._mean(self.after, metric)} after"
        )

    def _mean(self, report: Report, metric: str) -> str:
        values = list(values_of(report, metric, self.failures.get(metric)).values())
        return (
            f"{fmean(values) if values else math.nan:.2f} {mean_interval(values, seed=report.seed)}"
        )


def judge(  # how to compare, by name
    before: Report,
    after: Report,
    goal: Goal,
    *,
    alpha: float = 0.05,
    seed: int = 0,
    unmet: Sequence[str] = (),
) -> Verdict | str:
    """Return the verdict on two reports over the same rows, or why there is none."""
    if not (before.scored or after.scored):
        return "every held-out row failed"
    comparison = _compared(before, after, goal, figure=goal.figure, alpha=alpha, seed=seed)
    if comparison is None:
        return f"{goal.figure!r} could not be measured on them"
    figures_before, figures_after = goal.figures(before), goal.figures(after)
    limits = [
        Checked(
            limit=limit,
            before=figure_of(figures_before, limit.figure),
            after=figure_of(figures_after, limit.figure),
            comparison=_compared(
                before, after, goal, figure=limit.figure, alpha=alpha, seed=seed, limit=limit
            ),
        )
        for limit in goal.limits
    ]
    return Verdict(
        before=before,
        after=after,
        comparison=comparison,
        objective=goal.objective,
        limits=tuple(limits),
        figures=(figures_before[goal.figure], figures_after[goal.figure]),
        unmet=tuple(unmet),
        failures={name: goal.worst([before, after], name) for name in before.metrics},
    )


def _compared(
    before: Report,
    after: Report,
    goal: Goal,
    *,
    figure: str,
    alpha: float,
    seed: int,
    limit: Limit | None = None,
) -> Comparison | None:
    is_less_better = limit.is_upper if limit is not None else goal.is_less_better(figure)
    worst = goal.worst([before, after], figure)
    sign = -1.0 if is_less_better else 1.0
    values_after, values_before = (
        {
            index: sign * value
            for index, value in values_of(report, figure, worst).items()
            if not math.isnan(value)
        }
        for report in (after, before)
    )
    if not values_after.keys() & values_before.keys():
        return None
    return compare_values(values_after, values_before, of=len(before.rows), alpha=alpha, seed=seed)


def _gain(checked: Checked) -> str:
    return "" if checked.comparison is None else checked.comparison.because


def _number(value: float) -> str:
    return "unknown" if math.isnan(value) else f"{value:.3g}"
