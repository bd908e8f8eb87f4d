"""What callers may say to optimizers.

An allow-list with types and bounds, for dspy's and for dspex's own.
"""

import dataclasses
import importlib.util
import inspect
from typing import Any

import pytest

from dspex.learning.optimizers.dspy_options import DSPY_OPTIMIZERS
from dspex.learning.optimizers.registry import OPTIMIZERS
from dspex.operations.optimizations.optimizer_options import caller_problem, option_problem

NEVER = (
    "log_dir",
    "num_threads",
    "teacher_settings",
    "metric",
    "prompt_model",
    "wandb_init_kwargs",
    "gepa_kwargs",
)


@pytest.mark.parametrize("optimizer", sorted(DSPY_OPTIMIZERS))
@pytest.mark.parametrize("name", NEVER)
def test_no_caller_reaches_files_threads_models_or_metrics_of_dspys_optimizers(
    optimizer: str, name: str
) -> None:
    for part in ("options", "compile"):
        problem = option_problem(optimizer, {name: "/somewhere"}, part=part, on_dspy=True)
        assert problem is not None
        assert problem.name == name
        assert f"does not accept {part} {name!r} from callers. It accepts: " in problem.message


@pytest.mark.parametrize(
    ("optimizer", "options", "words"),
    [
        ("MIPROv2", {"num_candidates": 10**9}, "a whole number from 1 to 1000 or null"),
        ("MIPROv2", {"auto": "huge"}, "one of 'light', 'medium', 'heavy', null"),
        ("MIPROv2", {"seed": True}, "a whole number from 0"),
        ("GEPA", {"use_merge": "no"}, "true or false"),
        ("COPRO", {"init_temperature": float("nan")}, "a number from 0 to 2"),
        ("BootstrapFewShot", {"max_errors": "many"}, "a whole number from 0"),
    ],
)
def test_values_have_types_and_bounds(optimizer: str, options: dict[str, Any], words: str) -> None:
    problem = option_problem(optimizer, options, part="options", on_dspy=True)
    assert problem is not None
    assert words in problem.message


def test_where_a_job_will_run_is_not_known_yet_either_list_allows_an_option() -> None:
    assert caller_problem("BootstrapFewShot", {"max_bootstrapped": 2}, part="options") is None
    assert caller_problem("BootstrapFewShot", {"max_bootstrapped_demos": 2}, part="options") is None
    problem = caller_problem("BootstrapFewShot", {"log_dir": "x"}, part="options")
    assert problem is not None
    assert "max_labelled: a whole number" in problem.message
    assert "On dspy: " in problem.message
    assert caller_problem("MIPROv2", {"num_trials": 3}, part="compile") is None
    assert caller_problem("MIPROv2", {"teacher": 3}, part="compile") is not None


@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS))
def test_what_is_allowed_natively_is_an_option_there(optimizer: str) -> None:
    entry = OPTIMIZERS[optimizer]
    names = {field.name for field in dataclasses.fields(entry.create)}
    assert entry.options.keys() == names - {"bootstrap"}


@pytest.mark.full
@pytest.mark.skipif(importlib.util.find_spec("dspy") is None, reason="pip install 'dspex[dspy]'")
@pytest.mark.parametrize("optimizer", sorted(DSPY_OPTIMIZERS))
def test_what_is_allowed_on_dspy_is_an_option_there(optimizer: str) -> None:
    import dspy

    cls = getattr(dspy, optimizer, None) or getattr(dspy.teleprompt, optimizer)
    names = {name for base in cls.__mro__ for name in inspect.signature(base.__init__).parameters}
    options = DSPY_OPTIMIZERS[optimizer]
    assert options.options.keys() <= names
    assert options.compile.keys() <= inspect.signature(cls.compile).parameters.keys()
