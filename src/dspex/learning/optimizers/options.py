"""The options of optimizers that callers of the API and the command line may set."""

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dspex.error_text import shorten
from dspex.learning.optimizers.proposer import Optimizer


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """The accepted values of one option, in words and as a check.

    `flag` is the flag of `dspex optimize` that sets it, if it has one; `--option` sets any option.
    """

    words: str
    fits: Callable[[object], bool]
    flag: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionProblem:
    """A rejected option: its name and value, the reason, and the accepted values."""

    name: str
    value: object
    message: str
    expected: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DspyOptions:
    """The options of an optimizer of dspy: of its constructor, and of its `compile`."""

    options: Mapping[str, Option]
    compile: Mapping[str, Option] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerEntry:
    """An optimizer in the registry: its class, and the options that callers may set.

    `extra` is the extra of the package that it needs.
    """

    create: Callable[..., Optimizer]
    options: Mapping[str, Option]
    extra: str = ""

    @property
    def name(self) -> str:
        """The name on every surface: that of its class."""
        return self.create.__name__

    @property
    def summary(self) -> str:
        """One sentence on what it tries: the first line of its docstring."""
        return (inspect.getdoc(self.create) or "").partition("\n")[0]

    def option_of(self, flag: str) -> str | None:
        """Return the option that a flag of `dspex optimize` sets, if there is one."""
        return next((name for name, option in self.options.items() if option.flag == flag), None)


def find_problem(
    options: Mapping[str, Any], available: Mapping[str, Option], *, part: str, subject: str
) -> OptionProblem | None:
    """Return the first option that is not available or does not fit, or None."""
    words = {name: option.words for name, option in available.items()}
    expected = "; ".join(f"{name}: {text}" for name, text in words.items()) or "nothing"
    for name, value in options.items():
        if name not in available:
            message = (
                f"{subject} does not accept {part} {name!r} from callers. It accepts: {expected}"
            )
            return OptionProblem(name=str(name), value=value, message=message, expected=expected)
        if not available[name].fits(value):
            message = f"{shorten(value)} is not {words[name]}. {subject} accepts: {expected}"
            return OptionProblem(name=name, value=value, message=message, expected=words[name])
    return None


def whole_number(low: int, high: int, *, optional: bool = False, flag: str = "") -> Option:
    """Accept a whole number."""

    def fits(value: object) -> bool:
        if value is None:
            return optional
        return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high

    words = f"a whole number from {low} to {high}{' or null' if optional else ''}"
    return Option(words=words, fits=fits, flag=flag)


def number(low: float, high: float) -> Option:
    """Accept a number or null."""

    def fits(value: object) -> bool:
        if value is None:
            return True
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return is_number and math.isfinite(value) and low <= value <= high  # type: ignore[arg-type,operator]

    return Option(words=f"a number from {low:g} to {high:g} or null", fits=fits)


def choice(*choices: str | None) -> Option:
    """Accept one of several texts or null."""
    names = ", ".join("null" if item is None else repr(item) for item in choices)
    return Option(
        words=f"one of {names}", fits=lambda value: any(value == item for item in choices)
    )


def text_list(most: int, *, flag: str = "") -> Option:
    """Accept a list of texts."""

    def fits(value: object) -> bool:
        return (
            isinstance(value, list)
            and len(value) <= most
            and all(isinstance(name, str) for name in value)
        )

    return Option(words=f"a list of at most {most} texts", fits=fits, flag=flag)


def short_text(longest: int) -> Option:
    """Accept a text or null."""
    return Option(
        words=f"a text of at most {longest} characters",
        fits=lambda value: value is None or (isinstance(value, str) and len(value) <= longest),
    )


FLAG = Option(words="true or false", fits=lambda value: isinstance(value, bool))
ASSIGNMENT = Option(
    words="an object of values by variable, or null",
    fits=lambda value: value is None or (isinstance(value, dict) and len(value) <= 256),
)
DEMOS = whole_number(0, 256)
SIZE = whole_number(1, 1000)
TRIALS = whole_number(1, 1000, flag="trials")
ROWS = whole_number(1, 1_000_000)
SCORE = number(-1e9, 1e9)
