"""How far repeated measurements of the same things agree."""

import math
from collections.abc import Sequence
from statistics import fmean, variance

from dspex.errors import DefinitionError


def intraclass(groups: Sequence[Sequence[float]]) -> float:
    """Return the intraclass correlation ICC(1) (P. Shrout and J. Fleiss, Psychol. Bull. 86, 1979).

    Each group has the measurements of one thing, equally many. 1: they always agree; 0 or less:
    things differ no more than the measurements of one thing. NaN with fewer than two groups, or if
    all measurements are equal.

    Raises:
        DefinitionError: the groups differ in size, or have fewer than two measurements.
    """
    sizes = {len(group) for group in groups}
    if len(sizes) > 1 or (sizes and min(sizes) < 2):
        raise DefinitionError(
            f"each thing is measured equally often, at least twice, not {sorted(sizes)} times"
        )
    if len(groups) < 2:
        return math.nan
    count = sizes.pop()
    within = fmean(variance(group) for group in groups)
    between = count * variance([fmean(group) for group in groups])
    total = between + (count - 1) * within
    return math.nan if not total else (between - within) / total
