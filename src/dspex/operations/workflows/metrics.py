"""Metrics by name."""

from collections.abc import Sequence

from dspex.errors import DefinitionError
from dspex.execution.modules.code import CodeRoot
from dspex.learning.evaluation import Metric
from dspex.learning.evaluation.metrics import METRICS
from dspex.operations.resources.jobs import check_metric, target_of


def metric_named(name: str, code: CodeRoot | None) -> Metric:
    """Return a metric by its name, or the function behind "module:function" in the code root.

    Raises:
        DefinitionError: the metric is unknown or not a function.
    """
    problem = check_metric(name, code)
    if problem is not None:
        raise DefinitionError(problem)
    if name in METRICS or code is None:
        return METRICS[name]
    metric: Metric = code.load(name)
    if not callable(metric):
        raise DefinitionError(
            f"{name!r} is not a function; a metric is a function of (example, prediction)"
        )
    return metric


def metrics_named(names: Sequence[str], code: CodeRoot | None) -> dict[str, Metric]:
    """Return metrics by what reports call them: the name before "=" where there is one, else a function's own."""
    metrics = {}
    for name in names:
        target = target_of(name)
        metrics[name.partition("=")[0].rpartition(":")[2]] = metric_named(target, code)
    return metrics
