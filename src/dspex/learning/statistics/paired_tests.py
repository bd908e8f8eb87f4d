"""Tests of two programs on the same rows, for one look at them."""

import math
import random
from collections.abc import Sequence

PERMUTATIONS = 10_000
EXACT_PAIRS = 14


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
    # sums in another order may differ a little
    observed = abs(math.fsum(nonzero)) - 1e-10 * math.fsum(map(abs, nonzero))
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
