"""Metrics by name."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from dspex.error_text import suggest
from dspex.errors import DefinitionError
from dspex.execution.modules.code import CodeRoot
from dspex.learning.evaluation import Metric
from dspex.learning.evaluation.judge import JudgeMetric
from dspex.learning.evaluation.metrics import METRICS

JUDGE = "judge"  # the target of the stored metric that is the judge of its job


@dataclass(frozen=True, slots=True)
class RegisteredMetrics:
    """The metrics of the settings: functions in the code root ("module:function") by name."""

    targets: Mapping[str, str]


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


def metrics_named(
    names: Sequence[str], code: CodeRoot | None, *, judge: Callable[[str], JudgeMetric]
) -> dict[str, Metric | JudgeMetric]:
    """Return metrics by their names in reports; `judge` returns the judge by its name."""
    return {
        name: judge(name) if target == JUDGE else metric_named(target, code)
        for name, target in ((report_name(metric), target_of(metric)) for metric in names)
    }


def report_name(metric: str) -> str:
    """Return the name of a stored metric in reports: before "=", or that of the function."""
    return metric.rpartition("=")[0] or metric.rpartition(":")[2]


def target_of(metric: str) -> str:
    """Return the target of a stored metric: a built-in name, "module:function", or `JUDGE`."""
    return metric.rpartition("=")[2]


def check_metric(name: object, code: CodeRoot | None) -> str | None:
    """Return what is wrong with the name of a metric, or None. Nothing is imported."""
    if not isinstance(name, str):
        return f"a metric name is a text, not {name!r}"
    if name in METRICS:
        return None
    module, colon, function = name.partition(":")
    if not colon:
        return (
            f"there is no metric {name!r}.{suggest(name, METRICS)} Metrics are: "
            f"{', '.join(METRICS)}"
        )
    if code is None:
        return f"{name!r} names code, but this process has no code root; start it with one"
    parts = module.split(".")
    if not function.isidentifier() or not all(part.isidentifier() for part in parts):
        return f"{name!r} is not of the form 'module:function'"
    place = code.folder.joinpath(*parts)
    files = (place.with_suffix(".py"), place / "__init__.py")
    if not any(
        file.is_file() and file.resolve().is_relative_to(code.folder.resolve()) for file in files
    ):
        return f"the code root has no module {module!r}"
    return None
