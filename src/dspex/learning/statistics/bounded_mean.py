"""Sequential test and confidence sequence for the mean of values with known bounds, by betting.

A bettor starts with a capital of 1 and bets on each value before it comes. If the mean is what the
null says, the bets are fair, and the capital reaches `1 / alpha` with a probability of at most
`alpha`, however long one looks (Ville's inequality). Waudby-Smith and Ramdas, "Estimating means of
bounded random variables by betting", 2024. All of it is exact for any number of values.
"""

import math
from typing import Literal

from dspex.errors import DefinitionError
from dspex.learning.statistics.checks import check_alpha
from dspex.learning.statistics.intervals import Interval

Side = Literal["both", "above", "below"]
_SHARE = 0.5  # of the capital that one bet may lose
_ROUNDING = 1e-9
_PRECISION = 1e-13


class BoundedMeanTest:
    """Tests after each value whether the mean is `mean`; for values from `low` to `high`.

    `side` is what the test looks for: a mean that is different, "above" or "below". With
    `population`, the values are drawn without replacement from that many, as the rows of a dataset
    in random order, and the test is about the mean of all of them.
    """

    def __init__(  # the hypothesis, all named
        self,
        mean: float,
        *,
        low: float = 0.0,
        high: float = 1.0,
        alpha: float = 0.05,
        side: Side = "both",
        population: int | None = None,
    ) -> None:
        """Take the hypothesis.

        Raises:
            DefinitionError: the mean is not between the bounds, or `alpha` is out of range.
        """
        check_alpha(alpha)
        if not low < mean < high:
            raise DefinitionError(f"the mean must be between {low:g} and {high:g}, not {mean!r}")
        self._bets = _Bets(low, high, alpha)
        self._mean = (mean - low) / (high - low)
        self._alpha = alpha
        self._side = side
        self._population = population
        self._above = self._below = 0.0
        self._most = 0.0

    def add(self, value: float) -> None:
        """Take the next value.

        Raises:
            DefinitionError: it is out of bounds, or the population has no more values.
        """
        if self._population is not None and self._bets.count >= self._population:
            raise DefinitionError(f"all {self._population} values of the population are in already")
        mean = self._next_mean()
        share, bet = self._bets.add(value)
        if 0 < mean < 1:
            self._above += _growth(bet, share, mean)
            self._below += _growth(bet, 1 - share, 1 - mean)
        self._settle()
        self._most = max(self._most, self.log_evidence)

    @property
    def log_evidence(self) -> float:
        """The logarithm of the capital against the null, now."""
        if self._side == "both":
            return max(self._above, self._below) - math.log(2)
        return self._above if self._side == "above" else self._below

    @property
    def p_value(self) -> float:
        """The p-value of the null, valid at every look; it never rises again."""
        return math.exp(-self._most)

    @property
    def is_refuted(self) -> bool:
        """Whether the null was refuted at any value so far."""
        return self._most >= -math.log(self._alpha)

    def _next_mean(self) -> float:
        """Return the mean of the next value under the null, given those before."""
        if self._population is None:
            return self._mean
        rest = self._population * self._mean - self._bets.total
        return rest / (self._population - self._bets.count)

    def _settle(self) -> None:
        """Decide a null that the rest of the population cannot fulfil."""
        if self._population is None:
            return
        rest = self._population * self._mean - self._bets.total
        remaining = self._population - self._bets.count
        if rest < -_ROUNDING:
            self._above, self._below = math.inf, -math.inf
        elif rest > remaining + _ROUNDING:
            self._above, self._below = -math.inf, math.inf


class BoundedMean:
    """The interval of a mean after each value; for values from `low` to `high`.

    The mean is outside of any of the intervals with a probability of at most `alpha`. All values
    are kept, and an interval takes a time in proportion to their number.
    """

    def __init__(self, *, low: float = 0.0, high: float = 1.0, alpha: float = 0.05) -> None:
        """Take the bounds.

        Raises:
            DefinitionError: `low` is not below `high`, or `alpha` is not between 0 and 1.
        """
        check_alpha(alpha)
        self._bets = _Bets(low, high, alpha)
        self._alpha = alpha
        self._rounds: list[tuple[float, float]] = []

    def add(self, *values: float) -> None:
        """Take the next values.

        Raises:
            DefinitionError: one is out of bounds.
        """
        self._rounds.extend(self._bets.add(value) for value in values)

    @property
    def mean(self) -> float:
        """The mean of the values; NaN without values."""
        bets = self._bets
        return bets.low + bets.range * bets.total / bets.count if bets.count else math.nan

    def interval(self) -> Interval:
        """Return the interval at the last value; without values, the bounds."""
        low = self._lowest(self._rounds)
        high = 1 - self._lowest([(1 - share, bet) for share, bet in self._rounds])
        return Interval(
            self._bets.low + self._bets.range * low, self._bets.low + self._bets.range * high
        )

    def _lowest(self, rounds: list[tuple[float, float]]) -> float:
        """Return the lowest mean that bets on a higher one do not refute: they lose with it."""

        def excess(mean: float) -> float:
            return math.fsum(_growth(bet, share, mean) for share, bet in rounds) - limit

        limit = math.log(2 / self._alpha)
        if excess(0.0) < 0:
            return 0.0
        low, high = 0.0, 1.0
        while high - low > _PRECISION:
            middle = (low + high) / 2
            low, high = (middle, high) if excess(middle) >= 0 else (low, middle)
        return low


class _Bets:
    """The size of the next bet, from the values before: the larger, the less they vary."""

    def __init__(self, low: float, high: float, alpha: float) -> None:
        if not low < high:
            raise DefinitionError(f"the lower bound must be below the upper, not {low!r}, {high!r}")
        self.low, self.high, self.range = low, high, high - low
        self.count, self.total = 0, 0.0
        self._scale = 2 * math.log(2 / alpha)
        self._squares = 0.0
        self._variance = 0.25

    def add(self, value: float) -> tuple[float, float]:
        """Return the value on a scale from 0 to 1, and the bet that was placed on it."""
        if not self.low <= value <= self.high:
            raise DefinitionError(
                f"a value must be from {self.low:g} to {self.high:g}, not {value!r}"
            )
        share = (value - self.low) / self.range
        self.count += 1
        bet = math.sqrt(self._scale / (self._variance * self.count * math.log1p(self.count)))
        self.total += share
        mean = (0.5 + self.total) / (self.count + 1)
        self._squares += (share - mean) ** 2
        self._variance = (0.25 + self._squares) / (self.count + 1)
        return share, bet


def _growth(bet: float, share: float, mean: float) -> float:
    """Return the logarithm of what a bet on more than `mean` does to the capital."""
    size = bet if bet * mean <= _SHARE else _SHARE / mean
    return math.log1p(size * (share - mean))
