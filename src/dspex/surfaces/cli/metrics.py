"""Metrics and judges as the options of commands name them."""

from collections.abc import Sequence

import click

from dspex.errors import DefinitionError
from dspex.execution.modules import CodeRoot
from dspex.learning.evaluation import Metric
from dspex.learning.evaluation.judge import JudgeMetric
from dspex.learning.evaluation.metric import metric_name
from dspex.learning.evaluation.metrics import METRICS
from dspex.operations.evaluations.metrics import JUDGE
from dspex.surfaces.cli.complete import complete_target
from dspex.surfaces.cli.targets import Target, find_target

metric_option = click.option(
    "--metric",
    "--metrics",
    "metric",
    multiple=True,
    help=f"{', '.join(METRICS)} or file.py:function; repeated, or separated by commas. The first "
    "is the main one.",
)

judge_option = click.option(
    "--judge",
    shell_complete=complete_target,
    help="A program that scores the answers and says why, as a TARGET: another metric, or the "
    "only one.",
)

judge_model_option = click.option(
    "--judge-model", help="The model of a judge that names none; that of the program by default."
)


def find_judge(text: str | None, model: str | None, code: CodeRoot) -> Target | None:
    """Return the target of `--judge`.

    Raises:
        DefinitionError: it is not a target, or there is a model and no judge.
    """
    if text is None and model is not None:
        raise DefinitionError("--judge-model is the model of --judge; give --judge too")
    return None if text is None else find_target(text, code)


def metrics_of(
    texts: Sequence[str], code: CodeRoot, *, judge: Target | None = None
) -> dict[str, Metric | JudgeMetric]:
    """Return metrics by name; without `texts` and judge, exact_match.

    Raises:
        DefinitionError: a metric is unknown, or two metrics have the same name.
    """
    metrics = [_metric_of(text, code) for text in _metric_texts(texts, judge)]
    names = [metric_name(metric) for metric in metrics]
    names += [] if judge is None else [judge.name]
    if len(set(names)) < len(names):
        raise DefinitionError(f"two metrics have the same name: {', '.join(names)}")
    return dict(zip(names, metrics, strict=False))


def metric_targets(texts: Sequence[str], judge: Target | None) -> list[str]:
    """Return metrics as they are stored: built-in names, "module:function" and the judge."""
    targets = [
        text if text in METRICS else _code_target(text) for text in _metric_texts(texts, judge)
    ]
    return [*targets, *([] if judge is None else [f"{judge.name}={JUDGE}"])]


def _metric_texts(texts: Sequence[str], judge: Target | None) -> list[str]:
    defaults = ("exact_match",) if judge is None else ()
    parts = [part.strip() for text in texts or defaults for part in text.split(",")]
    return [part for part in parts if part]


def _code_target(text: str) -> str:
    place, _, name = text.rpartition(":")
    return f"{place.removesuffix('.py').replace('/', '.')}:{name}"


def _metric_of(text: str, code: CodeRoot) -> Metric:
    """Return a registered metric, or a function from the code root.

    Raises:
        DefinitionError: the metric is unknown.
    """
    if text in METRICS:
        return METRICS[text]
    if ":" not in text:
        raise DefinitionError(
            f"unknown metric {text!r}; use {', '.join(METRICS)}, or file.py:function"
        )
    function: Metric = code.load(_code_target(text))
    if not callable(function):
        raise DefinitionError(
            f"{text!r} is not a function; a metric is a function of (example, prediction)"
        )
    return function
