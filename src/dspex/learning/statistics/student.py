"""Student's t distribution, from the incomplete beta function."""

import math
from statistics import NormalDist

_STEPS = 500
_EPSILON = 1e-16
_TINY = 1e-300


def tail(value: float, freedom: float) -> float:
    """Return the probability of a value above `value` with `freedom` degrees of freedom."""
    half = 0.5 * _beta_share(freedom / (freedom + value * value), freedom / 2, 0.5)
    return half if value >= 0 else 1 - half


def quantile(share: float, freedom: float) -> float:
    """Return the value below which t is with probability `share`, to 11 digits."""
    if share < 0.5:
        return -quantile(1 - share, freedom)
    low, high = 0.0, max(2.0, 2 * NormalDist().inv_cdf(share))
    while tail(high, freedom) > 1 - share:
        low, high = high, 2 * high
    for _ in range(200):
        middle = (low + high) / 2
        if middle in {low, high}:
            break
        low, high = (middle, high) if tail(middle, freedom) > 1 - share else (low, middle)
    return (low + high) / 2


def _beta_share(x: float, a: float, b: float) -> float:
    """Return the regularized incomplete beta function I_x(a, b)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - _beta_share(1 - x, b, a)
    front = a * math.log(x) + b * math.log1p(-x) + math.lgamma(a + b)
    return math.exp(front - math.lgamma(a) - math.lgamma(b)) / a * _fraction(x, a, b)


def _fraction(x: float, a: float, b: float) -> float:
    """Return the continued fraction of I_x(a, b) by Lentz's method (DLMF 8.17.22)."""
    ratio = 1 / _nonzero(1 - (a + b) * x / (a + 1))
    c, result = 1.0, ratio
    for m in range(1, _STEPS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            ratio = 1 / _nonzero(1 + term * ratio)
            c = _nonzero(1 + term / c)
            result *= ratio * c
        if abs(ratio * c - 1) < _EPSILON:
            break
    return result


def _nonzero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
