"""Confidence intervals for one look at the data, fast enough for thousands of rows."""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean

from dspex.arguments import checks_values
from dspex.learning.statistics import student
from dspex.learning.statistics.checks import check_confidence, check_count
from dspex.learning.statistics.mean_tests import welch_freedom
from dspex.learning.statistics.sample import Sample

RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Interval:
    """The closed interval from `low` to `high`; NaN without measurements."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"[{self.low:.2f}, {self.high:.2f}]"


@checks_values
def wilson(successes: int, total: int, *, confidence: float = 0.95) -> Interval:
    """Return Wilson's score interval for a proportion (E. B. Wilson, JASA 22, 1927).

    It is valid for few rows and for proportions of 0 and 1.

    Raises:
        DefinitionError: `successes` is not from 0 to `total`, or `confidence` not between 0 and 1.
    """
    check_count(successes, total)
    check_confidence(confidence)
    if total == 0:
        return Interval(math.nan, math.nan)
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share, scale = successes / total, 1 + z * z / total
    centre = (share + z * z / (2 * total)) / scale
    reach = z / scale * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    low = centre - reach if successes else 0.0  # exact, despite rounding in the formula
    high = centre + reach if successes < total else 1.0
    return Interval(low, high)


def newcombe(
    first: tuple[int, int], second: tuple[int, int], *, confidence: float = 0.95
) -> Interval:
    """Return the interval of the difference of two independent proportions, `first` less `second`.

    Each is (successes, total). It combines two of Wilson's (R. G. Newcombe, Stat. Med. 17, 1998,
    method 10), and is valid for few rows and for proportions of 0 and 1.

    Raises:
        DefinitionError: successes are not from 0 to the total, or `confidence` not between 0 and 1.
    """
    here, base = wilson(*first, confidence=confidence), wilson(*second, confidence=confidence)
    if not (first[1] and second[1]):
        return Interval(math.nan, math.nan)
    share, reference = first[0] / first[1], second[0] / second[1]
    down = math.hypot(share - here.low, base.high - reference)
    up = math.hypot(here.high - share, reference - base.low)
    return Interval(share - reference - down, share - reference + up)


def t_interval(sample: Sample, *, confidence: float = 0.95) -> Interval:
    """Return Student's interval of a mean; NaN below two values.

    For values that are not too skewed, or for many of them.

    Raises:
        DefinitionError: `confidence` is not between 0 and 1.
    """
    check_confidence(confidence)
    if sample.count < 2:
        return Interval(math.nan, math.nan)
    reach = student.quantile(0.5 + confidence / 2, sample.count - 1) * sample.standard_error
    return Interval(sample.mean - reach, sample.mean + reach)


def welch(first: Sample, second: Sample, *, confidence: float = 0.95) -> Interval:
    """Return Welch's interval of the difference of two independent means, `first` less `second`.

    NaN if a sample has fewer than two values.

    Raises:
        DefinitionError: `confidence` is not between 0 and 1.
    """
    check_confidence(confidence)
    error = math.hypot(first.standard_error, second.standard_error)
    gap = first.mean - second.mean
    if not error:  # two constant samples
        return Interval(gap, gap)
    if math.isnan(error):
        return Interval(math.nan, math.nan)
    reach = student.quantile(0.5 + confidence / 2, welch_freedom(first, second)) * error
    return Interval(gap - reach, gap + reach)


@checks_values
def bootstrap(
    values: Sequence[float],
    *,
    statistic: Callable[[Sequence[float]], float] = fmean,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Return the seeded percentile bootstrap interval of `statistic` (B. Efron, 1979).

    It is too narrow for few values (below about 20) and has no width for a single one.

    Raises:
        DefinitionError: `confidence` is not between 0 and 1.
    """
    check_confidence(confidence)
    if not values:
        return Interval(math.nan, math.nan)
    rng = random.Random(seed)
    estimates = sorted(statistic(rng.choices(values, k=len(values))) for _ in range(RESAMPLES))
    return Interval(
        percentile(estimates, (1 - confidence) / 2), percentile(estimates, (1 + confidence) / 2)
    )


def mean_interval(scores: Sequence[float], *, confidence: float = 0.95, seed: int = 0) -> Interval:
    """Return an interval of the mean: Wilson's if all scores are 0 or 1, else a bootstrap."""
    if all(score in {0.0, 1.0} for score in scores):
        return wilson(round(sum(scores)), len(scores), confidence=confidence)
    return bootstrap(scores, confidence=confidence, seed=seed)


def percentile(values: Sequence[float], share: float) -> float:
    """Return the quantile `share` (0 to 1) of `values`, interpolated; NaN without values."""
    if not values:
        return math.nan
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)
