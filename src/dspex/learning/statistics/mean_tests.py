"""Tests of means for one look at the data."""

import math

from dspex.learning.statistics import student
from dspex.learning.statistics.sample import Sample


def t_test(sample: Sample, *, mean: float = 0.0) -> float:
    """Return Student's two-sided p-value for a mean, such as that of paired differences.

    NaN below two values.
    """
    if sample.count < 2:
        return math.nan
    return _two_sided(sample.mean - mean, sample.standard_error, sample.count - 1)


def welch_test(first: Sample, second: Sample) -> float:
    """Return Welch's two-sided p-value for two independent means (B. L. Welch, 1947).

    NaN if a sample has fewer than two values.
    """
    error = math.hypot(first.standard_error, second.standard_error)
    freedom = welch_freedom(first, second) if error else math.inf
    return _two_sided(first.mean - second.mean, error, freedom)


def welch_freedom(first: Sample, second: Sample) -> float:
    """Return the degrees of freedom of the difference (F. E. Satterthwaite, 1946)."""
    parts = [sample.variance / sample.count for sample in (first, second)]
    scaled = [
        part * part / (sample.count - 1)
        for part, sample in zip(parts, (first, second), strict=True)
    ]
    return sum(parts) ** 2 / sum(scaled)


def _two_sided(gap: float, error: float, freedom: float) -> float:
    if math.isnan(error):
        return math.nan
    if not error:  # constant values
        return float(gap == 0)
    return 2 * student.tail(abs(gap) / error, freedom)
