"""Confidence sequences: intervals that hold at every look at once.

With a probability of `1 - alpha`, the truth is inside of all intervals from the first value to the
last, so looking after each value and stopping at will is allowed. At a single look they are wider
than an interval for one look. All are functions of counts, means and variances, so figures from
buckets are enough.
"""

import math
from collections.abc import Callable

from dspex.errors import DefinitionError
from dspex.learning.statistics.checks import check_alpha, check_count
from dspex.learning.statistics.intervals import Interval
from dspex.learning.statistics.sample import Sample

SMALLEST = 100  # values from which the sequences of means are reported
BEST_AT = 500  # values at which they are the narrowest
_EVERYWHERE = Interval(-math.inf, math.inf)


def mean_sequence(
    sample: Sample, *, alpha: float = 0.05, best_at: int = BEST_AT, smallest: int = SMALLEST
) -> Interval:
    """Return the interval of a mean of any values with a finite variance.

    Waudby-Smith et al., "Time-uniform central limit theory and asymptotic confidence sequences",
    2024. It holds asymptotically, so it is infinite below `smallest` values. For scores with known
    bounds, `BoundedMean` holds from the first value.

    Raises:
        DefinitionError: `alpha` is not between 0 and 1, or a count is below 1.
    """
    rho = mixture_precision(best_at, alpha=alpha)
    if sample.count < max(2, smallest):
        return _EVERYWHERE
    boundary = mixture_boundary(sample.count, rho, alpha=alpha) / sample.count
    reach = math.sqrt(sample.variance) * boundary
    return Interval(sample.mean - reach, sample.mean + reach)


def difference_sequence(
    first: Sample,
    second: Sample,
    *,
    alpha: float = 0.05,
    best_at: int = 2 * BEST_AT,
    smallest: int = SMALLEST,
) -> Interval:
    """Return the interval of the difference of two independent means, `first` less `second`.

    As `mean_sequence`, with the values of both groups counted together in `best_at`. It is infinite
    below `smallest` values in either group.

    Raises:
        DefinitionError: `alpha` is not between 0 and 1, or a count is below 1.
    """
    rho = mixture_precision(best_at, alpha=alpha)
    if min(first.count, second.count) < max(2, smallest):
        return _EVERYWHERE
    total, error = first.count + second.count, _error(first, second)
    reach = error * mixture_boundary(total, rho, alpha=alpha) / math.sqrt(total)
    gap = first.mean - second.mean
    return Interval(gap - reach, gap + reach)


def difference_p_value(
    first: Sample,
    second: Sample,
    *,
    alpha: float = 0.05,
    best_at: int = 2 * BEST_AT,
    smallest: int = SMALLEST,
) -> float:
    """Return the p-value of `difference_sequence` for no difference, valid at every look.

    It is below `alpha` exactly if that interval excludes 0; `alpha` and `best_at` tune it.

    Raises:
        DefinitionError: `alpha` is not between 0 and 1, or a count is below 1.
    """
    rho = mixture_precision(best_at, alpha=alpha)
    if min(first.count, second.count) < max(2, smallest):
        return 1.0
    total, error, gap = first.count + second.count, _error(first, second), first.mean - second.mean
    if not error:
        return float(gap == 0)
    evidence = (gap / error) ** 2 * total / (total + rho) - math.log1p(total / rho)
    return min(1.0, math.exp(-evidence / 2))


def proportion_sequence(
    successes: int, total: int, *, alpha: float = 0.05, prior: tuple[float, float] = (1.0, 1.0)
) -> Interval:
    """Return the interval of a proportion, exact for any number of values.

    It holds the proportions that a mixture of binomials with a beta `prior` does not refute
    (Howard et al., "Time-uniform, nonparametric, nonasymptotic confidence sequences", 2021). The
    prior changes the width only.

    Raises:
        DefinitionError: successes are not from 0 to the total, or `alpha` or `prior` is wrong.
    """
    check_alpha(alpha)
    check_count(successes, total)
    if min(prior) <= 0:
        raise DefinitionError(f"both numbers of a beta prior must be above 0, not {prior!r}")
    if not total:
        return Interval(0.0, 1.0)
    failures, share = total - successes, successes / total
    level = _log_beta(prior[0] + successes, prior[1] + failures) - _log_beta(*prior)
    level += math.log(alpha)

    def excess(value: float) -> float:
        return _times_log(successes, value) + _times_log(failures, 1 - value) - level

    low = _root(excess, 0.0, share) if successes else 0.0
    high = _root(excess, 1.0, share) if failures else 1.0
    return Interval(low, high)


def proportion_difference_sequence(
    first: tuple[int, int], second: tuple[int, int], *, alpha: float = 0.05
) -> Interval:
    """Return the interval of the difference of two proportions, `first` less `second`.

    Each is (successes, total). It is exact for any counts and any order of the groups, and wider
    than `difference_sequence`, because each group has half of `alpha`: for few or rare successes.

    Raises:
        DefinitionError: successes are not from 0 to the total, or `alpha` is out of range.
    """
    check_alpha(alpha)
    here = proportion_sequence(*first, alpha=alpha / 2)
    base = proportion_sequence(*second, alpha=alpha / 2)
    return Interval(here.low - base.high, here.high - base.low)


def mixture_precision(best_at: float, *, alpha: float) -> float:
    """Return the precision of the mixture whose boundary is the narrowest at `best_at` values.

    Raises:
        DefinitionError: `alpha` is not between 0 and 1, or `best_at` is below 1.
    """
    check_alpha(alpha)
    if best_at < 1:
        raise DefinitionError(f"best_at is a number of values from 1, not {best_at!r}")
    bits = -2 * math.log(alpha)
    return best_at / (bits + math.log1p(bits))


def mixture_boundary(count: float, precision: float, *, alpha: float) -> float:
    """Return the boundary of a sum of `count` values of variance 1 (H. Robbins, 1970)."""
    total = count + precision
    return math.sqrt(total * (math.log(total / precision) - 2 * math.log(alpha)))


def _error(first: Sample, second: Sample) -> float:
    return math.sqrt(first.variance / first.count + second.variance / second.count)


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def _times_log(count: int, value: float) -> float:
    if not count:
        return 0.0
    return count * math.log(value) if value > 0 else -math.inf


def _root(excess: Callable[[float], float], outside: float, inside: float) -> float:
    """Return where `excess` changes its sign; it is below 0 at `outside`, above at `inside`."""
    for _ in range(100):
        middle = (outside + inside) / 2
        if middle in {outside, inside}:
            break
        outside, inside = (outside, middle) if excess(middle) > 0 else (middle, inside)
    return outside
