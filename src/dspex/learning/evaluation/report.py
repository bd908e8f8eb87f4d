"""The result of an evaluation: one row per run, and figures over the rows."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from statistics import fmean, variance
from typing import Any

import msgspec

from dspex.arguments import checks_values
from dspex.error_text import CodeFrame, quantity, suggest
from dspex.errors import DefinitionError
from dspex.language.records import Example, Usage
from dspex.learning.evaluation.dataset import Dataset
from dspex.learning.evaluation.metric import Metric, metric_name, score_of
from dspex.learning.evaluation.plain import plain
from dspex.learning.statistics import Interval, mean_interval
from dspex.learning.statistics.intervals import percentile
from dspex.notebook import lazy_html


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One run of an example: outputs and scores by metric, or an error.

    `index` is the position in the dataset; `repeat` counts the runs of one example from 0.
    `seconds` is the duration of the program, see `run_seconds`: model calls count with the time
    that the model took, even if the answer came from a cache or had to wait. `usage` is that of the
    program, `judge_usage` that of its judges, and `reasons` are what they said, by metric.
    `judgements` are the scores of judges that were asked several times. `frames` are the lines
    of the user's code behind the error.
    """

    index: int
    repeat: int = 0
    example: Example
    outputs: Mapping[str, object] | None = None
    scores: Mapping[str, float] = {}
    reasons: Mapping[str, str] = {}
    judgements: Mapping[str, Sequence[float]] = {}
    error: str | None = None
    frames: tuple[CodeFrame, ...] = ()
    seconds: float = 0.0
    usage: Usage = Usage()
    judge_usage: Usage = Usage()
    trace_id: str = ""

    @property
    def score(self) -> float | None:
        """The score of the first metric; None if the example failed."""
        return next(iter(self.scores.values()), None)

    def to_dict(self) -> dict[str, Any]:
        """Return the row as JSON-ready data; usage without the split by model."""
        frames = {"frames": list(self.frames)} if self.frames else {}
        judgements = {name: list(scores) for name, scores in self.judgements.items()}
        return {
            "index": self.index,
            "repeat": self.repeat,
            "example": _readable(self.example.to_dict()),
            "outputs": _readable(self.outputs),
            "scores": dict(self.scores),
            "reasons": dict(self.reasons),
            **({"judgements": judgements} if judgements else {}),
            "error": self.error,
            **frames,
            "seconds": self.seconds,
            "usage": usage_dict(self.usage),
            "judge_usage": usage_dict(self.judge_usage),
            "trace_id": self.trace_id,
        }


def usage_dict(usage: Usage) -> dict[str, Any]:
    """Return calls, tokens and cost as JSON-ready data."""
    return {
        "calls": usage.calls,
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cost_usd": usage.cost_usd,
    }


