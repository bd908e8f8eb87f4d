"""Is one program better than another on the same rows?"""

from collections import Counter
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal

from dspex.errors import DefinitionError
from dspex.learning.evaluation.dataset import Dataset
from dspex.learning.evaluation.report import Report
from dspex.learning.evaluation.statistics import Interval, bootstrap, mcnemar, sign_flip


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The mean difference of a score on the rows that both programs answered, with its interval and p-value."""

    difference: float
    interval: Interval
    p_value: float
    test: Literal["mcnemar", "permutation"]
    pairs: int

    @property
    def is_better(self) -> bool:
        """Whether the whole interval lies above zero."""
        return self.interval.low > 0

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as JSON-ready data."""
        return {
            "difference": self.difference,
            "low": self.interval.low,
            "high": self.interval.high,
            "p_value": self.p_value,
            "test": self.test,
            "pairs": self.pairs,
        }

    def __str__(self) -> str:
        return f"{self.difference:+.2f} {self.interval}, p = {self.p_value:.2g} ({self.test}, {self.pairs} pairs)"


def compare(
    one: Report, other: Report, *, metric: str | None = None, confidence: float = 0.95, seed: int = 0
) -> Comparison:
    """Compare `one` with `other` row by row; a positive difference speaks for `one`.

    The interval is the bootstrap's over pairs; the test is McNemar's exact one where all scores are 0 or 1, and a
    permutation test otherwise. Examples that failed on either side are left out, and `pairs` says how many remain; one
    that was run several times counts once, with its mean.

    Raises:
        DefinitionError: the reports are over different rows, or no row was answered on both sides.
    """
    if one.checksum != other.checksum:
        raise DefinitionError(
            f"the reports are over different data ({one.dataset!r} and {other.dataset!r}); evaluate both programs on "
            "the same dataset"
        )
    name = metric or one.metrics[0]
    mine, theirs = one.by_example(name), other.by_example(name)
    both = [(mine[index], theirs[index]) for index in mine if index in theirs]
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
    )


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
