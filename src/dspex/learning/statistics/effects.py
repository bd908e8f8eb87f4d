"""Effect sizes: how large a difference is, in units that do not depend on the scale."""

import math
from collections.abc import Sequence

from dspex.errors import DefinitionError
from dspex.learning.statistics.sample import Sample


def hedges_g(first: Sample, second: Sample) -> float:
    """Return the difference of the means of `first` and `second` in standard deviations.

    The deviation is the pooled one, corrected for few values (L. V. Hedges, 1981). NaN if both
    samples are constant or have fewer than four values together.
    """
    freedom = first.count + second.count - 2
    squares = first.squares + second.squares
    if freedom < 2 or squares <= 0:
        return math.nan
    correction = math.exp(math.lgamma(freedom / 2) - math.lgamma((freedom - 1) / 2))
    gap = (first.mean - second.mean) / math.sqrt(squares / freedom)
    return gap * correction / math.sqrt(freedom / 2)


def paired_d(differences: Sample) -> float:
    """Return the mean difference of pairs in standard deviations of the differences; NaN if 0."""
    deviation = math.sqrt(differences.variance)
    return differences.mean / deviation if deviation else math.nan


def cohen_h(first: float, second: float) -> float:
    """Return the difference of two proportions on the arcsine scale (J. Cohen, 1988).

    Raises:
        DefinitionError: a proportion is not from 0 to 1.
    """
    for share in (first, second):
        if not 0 <= share <= 1:
            raise DefinitionError(f"a proportion is a number from 0 to 1, not {share!r}")
    return 2 * math.asin(math.sqrt(first)) - 2 * math.asin(math.sqrt(second))


def cliff_delta(first: Sequence[float], second: Sequence[float]) -> float:
    """Return how much more often a value of `first` exceeds one of `second` than the other way.

    From -1 to 1; NaN without values (N. Cliff, 1993).
    """
    if not first or not second:
        return math.nan
    wins = sum((a > b) - (a < b) for a in first for b in second)
    return wins / (len(first) * len(second))
