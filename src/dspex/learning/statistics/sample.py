"""A sample by its count, mean and variance: what intervals and tests of means need of it."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from dspex.errors import DefinitionError


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Count, mean and variance (over count - 1) of independent values.

    Samples of several buckets are added: `day + night`.
    """

    count: int
    mean: float
    variance: float

    def __post_init__(self) -> None:
        if self.count < 0 or not self.variance >= 0:
            raise DefinitionError(
                f"a sample needs a count and a variance of at least 0, not {self.count!r} and "
                f"{self.variance!r}"
            )

    @classmethod
    def of(cls, values: Iterable[float]) -> Self:
        """Return the sample of `values`, in one pass (B. P. Welford, 1962)."""
        count, mean, squares = 0, 0.0, 0.0
        for value in values:
            count += 1
            step = value - mean
            mean += step / count
            squares += step * (value - mean)
        return cls(count=count, mean=mean, variance=squares / (count - 1) if count > 1 else 0.0)

    @classmethod
    def of_counts(cls, successes: int, total: int) -> Self:
        """Return the sample of `total` values of 0 and 1."""
        share = successes / total if total else 0.0
        variance = share * (1 - share) * total / (total - 1) if total > 1 else 0.0
        return cls(count=total, mean=share, variance=variance)

    @property
    def squares(self) -> float:
        """The sum of the squared deviations from the mean."""
        return self.variance * max(0, self.count - 1)

    @property
    def standard_error(self) -> float:
        """The standard error of the mean; NaN below two values."""
        return math.sqrt(self.variance / self.count) if self.count > 1 else math.nan

    def __add__(self, sample: "Sample") -> "Sample":
        """Return the sample of both together."""
        count = self.count + sample.count
        if not count:
            return self
        gap = sample.mean - self.mean
        mean = self.mean + gap * sample.count / count
        squares = self.squares + sample.squares + gap * gap * self.count * sample.count / count
        return Sample(count=count, mean=mean, variance=squares / (count - 1) if count > 1 else 0.0)
