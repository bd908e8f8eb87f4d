"""Several objectives at once: limits, the Pareto front, hypervolume."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Protocol, TypeVar

from dspex.error_text import suggest
from dspex.errors import DefinitionError
from dspex.learning.evaluation import Report, Row

BUILT_IN = ("failed", "usd", "tokens", "p50", "p95")  # figures besides the metrics
WORDS = {"cheapest": "-usd", "fastest": "-p95"}
_NUMBER = r"-?\$?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_LIMIT = re.compile(rf"\s*(\w[\w.-]*?)\s*(<=|>=|<|>)\s*({_NUMBER})\s*(s|ms|)\s*")


@dataclass(frozen=True, slots=True)
class Limit:
    """An upper or lower bound on a figure."""

    figure: str
    sign: str
    value: float

    def holds(self, figures: Mapping[str, float]) -> bool:
        """Return whether `figures` are within the limit; an unmeasured figure is not.

        Raises:
            DefinitionError: there is no such figure.
        """
        value = figure_of(figures, self.figure)
        if math.isnan(value):
            return False
        return {
            "<": value < self.value,
            "<=": value <= self.value,
            ">": value > self.value,
            ">=": value >= self.value,
        }[self.sign]

    @property
    def is_upper(self) -> bool:
        """Whether less is better."""
        return self.sign.startswith("<")

    def __str__(self) -> str:
        return f"{self.figure}{self.sign}{self.value:g}"


def parse_limit(text: str) -> Limit:
    """Read a limit such as "p95<2s", "usd<=0.001" or "accuracy>=0.9".

    Raises:
        DefinitionError: the text is not a limit.
    """
    match = _LIMIT.fullmatch(text)
    if match is None:
        raise DefinitionError(
            f"{text!r} is not a limit; write one like 'p95<2s', 'usd<=0.001' or 'exact_match>=0.9'"
        )
    scale = 0.001 if match[4] == "ms" else 1.0
    return Limit(match[1], match[2], float(match[3].replace("$", "")) * scale)


def parse_pick(text: str) -> tuple[str | None, list[str]]:
    """Read limits and one figure to maximize, as in "accuracy>=0.9,cheapest".

    A figure is written as "-usd", or as a word.

    Returns:
        The figure, or None if the text names none, and the limits.

    Raises:
        DefinitionError: the text names two figures, or a part is not a limit.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    limits = [part for part in parts if set(part) & set("<>=")]
    figures = [WORDS.get(part, part) for part in parts if part not in limits]
    if len(figures) > 1 or not parts:
        raise DefinitionError(
            f"{text!r} names {len(figures)} figures to maximize; write limits and one figure, such "
            "as 'exact_match>=0.9,cheapest' or 'p95<2s,exact_match'"
        )
    for limit in limits:
        parse_limit(limit)
    return (figures[0] if figures else None), limits


def figure_of(figures: Mapping[str, float], name: str) -> float:
    """Return a figure; with a leading minus its negative.

    Raises:
        DefinitionError: there is no such figure.
    """
    bare = name.removeprefix("-")
    if bare not in figures:
        hint = suggest(bare, list(figures))
        raise DefinitionError(f"unknown figure {bare!r}.{hint} Figures are: {', '.join(figures)}")
    return -figures[bare] if name.startswith("-") else figures[bare]


def figures_of(report: Report, failures: Mapping[str, float] | None = None) -> dict[str, float]:
    """Return the figures that limits and objectives refer to.

    These are the mean of each metric, the share of `failed` rows, and cost, tokens and times per
    scored row.

    Args:
        report: the report.
        failures: for each metric, the score of a failed row; without one, its mean leaves failed
            rows out.
    """
    answered, usage, worst = max(report.scored, 1), report.usage, failures or {}
    means = {name: values_of(report, name, worst.get(name)) for name in report.metrics}
    return {
        **{name: fmean(values.values()) if values else math.nan for name, values in means.items()},
        "failed": report.failed / max(len(report.rows), 1),
        "usd": math.nan if usage.cost_usd is None else usage.cost_usd / answered,
        "tokens": usage.total_tokens / answered,
        "p50": report.p50,
        "p95": report.p95,
    }


