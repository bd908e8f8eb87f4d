"""The metrics that go by a name, in every surface and in jobs."""

from collections.abc import Mapping

from dspex.learning.evaluation.judge import judged
from dspex.learning.evaluation.matching import contains, f1
from dspex.learning.evaluation.metric import Metric, exact_match

METRICS: Mapping[str, Metric] = {"exact_match": exact_match, "contains": contains, "f1": f1, "judged": judged}
