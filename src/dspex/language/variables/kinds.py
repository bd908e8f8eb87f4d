"""Functions that declare variables: `Float(0, 1.5)`, `Choice("chat", "json")`."""

from collections.abc import Sequence
from typing import Any

from dspex.language.variables.expression import Expression
from dspex.language.variables.variable import Variable


def Float(low: float, high: float, **more: Any) -> Variable:  # noqa: N802  # the other parts of a Variable
    """Declare a number between two inclusive limits, optionally with `log=True` or `precision=2`.

    Raises:
        VariableError: no number satisfies it.
    """
    default = more.pop("default", None)
    return Variable(
        kind="float", low=low, high=high, default=low if default is None else default, **more
    )


def Integer(low: int, high: int, **more: Any) -> Variable:  # noqa: N802
    """Declare an integer between two inclusive limits; `step=4` counts from the lower one.

    Raises:
        VariableError: no number satisfies it.
    """
    default = more.pop("default", None)
    return Variable(
        kind="integer", low=low, high=high, default=low if default is None else default, **more
    )


def Boolean(*, default: bool = False, **more: Any) -> Variable:  # noqa: N802
    """Declare a switch between true and false."""
    return Variable(kind="boolean", default=default, **more)


def Choice(*options: Any, **more: Any) -> Variable:  # noqa: N802
    """Declare a choice between JSON values; the first is the default.

    Raises:
        VariableError: there are no options, or two are equal.
    """
    default = more.pop("default", options[0] if options else None)
    return Variable(kind="choice", options=options, default=default, **more)


def Text(default: str | None = None, *, options: Sequence[str] = (), **more: Any) -> Variable:  # noqa: N802
    """Declare a text such as instructions; `options` are candidate texts."""
    return Variable(kind="text", default=default, options=tuple(options), **more)


def Examples(**more: Any) -> Variable:  # noqa: N802
    """Declare demonstrations: a list of examples."""
    return Variable(kind="examples", **more)


def Composite(compute: Expression, **more: Any) -> Variable:  # noqa: N802
    """Declare a value that is computed from other variables: `Composite(var("k") * 64)`."""
    return Variable(kind="composite", compute=compute, **more)
