"""What is better: a function from a row and a prediction to a number."""

import inspect
import math
from collections.abc import Mapping
from typing import Protocol, SupportsFloat

import msgspec

from dspex.errors import ConfigurationError, DefinitionError, describe, shorten
from dspex.language.records import Example, Prediction
from dspex.learning.evaluation.plain import plain

_ASKS = (
    "a metric waits for nothing: let what has to wait, such as asking a model, be a step of the program, as "
    "`dspex.learning.evaluation.judge.Judge` does"
)


class Metric(Protocol):
    """A plain synchronous function; more is better, True is 1. It runs inline, so it does not wait for anything.

    Whatever it raises ends the evaluation as a `DefinitionError`: a broken metric is never a low score.
    """

    def __call__(self, example: Example, prediction: Prediction, /) -> float:
        """Return the score of `prediction` on `example`."""
        ...


def exact_match(example: Example, prediction: Prediction) -> float:
    """Return 1 where every field that both sides have is the same, else 0.

    Text is compared without the white space around it; a number or truth value may be written as text on either side,
    as it is in a csv, and a model, a member of an enum or another typed value as the JSON that it is of.

    Raises:
        DefinitionError: they have no field in common.
    """
    common = [name for name in prediction if name in example]
    if not common:
        raise DefinitionError(
            f"nothing to compare: the prediction has {', '.join(prediction) or 'no fields'}, and the example has "
            f"{', '.join(example) or 'no fields'}"
        )
    return float(all(_same(example[name], prediction[name]) for name in common))


def _same(expected: object, actual: object) -> bool:
    try:
        expected_value, actual_value = plain(expected), plain(actual)
    except ValueError:  # of a class that has no JSON form
        return bool(expected == actual)
    if isinstance(expected_value, str) and isinstance(actual_value, str):
        return expected_value.strip() == actual_value.strip()
    if isinstance(expected_value, str):
        return bool(_read(expected_value) == actual_value)
    if isinstance(actual_value, str) and isinstance(expected_value, bool | int | float):
        return bool(_read(actual_value) == expected_value)
    return bool(expected_value == actual_value)


def _read(text: str) -> object:
    try:
        return msgspec.json.decode(text.strip().lower() if text.strip().lower() in {"true", "false"} else text)
    except msgspec.DecodeError:
        return text.strip() or None


def metric_name(metric: Metric) -> str:
    """Return what reports call `metric`: its own name, or that of its class."""
    return str(getattr(metric, "__name__", type(metric).__name__))


def score_of(metric: Metric, example: Example, prediction: Prediction) -> float:
    """Return the score as a finite float.

    Raises:
        DefinitionError: the metric raised, read a field that is not there, or returned no number.
    """
    name = metric_name(metric)
    try:
        value = metric(example, prediction)
    except (AttributeError, KeyError) as error:
        raise DefinitionError(
            f"the metric {name!r} reads something that is not there ({describe(error)}): the program produces "
            f"{_names(prediction)}, and the example has {_names(example)}"
        ) from error
    except (Exception, SystemExit) as error:
        if type(error) is DefinitionError:  # it says what is wrong itself, as `exact_match` does
            raise
        asks = f"; {_ASKS}" if isinstance(error, ConfigurationError) else ""
        raise DefinitionError(f"the metric {name!r} raised: {describe(error)}{asks}") from error
    if (score := _finite(value)) is not None:
        return score
    raise DefinitionError(f"the metric {name!r} returned {shorten(value)}; return a finite number or a truth value")


def _finite(value: object) -> float | None:
    """Return a number of any kind (one of NumPy, a fraction) as a float; None if it is not a finite number."""
    if not isinstance(value, SupportsFloat):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def check_metric(name: str, metric: object) -> None:
    """Check that `metric` is a synchronous function, before anything is spent.

    Raises:
        DefinitionError: it is not a function, or it is asynchronous.
    """
    if not callable(metric):
        raise DefinitionError(
            f"the metric {name!r} is {shorten(metric)}, not a function; a metric takes (example, prediction), and "
            "several are given by name: {'right': right, 'brief': brief}"
        )
    call = metric if inspect.isroutine(metric) else getattr(metric, "__call__", None)  # noqa: B004  # of an object
    if inspect.iscoroutinefunction(inspect.unwrap(metric)) or inspect.iscoroutinefunction(call):
        raise DefinitionError(f"the metric {name!r} is async, and metrics run inline; {_ASKS}")


def _names(values: Mapping[str, object]) -> str:
    return ", ".join(values) or "no fields"
