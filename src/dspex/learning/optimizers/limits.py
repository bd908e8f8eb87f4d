"""Several objectives at once: limits, the Pareto front, hypervolume."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from dspex.errors import DefinitionError, suggest
from dspex.learning.evaluation import Report, Row
from dspex.learning.optimizers.proposer import Trial

BUILT_IN = ("failed", "usd", "tokens", "p50", "p95")  # figures that are no metric
WORDS = {"cheapest": "-usd", "fastest": "-p95"}
_NUMBER = r"-?\$?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_LIMIT = re.compile(rf"\s*(\w[\w.-]*?)\s*(<=|>=|<|>)\s*({_NUMBER})\s*(s|ms|)\s*")


@dataclass(frozen=True, slots=True)
class Limit:
    """A figure has to be below or above a value."""

    figure: str
    sign: str
    value: float

    def holds(self, figures: Mapping[str, float]) -> bool:
        """Return whether `figures` are within the limit; an unknown figure is not.

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
        DefinitionError: it is none.
    """
    found = _LIMIT.fullmatch(text)
    if found is None:
        raise DefinitionError(f"{text!r} is no limit; write one like 'p95<2s', 'usd<=0.001' or 'exact_match>=0.9'")
    scale = 0.001 if found[4] == "ms" else 1.0
    return Limit(found[1], found[2], float(found[3].replace("$", "")) * scale)


def parse_pick(text: str) -> tuple[str | None, list[str]]:
    """Read what to pick: limits and one figure to maximize, "-usd" or in a word, as in "accuracy>=0.9,cheapest".

    Returns:
        The figure, None where none is named; and the limits.

    Raises:
        DefinitionError: two figures are named, or a limit is none.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    limits = [part for part in parts if set(part) & set("<>=")]
    figures = [WORDS.get(part, part) for part in parts if part not in limits]
    if len(figures) > 1 or not parts:
        raise DefinitionError(
            f"{text!r} names {len(figures)} figures to go by; write limits and one of them, such as "
            "'exact_match>=0.9,cheapest' or 'p95<2s,exact_match'"
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
        raise DefinitionError(f"there is no figure {bare!r}.{hint} There is: {', '.join(figures)}")
    return -figures[bare] if name.startswith("-") else figures[bare]


def figures_of(report: Report, failures: Mapping[str, float] | None = None) -> dict[str, float]:
    """Return what limits and objectives speak of.

    These are the mean of each metric, the share of rows that `failed`, and cost, tokens and times of an answered row.

    Args:
        report: the rows.
        failures: by metric, the score that a failed row counts as; without one, failed rows are left out of its mean.
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
    """Return a figure of each example by its place, the mean over its runs; of the quantiles, the seconds.

    Examples without the figure are left out; a failed run counts as `failure` where one is given.
    """
    found: dict[int, list[float]] = {}
    for row in report.rows:
        value = failure if row.error is not None and figure != "failed" else _value_of(row, figure)
        if value is not None:
            found.setdefault(row.index, []).append(value)
    return {index: fmean(values) for index, values in found.items()}


def _value_of(row: Row, figure: str) -> float | None:
    special = {
        "failed": float(row.error is not None),
        "usd": row.usage.cost_usd,
        "tokens": float(row.usage.total_tokens),
        "p50": row.seconds,
        "p95": row.seconds,
    }
    return special[figure] if figure in special else row.scores.get(figure)


def worst_of(reports: Sequence[Report], figure: str, *, is_less_better: bool, on_error: float | None) -> float:
    """Return what a failed row counts as: `on_error`; without one, the worst.

    Of a metric that is 0, or 1 where less is better; or the worst score of any row, where that is worse still. Of cost,
    tokens and times it is that of the dearest row; NaN where there is none.
    """
    if on_error is not None and figure not in BUILT_IN:
        return on_error
    known = [value for report in reports for value in values_of(report, figure).values()]
    if figure in BUILT_IN:
        return max(known, default=math.nan)
    return max([1.0, *known]) if is_less_better else min([0.0, *known])


def front(trials: Sequence[Trial], objectives: Sequence[str]) -> list[Trial]:
    """Return the trials that no other beats or equals in every objective; among equals the earliest."""
    if not objectives:
        raise DefinitionError("name at least one objective, such as 'exact_match' or '-usd'")
    points = [(trial, tuple(figure_of(trial.figures, name) for name in objectives)) for trial in trials]
    points = [(trial, point) for trial, point in points if not any(map(math.isnan, point))]
    kept = [
        (trial, point)
        for number, (trial, point) in enumerate(points)
        if not any(_beats(other, point, earlier=n < number) for n, (_, other) in enumerate(points) if n != number)
    ]
    return [trial for trial, _ in sorted(kept, key=lambda pair: (-pair[1][0], pair[0].number))]


def _beats(one: tuple[float, ...], other: tuple[float, ...], *, earlier: bool) -> bool:
    return all(a >= b for a, b in zip(one, other, strict=True)) and (one != other or earlier)


def spread(points: Sequence[Sequence[float]], count: int) -> list[int]:
    """Return the first `count` places in the order in which they are worth a closer look; those after are known well.

    The best in the first objective comes first; with several objectives every second one is, of those that no other
    beats, the farthest from all that came before it and from the known ones.
    """
    scales = [max(column) - min(column) or 1.0 for column in zip(*points, strict=True)]
    seen, left, found = list(range(count, len(points))), list(range(count)), list[int]()

    def distance(one: int, other: int) -> float:
        pairs = zip(points[one], points[other], scales, strict=True)
        return math.dist([0.0] * len(scales), [(a - b) / scale for a, b, scale in pairs])

    while left:
        if len(scales) == 1 or len(found) % 2 == 0:
            best = max(left, key=lambda n: (points[n][0], -n))
        else:
            open_front = [n for n in left if not any(_exceeds(points[m], points[n]) for m in left)]
            best = max(open_front, key=lambda n: (min(distance(n, m) for m in seen), -n))
        left.remove(best)
        seen.append(best)
        found.append(best)
    return found


def _exceeds(one: Sequence[float], other: Sequence[float]) -> bool:
    pairs = list(zip(one, other, strict=True))
    return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)


def hypervolume(points: Sequence[tuple[float, float]], reference: tuple[float, float]) -> float:
    """Return the area that `points` (both maximized) dominate above `reference`."""
    area, height = 0.0, reference[1]
    for x, y in sorted(points, key=lambda point: (-point[0], -point[1])):
        if x > reference[0] and y > height:
            area += (x - reference[0]) * (y - height)
            height = y
    return area
