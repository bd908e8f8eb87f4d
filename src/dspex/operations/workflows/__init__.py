"""What jobs do: evaluate, optimize. Handlers for the machinery in `jobs`; only `bootstrap` and tests make them."""

from dspex.learning.evaluation.metrics import METRICS
from dspex.operations.workflows.evaluating import EvaluationHandler
from dspex.operations.workflows.ground import Ground
from dspex.operations.workflows.metrics import metric_named
from dspex.operations.workflows.optimizing import OptimizationHandler

__all__ = ["METRICS", "EvaluationHandler", "Ground", "OptimizationHandler", "metric_named"]
