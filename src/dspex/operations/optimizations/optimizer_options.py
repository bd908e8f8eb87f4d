"""The optimizer options that API callers may set, each with its type and bounds; all others are rejected.

The optimizers of dspy have more options: output folders, threads, other models, functions. Only an
operator can set those, by calling `DspyBackend.optimize_program` from Python.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from dspex.error_text import shorten

Part = Literal["options", "compile"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """The accepted values of one option, in words and as a check."""

    words: str
    fits: Callable[[object], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionProblem:
    """A rejected option: its name and value, the reason, and the accepted values."""

    name: str
    value: object
    message: str
    expected: str


def _whole(low: int, high: int, *, optional: bool = False) -> Option:
    def fits(value: object) -> bool:
        if value is None:
            return optional
        return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high

    return Option(
        words=f"a whole number from {low} to {high}{' or null' if optional else ''}", fits=fits
    )


def _number(low: float, high: float) -> Option:
    def fits(value: object) -> bool:
        is_number = (
            isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        )
        return value is None or (is_number and low <= value <= high)  # type: ignore[operator]

    return Option(words=f"a number from {low:g} to {high:g} or null", fits=fits)


def _choice(*choices: str | None) -> Option:
    names = ", ".join("null" if choice is None else repr(choice) for choice in choices)
    return Option(
        words=f"one of {names}", fits=lambda value: any(value == choice for choice in choices)
    )


def _names(most: int) -> Option:
    def fits(value: object) -> bool:
        return (
            isinstance(value, list)
            and len(value) <= most
            and all(isinstance(name, str) for name in value)
        )

    return Option(words=f"a list of at most {most} texts", fits=fits)


def _text(longest: int) -> Option:
    return Option(
        words=f"a text of at most {longest} characters",
        fits=lambda value: value is None or (isinstance(value, str) and len(value) <= longest),
    )


_FLAG = Option(words="true or false", fits=lambda value: isinstance(value, bool))
_ASSIGNMENT = Option(
    words="an object of values by variable, or null",
    fits=lambda value: value is None or (isinstance(value, dict) and len(value) <= 256),
)
_DEMOS = _whole(0, 256)
_SEED = _whole(0, 2**31 - 1)
_SIZE = _whole(1, 1000)
_ROWS = _whole(1, 1_000_000)
_SCORE = _number(-1e9, 1e9)
_HEAT = _number(0, 2)
_EFFORT = _choice("light", "medium", "heavy", None)
Table = Mapping[str, Mapping[str, Option]]

NATIVE: Table = {
    "LabeledFewShot": {
        "k": _DEMOS,
        "per_class": _whole(0, 256, optional=True),
        "by": _text(200),
        "candidates": _SIZE,
    },
    "BootstrapFewShot": {
        "max_bootstrapped": _DEMOS,
        "max_labelled": _DEMOS,
        "threshold": _SCORE,
        "rounds": _whole(1, 100),
        "teacher": _ASSIGNMENT,
    },
    "RandomSearch": {
        "candidates": _SIZE,
        "first_rows": _whole(1, 1_000_000, optional=True),
        "heat": _whole(1, 1000),
    },
    "MIPROv2": {
        "trials": _SIZE,
        "minibatch": _ROWS,
        "full_every": _SIZE,
        "instructions": _whole(0, 100),
        "sets": _whole(0, 100),
    },
    "Joint": {
        "trials": _SIZE,
        "cohort": _SIZE,
        "first_rows": _ROWS,
        "keep": _SIZE,
        "objectives": _names(16),
        "instructions": _whole(0, 100),
        "sets": _whole(0, 100),
        "only": _names(256),
    },
}
_BOOTSTRAP: Mapping[str, Option] = {
    "metric_threshold": _SCORE,
    "max_bootstrapped_demos": _DEMOS,
    "max_labeled_demos": _DEMOS,
    "max_rounds": _whole(1, 100),
    "max_errors": _whole(0, 1_000_000, optional=True),
}
DSPY: Table = {
    "LabeledFewShot": {"k": _DEMOS},
    "BootstrapFewShot": _BOOTSTRAP,
    "BootstrapFewShotWithRandomSearch": {
        **_BOOTSTRAP,
        "num_candidate_programs": _SIZE,
        "stop_at_score": _SCORE,
    },
    "BootstrapFewShotWithOptuna": {
        **{
            name: option
            for name, option in _BOOTSTRAP.items()
            if name not in {"metric_threshold", "max_errors"}
        },
        "num_candidate_programs": _SIZE,
    },
    "COPRO": {"breadth": _whole(2, 100), "depth": _whole(1, 100), "init_temperature": _HEAT},
    "MIPROv2": {
        **{name: option for name, option in _BOOTSTRAP.items() if name != "max_rounds"},
        "auto": _EFFORT,
        "num_candidates": _whole(1, 1000, optional=True),
        "seed": _SEED,
        "init_temperature": _HEAT,
    },
    "SIMBA": {
        "bsize": _SIZE,
        "num_candidates": _SIZE,
        "max_steps": _SIZE,
        "max_demos": _DEMOS,
        "demo_input_field_maxlen": _whole(1, 10_000_000),
        "temperature_for_sampling": _HEAT,
        "temperature_for_candidates": _HEAT,
    },
    "InferRules": {**_BOOTSTRAP, "num_candidates": _SIZE, "num_rules": _whole(1, 100)},
    "GEPA": {
        "auto": _EFFORT,
        "max_full_evals": _whole(1, 10_000, optional=True),
        "max_metric_calls": _whole(1, 1_000_000, optional=True),
        "reflection_minibatch_size": _SIZE,
        "candidate_selection_strategy": _choice("pareto", "current_best"),
        "component_selector": _choice("round_robin", "all"),
        "skip_perfect_score": _FLAG,
        "add_format_failure_as_feedback": _FLAG,
        "use_merge": _FLAG,
        "max_merge_invocations": _whole(0, 1000, optional=True),
        "failure_score": _SCORE,
        "perfect_score": _SCORE,
        "seed": _SEED,
    },
}
DSPY_COMPILE: Table = {
    "LabeledFewShot": {"sample": _FLAG},
    "BootstrapFewShotWithRandomSearch": {"labeled_sample": _FLAG},
    "BootstrapFewShotWithOptuna": {"max_demos": _DEMOS},
    "MIPROv2": {
        "num_trials": _whole(1, 10_000, optional=True),
        "max_bootstrapped_demos": _whole(0, 256, optional=True),
        "max_labeled_demos": _whole(0, 256, optional=True),
        "seed": _SEED,
        "minibatch": _FLAG,
        "minibatch_size": _ROWS,
        "minibatch_full_eval_steps": _SIZE,
        "program_aware_proposer": _FLAG,
        "data_aware_proposer": _FLAG,
        "view_data_batch_size": _SIZE,
        "tip_aware_proposer": _FLAG,
        "fewshot_aware_proposer": _FLAG,
    },
    "SIMBA": {"seed": _SEED},
}


def option_problem(
    optimizer: str, options: Mapping[str, Any], *, part: Part, on_dspy: bool
) -> OptionProblem | None:
    """Return the first option that is not allowed, or None."""
    if part == "options":
        available = (DSPY if on_dspy else NATIVE).get(optimizer, {})
    else:
        available = DSPY_COMPILE.get(optimizer, {}) if on_dspy else {}
    where = "dspy's " if on_dspy else ""
    expected = (
        "; ".join(f"{name}: {option.words}" for name, option in available.items()) or "nothing"
    )
    for name, value in options.items():
        if name not in available:
            message = (
                f"{where}{optimizer} does not accept {part} {name!r} from callers. It accepts: "
                f"{expected}"
            )
            return OptionProblem(name=str(name), value=value, message=message, expected=expected)
        if not available[name].fits(value):
            words = available[name].words
            message = f"{shorten(value)} is not {words}. {where}{optimizer} accepts: {expected}"
            return OptionProblem(name=name, value=value, message=message, expected=words)
    return None


def caller_problem(
    optimizer: str, options: Mapping[str, Any], *, part: Part
) -> OptionProblem | None:
    """Return an option that neither the native nor the dspy optimizer of this name accepts, or None."""
    problems = [
        option_problem(optimizer, options, part=part, on_dspy=on_dspy) for on_dspy in (False, True)
    ]
    rejections = [problem for problem in problems if problem is not None]
    if len(rejections) < len(problems):
        return None
    native, dspy = rejections
    return dspy if part == "compile" else _both(native, dspy)


def _both(native: OptionProblem, dspy: OptionProblem) -> OptionProblem:
    return OptionProblem(
        name=native.name,
        value=native.value,
        message=f"{native.message}. On dspy: {dspy.message}",
        expected=native.expected,
    )
