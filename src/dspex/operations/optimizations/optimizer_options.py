"""Checks the options that API callers give to optimizers."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from dspex.learning.optimizers.dspy_options import DSPY_OPTIMIZERS
from dspex.learning.optimizers.options import Option, OptionProblem, find_problem
from dspex.learning.optimizers.registry import OPTIMIZERS

Part = Literal["options", "compile"]
PARTS: tuple[Part, ...] = ("options", "compile")


def option_problem(
    optimizer: str, options: Mapping[str, Any], *, part: Part, on_dspy: bool
) -> OptionProblem | None:
    """Return the first option that is not allowed, or None."""
    available: Mapping[str, Option] = {}
    if on_dspy and optimizer in DSPY_OPTIMIZERS:
        entry = DSPY_OPTIMIZERS[optimizer]
        available = entry.options if part == "options" else entry.compile
    elif not on_dspy and optimizer in OPTIMIZERS and part == "options":
        available = OPTIMIZERS[optimizer].options
    subject = f"dspy's {optimizer}" if on_dspy else optimizer
    return find_problem(options, available, part=part, subject=subject)


def caller_problem(
    optimizer: str, options: Mapping[str, Any], *, part: Part
) -> OptionProblem | None:
    """Return an option that neither dspex nor dspy accepts for this optimizer, or None.

    Which of them runs the job depends on the backend of the program.
    """
    native, dspy = (
        option_problem(optimizer, options, part=part, on_dspy=on_dspy) for on_dspy in (False, True)
    )
    if native is None or dspy is None:
        return None
    if part == "compile":
        return dspy
    return replace(native, message=f"{native.message}. On dspy: {dspy.message}")