@dataclass(frozen=True, kw_only=True)
class Report:
    """The rows in dataset order, and figures over the scored rows, by default of the first metric.

    If examples ran several times, means are over the means of the examples, and intervals describe
    the variation between examples. `started_at` is when the evaluation began.
    """

    rows: tuple[Row, ...]
    metrics: tuple[str, ...]
    dataset: str
    checksum: str
    seconds: float = 0.0
    seed: int = 0
    started_at: datetime | None = None

    @property
    def repeats(self) -> int:
        """The number of runs of each example."""
        return 1 + max((row.repeat for row in self.rows), default=0)

    @cached_property
    def scored(self) -> int:
        """The number of rows with a score."""
        return sum(row.score is not None for row in self.rows)

    @property
    def failed(self) -> int:
        """The number of rows with an error."""
        return len(self.rows) - self.scored

    def scores(self, metric: str | None = None) -> list[float]:
        """Return the scores of one metric on the scored rows.

        Raises:
            DefinitionError: the report has no such metric.
        """
        name = metric or self.metrics[0]
        if name not in self.metrics:
            hint = suggest(name, self.metrics)
            raise DefinitionError(
                f"the report has no metric {name!r}.{hint} It has: {', '.join(self.metrics)}"
            )
        return [row.scores[name] for row in self.rows if name in row.scores]

    def by_example(self, metric: str | None = None) -> dict[int, float]:
        """Return the mean score of each scored example, by its position in the dataset.

        Raises:
            DefinitionError: the report has no such metric.
        """
        return {index: fmean(scores) for index, scores in self._runs(metric).items()}

    def _runs(self, metric: str | None) -> dict[int, list[float]]:
        self.scores(metric)  # raises for an unknown metric
        name, scores_by_row = metric or self.metrics[0], dict[int, list[float]]()
        for row in self.rows:
            if name in row.scores:
                scores_by_row.setdefault(row.index, []).append(row.scores[name])
        return scores_by_row

    @property
    def mean(self) -> float:
        """The mean score over the scored rows; NaN without scored rows."""
        return self.mean_of(None)

    def mean_of(self, metric: str | None) -> float:
        """Return the mean of one metric over the scored rows; NaN without scored rows."""
        means = self.by_example(metric)
        return fmean(means.values()) if means else math.nan

    def interval(self, metric: str | None = None, *, confidence: float = 0.95) -> Interval:
        """Return an interval of the mean: Wilson's for 0 and 1 scores, else a seeded bootstrap."""
        return mean_interval(
            list(self.by_example(metric).values()), confidence=confidence, seed=self.seed
        )

    def unsteadiness(self, metric: str | None = None) -> float:
        """Return the standard deviation between runs of one example; NaN without repeated runs."""
        variances = [variance(scores) for scores in self._runs(metric).values() if len(scores) > 1]
        return math.sqrt(fmean(variances)) if variances else math.nan

    @cached_property
    def usage(self) -> Usage:
        """The total usage of all rows, without judges."""
        return sum((row.usage for row in self.rows), Usage())

    @cached_property
    def judge_usage(self) -> Usage:
        """The total usage of the judges."""
        return sum((row.judge_usage for row in self.rows), Usage())

    def seconds_at(self, share: float) -> float:
        """Return the quantile `share` (0 to 1) of the seconds of successful rows, or NaN."""
        return percentile([row.seconds for row in self.rows if row.error is None], share)

    @property
    def p50(self) -> float:
        """The median seconds of successful rows."""
        return self.seconds_at(0.5)

    @property
    def p95(self) -> float:
        """The 95th percentile of the seconds of successful rows."""
        return self.seconds_at(0.95)

    def to_dict(self) -> dict[str, Any]:
        """Return figures and rows as JSON-ready data; undefined figures are None."""
        figures = {}
        for name in self.metrics:
            interval = self.interval(name)
            figures[name] = {"mean": _finite(self.mean_of(name)), "low": _finite(interval.low)}
            figures[name] |= {
                "high": _finite(interval.high),
                "unsteadiness": _finite(self.unsteadiness(name)),
            }
        return {
            "dataset": {
                "name": self.dataset,
                "checksum": self.checksum,
                "rows": len({row.index for row in self.rows}),
            },
            "metrics": figures,
            "repeats": self.repeats,
            "scored": self.scored,
            "failed": self.failed,
            "p50": _finite(self.p50),
            "p95": _finite(self.p95),
            "seconds": self.seconds,
            "usage": usage_dict(self.usage),
            "judge_usage": usage_dict(self.judge_usage),
            "rows": [row.to_dict() for row in self.rows],
        }

    _repr_html_ = lazy_html("dspex.learning.evaluation.representation:report_html")

    def __repr__(self) -> str:
        failed = f", {self.failed} failed" if self.failed else ""
        return (
            f"Report({self.metrics[0]} {self.mean:.2f} {self.interval()} over "
            f"{quantity(self.scored, 'row')} of {self.dataset!r}{failed})"
        )


@checks_values
def constant(dataset: Dataset, outputs: Mapping[str, object], metric: Metric) -> Report:
    """Return the report of a program that always answers `outputs`: the baseline to beat."""
    from dspex.execution.context import current
    from dspex.language.records import Prediction

    answer, name = Prediction(outputs), metric_name(metric)
    rows = tuple(
        Row(
            index=index,
            example=example,
            outputs=outputs,
            scores={name: score_of(metric, example, answer)},
        )
        for index, example in enumerate(dataset)
    )
    return Report(
        rows=rows,
        metrics=(name,),
        dataset=dataset.name,
        checksum=dataset.checksum,
        started_at=current().clock.now(),
    )


def _readable(values: Mapping[str, object] | None) -> dict[str, Any] | None:
    """Return values as JSON; values without a JSON form as text."""
    if values is None:
        return None
    readable: dict[str, Any] = {}
    for name, value in values.items():
        try:
            readable[name] = plain(value)
        except ValueError:
            readable[name] = str(value)
    return readable


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
