"""Optuna behind ask and tell: numbers, choices and conditions, for one objective or several."""

import importlib
import random
from collections.abc import Mapping, Sequence
from typing import Any

from dspex.errors import ConfigurationError
from dspex.language.variables import Space, Variable, samples
from dspex.learning.optimizers.limits import figure_of

EXPLORES = 2


def _optuna() -> Any:  # noqa: ANN401  # imported when needed: it takes half a second
    try:
        module = importlib.import_module("optuna")
    except ImportError as error:
        raise ConfigurationError("this optimizer needs Optuna: pip install 'dspex[optimize]'") from error
    module.logging.set_verbosity(module.logging.WARNING)
    return module


class Tuner:
    """Suggests assignments of a space, learning from those told: TPE (Bergstra et al., 2011), seeded.

    The first suggestions are spread evenly over the space. After them, every second one takes its turn through the
    values that conditions read and leaves the rest to TPE: left alone, it may never look again into a branch whose
    first values did badly.

    `choices` are further dimensions by name with the number of their options. Nothing is stored outside of memory: a
    search that is resumed tells everything again.

    Raises:
        ConfigurationError: Optuna is not installed.
    """

    def __init__(
        self, space: Space, *, choices: Mapping[str, int], objectives: int = 1, seed: int = 0, startup: int = 8
    ) -> None:
        """Begin; `startup` suggestions come before the first that is learned."""
        optuna = _optuna()
        with _quiet():
            sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True, n_startup_trials=startup)
        self._study = optuna.create_study(directions=["maximize"] * objectives, sampler=sampler)
        self._complete, self._fail = optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.FAIL
        self._space = space
        self._choices = dict(choices)
        self._open: dict[int, Any] = {}
        self._spread = samples(space, seed=seed, method="quasi")
        self._rng = random.Random(seed)  # noqa: S311  # explores, keeps no secret
        self._branches = _branches(space)
        self._startup = startup
        self._suggested = 0

    def first(self, values: Mapping[str, Any], choices: Mapping[str, int]) -> None:
        """Suggest these values next."""
        self._study.enqueue_trial({**{name: _shown(value) for name, value in values.items()}, **choices})

    def suggest(self) -> tuple[int, dict[str, Any], dict[str, int]]:
        """Return (number, values of the active variables, choices); hand the number back with the result."""
        self._suggested += 1
        if 1 < self._suggested <= self._startup:
            self.first(next(self._spread), {name: self._rng.randrange(count) for name, count in self._choices.items()})
        elif self._branches and self._suggested % EXPLORES == 0:
            turn = self._suggested // EXPLORES
            self.first({name: options[turn % len(options)] for name, options in self._branches.items()}, {})
        trial = self._study.ask()
        choices = {
            name: trial.suggest_categorical(name, list(range(count))) for name, count in self._choices.items() if count
        }
        values: dict[str, Any] = {}
        for name in self._space.order:
            variable = self._space[name]
            if not self._space.is_active(name, values):
                continue
            if variable.is_searchable and variable.kind != "text":
                values[name] = _suggested(trial, variable)
            elif variable.default is not None and variable.compute is None:
                values[name] = variable.default
        self._open[trial.number] = trial
        searched = {n: v for n, v in values.items() if self._space[n].is_searchable and self._space[n].kind != "text"}
        return trial.number, searched, choices

    def learn(self, number: int, figures: Mapping[str, float] | None, objectives: Sequence[str]) -> None:
        """Take note of a result; None where there is none."""
        trial = self._open.pop(number)
        values = None if figures is None else [figure_of(figures, name) for name in objectives]
        if values is None or any(value != value for value in values):  # NaN
            self._study.tell(trial, state=self._fail)
        else:
            self._study.tell(trial, values)


def _branches(space: Space) -> dict[str, Sequence[Any]]:
    """Return the options of the choices and booleans that conditions read."""
    read = {name for variable in space.values() if variable.when is not None for name in variable.when.variables()}
    options: dict[str, Sequence[Any]] = {"boolean": (False, True)}
    return {
        name: space[name].options or options["boolean"]
        for name in space
        if name in read and space[name].kind in {"boolean", "choice", "module"}
    }


def _suggested(trial: Any, variable: Variable) -> Any:  # noqa: ANN401
    name = variable.name
    if variable.kind == "float":
        value = trial.suggest_float(name, variable.low, variable.high, log=variable.log)
        return value if variable.precision is None else round(value, variable.precision)
    if variable.kind == "integer":
        low, high = int(variable.low or 0), int(variable.high or 0)
        step = 1 if variable.log else variable.step
        return trial.suggest_int(name, low, high, log=variable.log, step=step)
    if variable.kind == "boolean":
        return trial.suggest_categorical(name, [False, True])
    index = trial.suggest_categorical(name, [_shown(option) for option in variable.options])
    return next(option for option in variable.options if _shown(option) == index)


def _shown(option: Any) -> Any:  # noqa: ANN401  # what Optuna takes as a category
    return option if option is None or isinstance(option, bool | int | float | str) else repr(option)


def _quiet() -> Any:  # noqa: ANN401
    """Optuna says of some samplers that their options may still change; the version is pinned, so nothing will."""
    import warnings

    return warnings.catch_warnings(action="ignore")
