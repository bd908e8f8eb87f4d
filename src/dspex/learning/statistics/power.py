"""The power of tests, and the sample that a power takes; by the normal approximation."""

import math
from collections.abc import Callable
from statistics import NormalDist

from dspex.errors import DefinitionError
from dspex.learning.statistics.checks import check_alpha, check_share

_NORMAL = NormalDist()
_MOST = 10**12


def mean_power(
    difference: float,
    deviation: float,
    count: int,
    *,
    second: int | None = None,
    alpha: float = 0.05,
) -> float:
    """Return the power of a two-sided test of a mean, or of the difference of two means.

    Args:
        difference: the true difference.
        deviation: the standard deviation of the values; for paired rows, of the differences.
        count: the number of values, or of pairs.
        second: the number of values in a second, independent group.
        alpha: the significance level.

    Raises:
        DefinitionError: a count is below 1, or `deviation` or `alpha` is out of range.
    """
    check_alpha(alpha)
    if not deviation > 0:
        raise DefinitionError(f"deviation must be above 0, not {deviation!r}")
    groups = [count] if second is None else [count, second]
    error = deviation * math.sqrt(sum(1 / _group(size) for size in groups))
    return _power(difference, error, error, alpha=alpha)


def proportion_power(first: float, second: float, count: int, *, alpha: float = 0.05) -> float:
    """Return the power of a two-sided test of two proportions, with `count` rows in each group.

    Raises:
        DefinitionError: a proportion or `alpha` is not between 0 and 1, or `count` is below 1.
    """
    check_alpha(alpha)
    for share in (first, second):
        check_share("a proportion", share, example="0.5")
    middle = (first + second) / 2
    null = math.sqrt(2 * middle * (1 - middle) / _group(count))
    error = math.sqrt((first * (1 - first) + second * (1 - second)) / count)
    return _power(first - second, null, error, alpha=alpha)


def discordance_power(
    difference: float, changed: float, pairs: int, *, alpha: float = 0.05
) -> float:
    """Return the power of McNemar's test for pairs of 0 and 1 (R. J. Connor, 1987).

    Args:
        difference: the share of pairs that get better, less the share that get worse.
        changed: the share of pairs that change either way, at least the size of `difference`.
        pairs: the number of pairs.
        alpha: the significance level.

    Raises:
        DefinitionError: `changed` is not from the size of `difference` to 1, or not above 0.
    """
    check_alpha(alpha)
    if not 0 < changed <= 1 or abs(difference) > changed:
        raise DefinitionError(
            f"changed must be above 0 and from {abs(difference):g}, the size of the difference, to "
            f"1, not {changed!r}"
        )
    null = math.sqrt(changed / _group(pairs))
    error = math.sqrt(max(0.0, changed - difference * difference) / pairs)
    return _power(difference, null, error, alpha=alpha)


def sample_size(power_of: Callable[[int], float], *, power: float = 0.8) -> int:
    """Return the smallest count with `power_of(count)` of at least `power`.

    For example `sample_size(lambda rows: proportion_power(0.5, 0.6, rows))`.

    Raises:
        DefinitionError: `power` is not between 0 and 1, or no count reaches it.
    """
    check_share("power", power, example="0.8")
    high = 1
    while power_of(high) < power:
        high *= 2
        if high > _MOST:
            raise DefinitionError(
                f"no count below {_MOST:.0e} has a power of {power:g}; is the difference 0?"
            )
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power_of(middle) >= power else (middle, high)
    return high


def _power(difference: float, null: float, error: float, *, alpha: float) -> float:
    """Return the power with a standard error under the null, and one under the truth."""
    reach = _NORMAL.inv_cdf(1 - alpha / 2) * null
    if error <= 0:
        return float(abs(difference) > reach)
    return _NORMAL.cdf((difference - reach) / error) + _NORMAL.cdf((-difference - reach) / error)


def _group(count: int) -> int:
    if count < 1:
        raise DefinitionError(f"a group needs at least one row, not {count!r}")
    return count
