"""Metrics: functions from an example and a prediction to a score."""

import inspect
import math
from collections.abc import Mapping
from typing import Any, Protocol, SupportsFloat

from typing_extensions import TypeVar

from dspex.error_text import shorten
from dspex.errors import ConfigurationError, DefinitionError, describe
from dspex.language.records import Example, Prediction

_SYNC_ONLY = (
    "a metric cannot await: to score by a model, pass a program in its place, such as "
    "`dspex.evaluation.Judge`"
)


Scored = TypeVar("Scored", default=Any, contravariant=True)
"""The signature class whose outputs a metric reads; `Any` for metrics of all programs."""


class Metric(Protocol[Scored]):
    """A synchronous function; more is better, True is 1. It runs inline and must not block.

    Its errors end the evaluation with a `DefinitionError`: a broken metric is never a low score.
    """

    def __call__(self, example: Example, prediction: Prediction[Scored], /) -> float:
        """Return the score of `prediction` on `example`."""
        ...


def metric_name(metric: Metric) -> str:
    """Return the name of `metric` in reports: its own name, or that of its class."""
    return str(getattr(metric, "__name__", type(metric).__name__))


def score_of(metric: Metric, example: Example, prediction: Prediction) -> float:
    """Return the score as a finite float.

    Raises:
        DefinitionError: the metric raised, read a missing field, or did not return a number.
    """
    try:
        value = metric(example, prediction)
    except (AttributeError, KeyError) as error:
        raise DefinitionError(
            f"the metric {metric_name(metric)!r} reads something that is not there "
            f"({describe(error)}): the program produces {_names(prediction)}, and the example has "
            f"{_names(example)}"
        ) from error
    except (Exception, SystemExit) as error:
        if type(error) is DefinitionError:  # its message is clear, as in `exact_match`
            raise
        hint = f"; {_SYNC_ONLY}" if isinstance(error, ConfigurationError) else ""
        raise DefinitionError(
            f"the metric {metric_name(metric)!r} raised: {describe(error)}{hint}"
        ) from error
    if (score := finite_score(value)) is not None:
        return score
    raise DefinitionError(
        f"the metric {metric_name(metric)!r} returned {shorten(value)}; return a finite number "
        "or a bool"
    )


def finite_score(value: object) -> float | None:
    """Return any number (NumPy, Fraction) as a float; None if it is not a finite number."""
    if not isinstance(value, float | int | SupportsFloat):  # the protocol last: it takes 15 us
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def check_metric(name: str, metric: object) -> None:
    """Check that `metric` is a synchronous function, before the first run.

    Raises:
        DefinitionError: it is not a function, or it is asynchronous.
    """
    if not callable(metric):
        raise DefinitionError(
            f"the metric {name!r} is {shorten(metric)}, not a function; a metric takes (example, "
            "prediction); pass several by name: {'right': right, 'brief': brief}"
        )
    call = metric if inspect.isroutine(metric) else type(metric).__call__
    if inspect.iscoroutinefunction(inspect.unwrap(metric)) or inspect.iscoroutinefunction(call):
        raise DefinitionError(f"the metric {name!r} is async, and metrics run inline; {_SYNC_ONLY}")


def _names(values: Mapping[str, object]) -> str:
    return ", ".join(values) or "no fields"
