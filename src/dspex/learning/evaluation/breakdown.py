"""What the mean of a report hides: slices, the share that passes, and whether people agree."""

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dspex.arguments import checks_values
from dspex.error_text import suggest
from dspex.errors import DefinitionError
from dspex.learning.evaluation.judge_variance import judge_variance
from dspex.learning.evaluation.plain import plain
from dspex.learning.evaluation.report import Report
from dspex.learning.statistics import Interval, mean_interval, wilson
from dspex.learning.statistics.kappa import kappa

_WORDS = {"true": 1.0, "yes": 1.0, "good": 1.0, "false": 0.0, "no": 0.0, "bad": 0.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """The examples with one value of a field: how many were scored and failed, and their mean."""

    value: str
    scored: int
    failed: int
    mean: float
    interval: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class PassRate:
    """The share of scored examples with a score of at least `threshold`, and its interval."""

    threshold: float
    passed: int
    scored: int
    interval: Interval

    @property
    def share(self) -> float:
        """The share; NaN without scored examples."""
        return self.passed / self.scored if self.scored else math.nan


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How far a metric and the labels of people agree on which answers are good.

    `kappa` is Cohen's: 1 is perfect, 0 no more than chance. `false_passes` are answers that the
    metric lets pass and people do not, `false_failures` the reverse.
    """

    kappa: float
    share: float
    pairs: int
    false_passes: int
    false_failures: int


@checks_values
def slices(report: Report, field: str, metric: str | None = None) -> list[Slice]:
    """Return the means of a metric by the value of a field of the rows, the largest slice first.

    Raises:
        DefinitionError: no row has the field, or the report no such metric.
    """
    scores = report.by_example(metric)
    members: dict[str, set[int]] = {}
    for row in report.rows:
        if field in row.example:
            members.setdefault(_text(row.example[field]), set()).add(row.index)
    if not members:
        raise _missing(_fields(report), field)
    return [
        Slice(
            value=value,
            scored=len(values := [scores[index] for index in sorted(indexes) if index in scores]),
            failed=len(indexes) - len(values),
            mean=sum(values) / len(values) if values else math.nan,
            interval=mean_interval(values, seed=report.seed),
        )
        for value, indexes in sorted(members.items(), key=lambda item: -len(item[1]))
    ]


@checks_values
def pass_rate(report: Report, threshold: float, metric: str | None = None) -> PassRate:
    """Return the share of scored examples that reach `threshold`, by the mean of their runs.

    Raises:
        DefinitionError: the report has no such metric.
    """
    scores = report.by_example(metric).values()
    passed = sum(score >= threshold for score in scores)
    return PassRate(
        threshold=threshold,
        passed=passed,
        scored=len(scores),
        interval=wilson(passed, len(scores)),
    )


@checks_values
def agreement(
    report: Report, label: str, metric: str | None = None, *, threshold: float = 0.5
) -> Agreement:
    """Compare a metric, such as a judge, with the field `label`, in which people have rated.

    A score or a label of at least `threshold` is good. Labels are numbers, bools, or true, yes,
    good, false, no and bad. Rows without a label or a score are left out.

    Raises:
        DefinitionError: no row has the field, a label is none of these, or the report has no such
            metric.
    """
    scores = report.by_example(metric)
    labels = {row.index: row.example.get(label) for row in report.rows}
    if all(value is None for value in labels.values()):
        raise _missing(_fields(report), label)
    pairs = [
        (scores[index] >= threshold, _rating(value, label) >= threshold)
        for index, value in labels.items()
        if index in scores and value not in {None, ""}
    ]
    return Agreement(
        kappa=kappa([pair[0] for pair in pairs], [pair[1] for pair in pairs]),
        share=sum(a == b for a, b in pairs) / len(pairs) if pairs else math.nan,
        pairs=len(pairs),
        false_passes=sum(a and not b for a, b in pairs),
        false_failures=sum(b and not a for a, b in pairs),
    )


def breakdown(
    report: Report,
    *,
    slice_by: str | None = None,
    pass_at: float | None = None,
    label: str | None = None,
) -> dict[str, Any]:
    """Return slices, pass rates and agreement of all metrics as JSON-ready data, where requested.

    The variance of judges is there if they were asked several times.

    Raises:
        DefinitionError: no row has a field that is named.
    """
    data: dict[str, Any] = {}
    if slice_by is not None:
        data["slices"] = {
            name: [
                {
                    "value": part.value,
                    "scored": part.scored,
                    "failed": part.failed,
                    "mean": _finite(part.mean),
                    "interval": [_finite(part.interval.low), _finite(part.interval.high)],
                }
                for part in slices(report, slice_by, name)
            ]
            for name in report.metrics
        }
    if pass_at is not None:
        rates = {name: pass_rate(report, pass_at, name) for name in report.metrics}
        data["pass_rates"] = {
            name: {
                "threshold": rate.threshold,
                "share": _finite(rate.share),
                "interval": [_finite(rate.interval.low), _finite(rate.interval.high)],
            }
            for name, rate in rates.items()
        }
    if label is not None:
        agreements = {name: agreement(report, label, name) for name in report.metrics}
        data["agreement"] = {
            name: {
                "kappa": _finite(each.kappa),
                "share": _finite(each.share),
                "pairs": each.pairs,
                "false_passes": each.false_passes,
                "false_failures": each.false_failures,
            }
            for name, each in agreements.items()
        }
    judges = dict.fromkeys(name for row in report.rows for name in row.judgements)
    if judges:
        data["judge_variance"] = {name: judge_variance(report, name).to_dict() for name in judges}
    return data


def check_columns(fields: Sequence[str], settings: Mapping[str, Any]) -> None:
    """Check before anything runs that rows with `fields` have those that `settings` name.

    Raises:
        DefinitionError: they do not.
    """
    for name in ("slice_by", "label"):
        if (field := settings.get(name)) is not None and field not in fields:
            raise _missing(fields, field)


def _missing(fields: Iterable[str], field: str) -> DefinitionError:
    names = list(dict.fromkeys(fields))
    return DefinitionError(
        f"no row has a value of {field!r}.{suggest(field, names)} Fields are: {', '.join(names)}"
    )


def _fields(report: Report) -> Iterable[str]:
    return (name for row in report.rows for name in row.example)


def _rating(value: Hashable, field: str) -> float:
    if isinstance(value, str) and value.strip().lower() in _WORDS:
        return _WORDS[value.strip().lower()]
    try:
        return float(value)  # type: ignore[arg-type]  # anything else raises
    except (TypeError, ValueError):
        raise DefinitionError(
            f"{field!r} holds {value!r}; a label is a number, a bool, or one of {', '.join(_WORDS)}"
        ) from None


def _text(value: object) -> str:
    return value if isinstance(value, str) else str(plain(value))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
