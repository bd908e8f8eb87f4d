"""Confidence intervals and tests in pure Python, fast enough for thousands of rows."""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean

from dspex.errors import DefinitionError

RESAMPLES = 2000
PERMUTATIONS = 10_000
EXACT_PAIRS = 14


@dataclass(frozen=True, slots=True)
class Interval:
    """The closed interval from `low` to `high`; NaN without measurements."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"[{self.low:.2f}, {self.high:.2f}]"


def wilson(successes: int, total: int, *, confidence: float = 0.95) -> Interval:
    """Return Wilson's score interval for a proportion (E. B. Wilson, JASA 22, 1927).

    It is valid for few rows and for proportions of 0 and 1.

    Raises:
        DefinitionError: `successes` is not from 0 to `total`, or `confidence` not between 0 and 1.
    """
    if not 0 <= successes <= total:
        raise DefinitionError(f"successes must be from 0 to {total}, not {successes!r}")
    _check_confidence(confidence)
    if total == 0:
        return Interval(math.nan, math.nan)
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share, scale = successes / total, 1 + z * z / total
    centre = (share + z * z / (2 * total)) / scale
    reach = z / scale * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    low = centre - reach if successes else 0.0  # exact, despite rounding in the formula
    high = centre + reach if successes < total else 1.0
    return Interval(low, high)


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
    _check_confidence(confidence)
    if not values:
        return Interval(math.nan, math.nan)
    rng = random.Random(seed)
    estimates = sorted(statistic(rng.choices(values, k=len(values))) for _ in range(RESAMPLES))
    return Interval(
        percentile(estimates, (1 - confidence) / 2), percentile(estimates, (1 + confidence) / 2)
    )


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise DefinitionError(
            f"confidence must be between 0 and 1, such as 0.95, not {confidence!r}"
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


def mcnemar(better: int, worse: int) -> float:
    """Return the exact two-sided p-value of McNemar's test for discordant pairs."""
    total = better + worse
    tail = float(sum(math.comb(total, k) for k in range(min(better, worse) + 1)) / 2**total)
    return min(1.0, 2 * tail)


def sign_flip(differences: Sequence[float], *, seed: int = 0) -> float:
    """Return the two-sided p-value of a paired permutation test (R. A. Fisher, 1935).

    It is exact up to 14 pairs that differ; above, it uses 10,000 seeded permutations plus the
    observed one.
    """
    nonzero = [difference for difference in differences if difference]
    observed = abs(math.fsum(nonzero)) - 1e-10 * math.fsum(
        map(abs, nonzero)
    )  # sums in another order may differ a little
    if not nonzero:
        return 1.0
    if len(nonzero) <= EXACT_PAIRS:
        sums = [0.0]
        for difference in nonzero:
            sums = [total + sign * difference for total in sums for sign in (1, -1)]
        return sum(abs(total) >= observed for total in sums) / len(sums)
    rng = random.Random(seed)
    hits = sum(
        abs(sum(value if rng.getrandbits(1) else -value for value in nonzero)) >= observed
        for _ in range(PERMUTATIONS)
    )
    return (hits + 1) / (PERMUTATIONS + 1)
