"""Evaluation: datasets, metrics, judges, reports, intervals and comparisons.

`evaluate(program, dataset, metric)` returns a `Report` with one row per example; `await
aevaluate(...)` does so in async code. `compare(after, before)` is a paired test of two reports on
the same dataset.
"""

from dspex.execution.backends import BackendModule
from dspex.learning.evaluation.comparison import Comparison, Majority, compare, majority_class
from dspex.learning.evaluation.dataset import Dataset
from dspex.learning.evaluation.evaluate import aevaluate, evaluate
from dspex.learning.evaluation.judge import Judge, judged
from dspex.learning.evaluation.metric import Metric, exact_match
from dspex.learning.evaluation.report import Report, Row, constant
from dspex.learning.evaluation.statistics import Interval, bootstrap, wilson
from dspex.learning.evaluation.text_metrics import contains, f1

__all__ = [
    "BackendModule",
    "Comparison",
    "Dataset",
    "Interval",
    "Judge",
    "Majority",
    "Metric",
    "Report",
    "Row",
    "aevaluate",
    "bootstrap",
    "compare",
    "constant",
    "contains",
    "evaluate",
    "exact_match",
    "f1",
    "judged",
    "majority_class",
    "wilson",
]
