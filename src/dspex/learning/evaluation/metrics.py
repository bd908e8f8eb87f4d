"""The metrics that surfaces and jobs can name."""

from collections.abc import Mapping

from dspex.learning.evaluation.judge import judged
from dspex.learning.evaluation.metric import Metric, exact_match
from dspex.learning.evaluation.text_metrics import contains, f1

METRICS: Mapping[str, Metric] = {
    "exact_match": exact_match,
    "contains": contains,
    "f1": f1,
    "judged": judged,
}
