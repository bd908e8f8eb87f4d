"""Intervals, paired and sequential tests, effect sizes and sample sizes, in pure Python.

Evaluation, optimizers and everything above them judge by these. What each one assumes is in its
docstring; `intervals` and `paired_tests` are for one look at the data, `sequences` and
`bounded_mean` for any number of looks.
"""

from dspex.learning.statistics.bounded_mean import BoundedMean, BoundedMeanTest
from dspex.learning.statistics.holm import holm
from dspex.learning.statistics.intervals import (
    Interval,
    bootstrap,
    mean_interval,
    t_interval,
    welch,
    wilson,
)
from dspex.learning.statistics.paired_tests import mcnemar, sign_flip
from dspex.learning.statistics.sample import Sample
from dspex.learning.statistics.sequences import (
    difference_sequence,
    mean_sequence,
    proportion_difference_sequence,
    proportion_sequence,
)

__all__ = [
    "BoundedMean",
    "BoundedMeanTest",
    "Interval",
    "Sample",
    "bootstrap",
    "difference_sequence",
    "holm",
    "mcnemar",
    "mean_interval",
    "mean_sequence",
    "proportion_difference_sequence",
    "proportion_sequence",
    "sign_flip",
    "t_interval",
    "welch",
    "wilson",
]