def values_of(report: Report, figure: str, failure: float | None = None) -> dict[int, float]:
    """Return one figure of each example by index; for quantiles, its seconds.

    It is the mean over the runs of the example.

    Examples without the figure are left out; a failed run counts as `failure`, if given.
    """
    values_by_row: dict[int, list[float]] = {}
    for row in report.rows:
        value = failure if row.error is not None and figure != "failed" else _value_of(row, figure)
        if value is not None:
            values_by_row.setdefault(row.index, []).append(value)
    return {index: fmean(values) for index, values in values_by_row.items()}


def _value_of(row: Row, figure: str) -> float | None:
    special = {
        "failed": float(row.error is not None),
        "usd": row.usage.cost_usd,
        "tokens": float(row.usage.total_tokens),
        "p50": row.seconds,
        "p95": row.seconds,
    }
    return special[figure] if figure in special else row.scores.get(figure)


def worst_of(
    reports: Sequence[Report], figure: str, *, is_less_better: bool, on_error: float | None
) -> float:
    """Return the value that a failed row counts as: `on_error`, or else the worst value.

    For a metric, the worst value is 0 (1 if less is better) or the worst score of any row,
    whichever is worse. For cost, tokens and times it is the value of the most expensive row; NaN if
    there is none.
    """
    if on_error is not None and figure not in BUILT_IN:
        return on_error
    scores = [value for report in reports for value in values_of(report, figure).values()]
    if figure in BUILT_IN:
        return max(scores, default=math.nan)
    return max([1.0, *scores]) if is_less_better else min([0.0, *scores])


class Measured(Protocol):
    """What a front compares: a trial, or a stored one."""

    @property
    def number(self) -> int:
        """Its place in the search."""
        ...

    @property
    def figures(self) -> Mapping[str, float]:
        """Its figures; NaN where one could not be measured."""
        ...


M = TypeVar("M", bound=Measured)


def front(trials: Sequence[M], objectives: Sequence[str]) -> list[M]:
    """Return the trials that no other dominates or equals; the earliest of equal trials."""
    if not objectives:
        raise DefinitionError("name at least one objective, such as 'exact_match' or '-usd'")
    points = [
        (trial, tuple(figure_of(trial.figures, name) for name in objectives)) for trial in trials
    ]
    points = [(trial, point) for trial, point in points if not any(map(math.isnan, point))]
    undominated = [
        (trial, point)
        for number, (trial, point) in enumerate(points)
        if not any(
            _beats(rival, point, is_earlier=n < number)
            for n, (_, rival) in enumerate(points)
            if n != number
        )
    ]
    return [
        trial for trial, _ in sorted(undominated, key=lambda pair: (-pair[1][0], pair[0].number))
    ]


def _beats(first: tuple[float, ...], second: tuple[float, ...], *, is_earlier: bool) -> bool:
    return all(a >= b for a, b in zip(first, second, strict=True)) and (
        first != second or is_earlier
    )


def spread(points: Sequence[Sequence[float]], count: int) -> list[int]:
    """Return the first `count` indexes in the order in which they deserve more rows.

    The points from index `count` on are well measured already.

    The best in the first objective comes first. With several objectives, every second one is the
    undominated point that is farthest from all earlier and well-measured ones.
    """
    scales = [max(column) - min(column) or 1.0 for column in zip(*points, strict=True)]
    visited, remaining, order = list(range(count, len(points))), list(range(count)), list[int]()

    def distance(first: int, second: int) -> float:
        pairs = zip(points[first], points[second], scales, strict=True)
        return math.dist([0.0] * len(scales), [(a - b) / scale for a, b, scale in pairs])

    while remaining:
        if len(scales) == 1 or len(order) % 2 == 0:
            best = max(remaining, key=lambda n: (points[n][0], -n))
        else:
            open_front = [
                n for n in remaining if not any(_exceeds(points[m], points[n]) for m in remaining)
            ]
            best = max(open_front, key=lambda n: (min(distance(n, m) for m in visited), -n))
        remaining.remove(best)
        visited.append(best)
        order.append(best)
    return order


def _exceeds(first: Sequence[float], second: Sequence[float]) -> bool:
    pairs = list(zip(first, second, strict=True))
    return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)


def hypervolume(points: Sequence[tuple[float, float]], reference: tuple[float, float]) -> float:
    """Return the area that `points` (both maximized) dominate above `reference`."""
    area, height = 0.0, reference[1]
    for x, y in sorted(points, key=lambda point: (-point[0], -point[1])):
        if x > reference[0] and y > height:
            area += (x - reference[0]) * (y - height)
            height = y
    return area
