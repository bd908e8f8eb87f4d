"""Evaluation: datasets, metrics, judges, reports, intervals and comparisons.

`evaluate(program, dataset, metric)` returns a `Report` with one row per example; `await
aevaluate(...)` does so in async code. `compare(after, before)` is a paired test of two reports on
the same dataset.
"""

import dspex.learning.evaluation.metrics as metrics  # in this form pyright follows `__all__`
from dspex.execution.backends import BackendModule
from dspex.learning.evaluation.breakdown import agreement, pass_rate, slices
from dspex.learning.evaluation.comparison import Comparison, MajorityClass, compare, majority_class
from dspex.learning.evaluation.dataset import Dataset
from dspex.learning.evaluation.evaluate import aevaluate, evaluate
from dspex.learning.evaluation.judge import Groundedness, Judge, SemanticF1
from dspex.learning.evaluation.judge_variance import judge_variance
from dspex.learning.evaluation.metric import Metric
from dspex.learning.evaluation.metrics import *  # noqa: F403  # whatever is registered
from dspex.learning.evaluation.progress_display import ProgressDisplay
from dspex.learning.evaluation.rag import RagReport, aevaluate_rag, evaluate_rag
from dspex.learning.evaluation.report import Report, Row, constant
from dspex.learning.statistics import Interval, bootstrap, wilson

__all__ = [
    "BackendModule",
    "Comparison",
    "Dataset",
    "Groundedness",
    "Interval",
    "Judge",
    "MajorityClass",
    "Metric",
    "ProgressDisplay",
    "RagReport",
    "Report",
    "Row",
    "SemanticF1",
    "aevaluate",
    "aevaluate_rag",
    "agreement",
    "bootstrap",
    "compare",
    "constant",
    "evaluate",
    "evaluate_rag",
    "judge_variance",
    "majority_class",
    "pass_rate",
    "slices",
    "wilson",
]
__all__ += metrics.__all__
