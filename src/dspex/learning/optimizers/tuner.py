"""Optuna behind ask and tell, for combinations of options."""

import importlib
import random
from collections.abc import Mapping
from typing import Any

from dspex.errors import ConfigurationError


def optuna() -> Any:
    """Return the optuna module with its log level set to warnings.

    Raises:
        ConfigurationError: Optuna is not installed.
    """
    try:
        module = importlib.import_module("optuna")
    except ImportError as error:
        raise ConfigurationError(
            "this optimizer needs Optuna: pip install 'dspex[optimize]'"
        ) from error
    module.logging.set_verbosity(module.logging.WARNING)
    return module


class Tuner:
    """Suggests an option for each of several choices, and learns from the results.

    Tree-structured Parzen estimators (Bergstra et al., 2011), with a seed.

    Nothing is stored outside of memory: a search that is resumed tells everything again.

    Raises:
        ConfigurationError: Optuna is not installed.
    """

    def __init__(self, choices: Mapping[str, int], *, seed: int = 0, startup: int = 8) -> None:
        """Take the number of options by name; the first `startup` suggestions are random."""
        module = optuna()
        with _quiet():
            sampler = module.samplers.TPESampler(
                seed=seed, multivariate=True, n_startup_trials=startup
            )
        self._study = module.create_study(direction="maximize", sampler=sampler)
        self._failed = module.trial.TrialState.FAIL
        self._choices = dict(choices)
        self._open: dict[int, Any] = {}
        self._rng = random.Random(seed)  # explores, keeps no secret
        self._startup = startup
        self._suggested = 0

    def first(self, indexes: Mapping[str, int]) -> None:
        """Suggest these options next."""
        self._study.enqueue_trial(dict(indexes))

    def suggest(self) -> tuple[int, dict[str, int]]:
        """Return (number, options); pass the number to `learn` with the result."""
        self._suggested += 1
        if 1 < self._suggested <= self._startup:
            self.first({name: self._rng.randrange(count) for name, count in self._choices.items()})
        trial = self._study.ask()
        self._open[trial.number] = trial
        return trial.number, {
            name: trial.suggest_categorical(name, list(range(count)))
            for name, count in self._choices.items()
            if count
        }

    def learn(self, number: int, score: float | None) -> None:
        """Record a result; None for a failure."""
        trial = self._open.pop(number)
        if score is None:
            self._study.tell(trial, state=self._failed)
        else:
            self._study.tell(trial, score)


def _quiet() -> Any:
    """Silence Optuna's warning that sampler options are experimental; its version is pinned."""
    import warnings

    return warnings.catch_warnings(action="ignore")
