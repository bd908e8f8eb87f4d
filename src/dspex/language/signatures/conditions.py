"""Checks of output values, written as functions."""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from dspex.errors import SignatureError

Condition = Callable[[Any], object]
Conditions = Condition | tuple[Condition, str] | list[Condition | tuple[Condition, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldCheck:
    """A function that checks the value of an output.

    It is stored as its import path, `target`; `function` is None after reading from data until it
    is loaded. A check that is not `is_required` is a suggestion. Equality ignores `function`.
    """

    target: str
    message: str = ""
    is_required: bool = True
    function: Condition | None = field(default=None, compare=False, repr=False)

    def complaint(self, value: object) -> str | None:
        """Return what is wrong with `value`, or None if it passes.

        It fails if the function returns a false value other than None, or raises `ValueError` or
        `AssertionError`. Any other exception is a bug in the function and propagates.
        """
        if self.function is None:
            raise SignatureError(f"the check {self.target!r} is code that was not loaded")
        try:
            result = self.function(value)
        except (ValueError, AssertionError) as error:
            return self.message or str(error) or f"{type(error).__name__} in {self.name}"
        if result is None or result:
            return None
        return self.message or f"it does not pass {self.name}"

    @property
    def name(self) -> str:
        """The name of the function without its module."""
        return self.target.rpartition(":")[2].rpartition(".")[2]


def field_checks(checks: Conditions | None, *, is_required: bool) -> tuple[FieldCheck, ...]:
    """Return the checks for `Output(check=...)`.

    Args:
        checks: a function, `(function, message)`, or a list of these.
        is_required: whether they are checks or suggestions.

    Raises:
        SignatureError: `checks` is something else.
    """
    return tuple(
        FieldCheck(
            target=_target(function),
            message=message,
            is_required=is_required,
            function=function,
        )
        for function, message in _pairs(checks)
    )


def _target(function: Condition) -> str:
    owner = getattr(function, "__objclass__", type(function))  # `str` for `str.istitle`
    module = getattr(function, "__module__", None) or owner.__module__
    return f"{module}:{getattr(function, '__qualname__', type(function).__qualname__)}"


def _pairs(checks: Any) -> Iterator[tuple[Condition, str]]:
    if checks is None:
        return
    for item in checks if isinstance(checks, list) else [checks]:
        function, message = item if isinstance(item, tuple) and len(item) == 2 else (item, "")
        if (
            not callable(function)
            or not isinstance(message, str)
            or inspect.iscoroutinefunction(function)
        ):
            raise SignatureError(
                f"a check is a plain function of the value, or (function, message), not {item!r}; "
                "write `check=is_short` or `check=(is_short, 'use at most five words')`"
            )
        yield function, message
