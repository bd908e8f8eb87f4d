"""Paired comparison of two programs on the same rows."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal

from dspex.arguments import checks_values
from dspex.errors import DefinitionError
from dspex.learning.evaluation.dataset import Dataset
from dspex.learning.evaluation.report import Report
from dspex.learning.statistics import Interval, bootstrap, mcnemar, sign_flip
from dspex.notebook import lazy_html

SMALL_DIFFERENCE = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The mean difference of a score on the common rows, with its interval and p-value.

    `left_out` rows failed for either program and are not compared. The difference is significant if
    the p-value is below `alpha`.
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
        """Whether the whole interval is above zero and the paired test is significant."""
        return self.interval.low > 0 and self.p_value < self.alpha

    @property
    def because(self) -> str:
        """The reason why the improvement is significant or not, in a few words."""
        if self.is_better:
            return f"the interval is above 0 and p is below {self.alpha:g}"
        reasons = [] if self.interval.low > 0 else ["the interval is not above 0"]
        reasons += [] if self.p_value < self.alpha else [f"p is not below {self.alpha:g}"]
        return " and ".join(reasons)

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

    _repr_html_ = lazy_html("dspex.learning.evaluation.representation:comparison_html")

    def __str__(self) -> str:
        left_out = f", {self.left_out} failed rows left out" if self.left_out else ""
        how = f"{self.test}, {self.pairs} pairs{left_out}"
        return f"{_with_interval(self.difference, self.interval)}, p = {self.p_value:.2g} ({how})"


@checks_values
def compare(  # options are keyword-only
    report: Report,
    baseline: Report,
    *,
    metric: str | None = None,
    confidence: float = 0.95,
    alpha: float = 0.05,
    seed: int = 0,
) -> Comparison:
    """Compare `report` with `baseline` row by row; a positive difference favors `report`.

    The interval is a bootstrap over pairs. The test is McNemar's exact test if all scores are 0 or
    1, otherwise a permutation test. Examples that failed in either report are left out
    (`left_out`); `pairs` remain. An example that ran several times counts once, with its mean.

    Raises:
        DefinitionError: the reports are on different rows, or no row has a score in both.
    """
    if report.checksum != baseline.checksum:
        raise DefinitionError(
            f"the reports are on different data ({report.dataset!r} and {baseline.dataset!r}); "
            "evaluate both programs on the same dataset"
        )
    name = metric or report.metrics[0]
    return compare_values(
        report.by_example(name),
        baseline.by_example(name),
        of=len({row.index for row in report.rows}),
        confidence=confidence,
        alpha=alpha,
        seed=seed,
    )


def compare_values(  # options are keyword-only
    scores: Mapping[int, float],
    baseline: Mapping[int, float],
    *,
    of: int,
    confidence: float = 0.95,
    alpha: float = 0.05,
    seed: int = 0,
) -> Comparison:
    """Compare two scores by row, where more is better; see `compare`.

    Args:
        scores: the scores by row index.
        baseline: the scores to compare with, by row index.
        of: the number of rows, failed ones included.
        confidence: of the interval.
        alpha: the significance level.
        seed: of the bootstrap and the permutations.

    Raises:
        DefinitionError: no row has both scores, or `alpha` is not between 0 and 1.
    """
    if not 0 < alpha < 1:
        raise DefinitionError(
            f"alpha is a probability between 0 and 1, such as 0.05, not {alpha!r}"
        )
    pairs = [(scores[index], baseline[index]) for index in scores if index in baseline]
    if not pairs:
        raise DefinitionError("no row has a score in both reports, so there is nothing to compare")
    differences = [score - reference for score, reference in pairs]
    is_binary = all(score in {0.0, 1.0} for pair in pairs for score in pair)
    better, worse = sum(d > 0 for d in differences), sum(d < 0 for d in differences)
    return Comparison(
        difference=fmean(differences),
        interval=bootstrap(differences, confidence=confidence, seed=seed),
        p_value=mcnemar(better, worse) if is_binary else sign_flip(differences, seed=seed),
        test="mcnemar" if is_binary else "permutation",
        pairs=len(pairs),
        alpha=alpha,
        left_out=of - len(pairs),
    )


def _with_interval(difference: float, interval: Interval) -> str:
    """Return a difference and its interval, small values (dollars per row) with more digits."""
    if difference and abs(difference) < SMALL_DIFFERENCE:
        return f"{difference:+.2g} [{interval.low:.2g}, {interval.high:.2g}]"
    return f"{difference:+.2f} {interval}"


@dataclass(frozen=True, slots=True, kw_only=True)
class MajorityClass:
    """The most frequent value of a field, and its share of the rows."""

    value: object
    share: float


@checks_values
def majority_class(dataset: Dataset, field: str) -> MajorityClass:
    """Return the most frequent value of `field`; of equally frequent ones the first.

    Raises:
        DefinitionError: a row does not have the field.
    """
    column = dataset.column(field)
    counts = Counter(map(repr, column))
    winner = max(column, key=lambda value: counts[repr(value)])
    return MajorityClass(value=winner, share=counts[repr(winner)] / len(column))
