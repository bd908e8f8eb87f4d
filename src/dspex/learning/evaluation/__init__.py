"""Evaluation of programs: datasets, metrics, reports, intervals and paired tests.

Imported by optimizers and everything above them.
"""

from dspex.learning.evaluation.comparison import Comparison, MajorityClass, compare, majority_class
from dspex.learning.evaluation.dataset import Dataset
from dspex.learning.evaluation.evaluate import aevaluate, evaluate
from dspex.learning.evaluation.metric import Metric
from dspex.learning.evaluation.metrics import exact_match
from dspex.learning.evaluation.report import Report, Row, constant
from dspex.learning.statistics import Interval, bootstrap, wilson

__all__ = [
    "Comparison",
    "Dataset",
    "Interval",
    "MajorityClass",
    "Metric",
    "Report",
    "Row",
    "aevaluate",
    "bootstrap",
    "compare",
    "constant",
    "evaluate",
    "exact_match",
    "majority_class",
    "wilson",
]
