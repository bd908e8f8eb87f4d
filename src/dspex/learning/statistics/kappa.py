"""Agreement of two raters beyond chance."""

import math
from collections import Counter
from collections.abc import Hashable, Sequence

from dspex.errors import DefinitionError


def kappa(first: Sequence[Hashable], second: Sequence[Hashable]) -> float:
    """Return Cohen's kappa of two raters (J. Cohen, Educ. Psychol. Meas. 20, 1960).

    1 is perfect agreement, 0 that of chance. It is NaN without ratings, and if both raters give one
    and the same rating throughout, because chance alone would agree then.

    Raises:
        DefinitionError: the raters have not rated equally many items.
    """
    if len(first) != len(second):
        raise DefinitionError(
            f"both raters rate the same items, not {len(first)} and {len(second)} of them"
        )
    total = len(first)
    if not total:
        return math.nan
    observed = sum(a == b for a, b in zip(first, second, strict=True)) / total
    counts, others = Counter(first), Counter(second)
    by_chance = sum(count * others[rating] for rating, count in counts.items()) / total**2
    return math.nan if by_chance == 1 else (observed - by_chance) / (1 - by_chance)
