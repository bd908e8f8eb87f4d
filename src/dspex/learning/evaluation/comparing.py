"""Is one program better than another on the same rows?"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal

from dspex.errors import DefinitionError
from dspex.learning.evaluation.dataset import Dataset
from dspex.learning.evaluation.report import Report
from dspex.learning.evaluation.statistics import Interval, bootstrap, mcnemar, sign_flip

LEAST_SHOWN = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The mean difference of a figure on the rows that both programs have, with its interval and p-value.

    `left_out` rows failed on one side or both and are not compared. `alpha` is what the p-value has to be below.
    """

    difference: float
    interval: Interval
    p_value: float
    test: Literal["mcnemar", "permutation"]
    pairs: int
    alpha: float = 0.05
    left_out: int = 0

    @property
    def is_better(self) -> bool:
        """Whether the whole interval lies above zero and the paired test is significant; one alone is not enough."""
        return self.interval.low > 0 and self.p_value < self.alpha

    @property
    def because(self) -> str:
        """In a few words, what speaks for a significant improvement or against it."""
        if self.is_better:
            return f"the interval is above 0 and p is below {self.alpha:g}"
        lacks = [] if self.interval.low > 0 else ["the interval is not above 0"]
        lacks += [] if self.p_value < self.alpha else [f"p is not below {self.alpha:g}"]
        return " and ".join(lacks)

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as JSON-ready data."""
        return {
            "difference": self.difference,
            "low": self.interval.low,
            "high": self.interval.high,
            "p_value": self.p_value,
            "alpha": self.alpha,
            "test": self.test,
            "pairs": self.pairs,
            "left_out": self.left_out,
        }

    def __str__(self) -> str:
        left_out = f", {self.left_out} failed rows left out" if self.left_out else ""
        how = f"{self.test}, {self.pairs} pairs{left_out}"
        return f"{_signed(self.difference, self.interval)}, p = {self.p_value:.2g} ({how})"


def compare(  # how to compare, by name
    one: Report,
    other: Report,
    *,
    metric: str | None = None,
    confidence: float = 0.95,
    alpha: float = 0.05,
    seed: int = 0,
) -> Comparison:
    """Compare `one` with `other` row by row; a positive difference speaks for `one`.

    The interval is the bootstrap's over pairs; the test is McNemar's exact one where all scores are 0 or 1, and a
    permutation test otherwise. Examples that failed on either side are left out, `pairs` says how many remain and
    `left_out` how many do not; one that was run several times counts once, with its mean.

    Raises:
        DefinitionError: the reports are over different rows, or no row was answered on both sides.
    """
    if one.checksum != other.checksum:
        raise DefinitionError(
            f"the reports are over different data ({one.dataset!r} and {other.dataset!r}); evaluate both programs on "
            "the same dataset"
        )
    name = metric or one.metrics[0]
    return compare_values(
        one.by_example(name),
        other.by_example(name),
        of=len({row.index for row in one.rows}),
        confidence=confidence,
        alpha=alpha,
        seed=seed,
    )


def compare_values(  # how to compare, by name
    one: Mapping[int, float],
    other: Mapping[int, float],
    *,
    of: int,
    confidence: float = 0.95,
    alpha: float = 0.05,
    seed: int = 0,
) -> Comparison:
    """Compare two figures by row, of `of` rows in all; more is better; see `compare`.

    Raises:
        DefinitionError: no row has both, or `alpha` is not a probability.
    """
    if not 0 < alpha < 1:
        raise DefinitionError(f"alpha is a probability between 0 and 1, such as 0.05, not {alpha!r}")
    both = [(one[index], other[index]) for index in one if index in other]
    if not both:
        raise DefinitionError("the two reports have no row that was answered on both sides, so nothing to compare")
    differences = [mine - theirs for mine, theirs in both]
    is_binary = all(score in {0.0, 1.0} for pair in both for score in pair)
    better, worse = sum(d > 0 for d in differences), sum(d < 0 for d in differences)
    return Comparison(
        difference=fmean(differences),
        interval=bootstrap(differences, confidence=confidence, seed=seed),
        p_value=mcnemar(better, worse) if is_binary else sign_flip(differences, seed=seed),
        test="mcnemar" if is_binary else "permutation",
        pairs=len(both),
        alpha=alpha,
        left_out=of - len(both),
    )


def _signed(difference: float, interval: Interval) -> str:
    """Return a difference and its interval; small ones, such as dollars for a row, with enough digits."""
    if difference and abs(difference) < LEAST_SHOWN:
        return f"{difference:+.2g} [{interval.low:.2g}, {interval.high:.2g}]"
    return f"{difference:+.2f} {interval}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Majority:
    """The most frequent value of a field, and its share of the rows."""

    value: object
    share: float


def majority_class(dataset: Dataset, field: str) -> Majority:
    """Return the most frequent value of `field`; among equals the one that comes first.

    Raises:
        DefinitionError: a row does not have the field.
    """
    column = dataset.column(field)
    counts = Counter(map(repr, column))
    winner = max(column, key=lambda value: counts[repr(value)])
    return Majority(value=winner, share=counts[repr(winner)] / len(column))
