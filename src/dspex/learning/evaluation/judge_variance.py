"""How steady a judge is: its scores of one answer, asked several times."""

import math
from dataclasses import dataclass
from statistics import fmean, variance
from typing import Any

from dspex.arguments import checks_names
from dspex.errors import DefinitionError
from dspex.learning.evaluation.report import Report
from dspex.learning.statistics import Interval, wilson
from dspex.learning.statistics.reliability import intraclass


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeVariance:
    """What `repeats` judgements of each of `answers` say of a judge.

    `within` is the standard deviation between judgements of one answer, `between` that between
    answers. `reliability` is their intraclass correlation: 1 if an answer always gets one score, 0
    if scores say nothing of the answer; None if all scores are equal. `flips` is the share of
    answers that are good in one judgement and not in another one, with Wilson's interval.
    """

    repeats: int
    answers: int
    within: float
    between: float
    reliability: float | None
    flips: float
    interval: Interval

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON-ready data."""
        return {
            "repeats": self.repeats,
            "answers": self.answers,
            "within": self.within,
            "between": self.between,
            "reliability": self.reliability,
            "flips": self.flips,
            "interval": [self.interval.low, self.interval.high],
        }


@checks_names
def judge_variance(
    report: Report, metric: str | None = None, *, threshold: float = 0.5
) -> JudgeVariance:
    """Return how steady a judge is, from an evaluation with `judge_repeats`.

    A score of at least `threshold` is good.

    Raises:
        DefinitionError: the report has no such metric, or one judgement of each answer only.
    """
    name = metric or report.metrics[0]
    report.scores(name)  # raises for an unknown metric
    groups = [row.judgements[name] for row in report.rows if name in row.judgements]
    if not groups:
        raise DefinitionError(
            f"{name!r} has no repeated judgements; evaluate with a judge and judge_repeats=3"
        )
    flips = sum(len({score >= threshold for score in group}) > 1 for group in groups)
    reliability, means = intraclass(groups), [fmean(group) for group in groups]
    return JudgeVariance(
        repeats=len(groups[0]),
        answers=len(groups),
        within=math.sqrt(fmean(variance(group) for group in groups)),
        between=math.sqrt(variance(means)) if len(means) > 1 else 0.0,
        reliability=None if math.isnan(reliability) else reliability,
        flips=flips / len(groups),
        interval=wilson(flips, len(groups)),
    )
