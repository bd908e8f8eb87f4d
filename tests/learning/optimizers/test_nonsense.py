"""What makes no sense is refused before anything is spent, with the way to mend it."""

import math
import sys
from fractions import Fraction

import msgspec
import pytest

import dspex
from dspex.errors import ConfigurationError, DefinitionError, VariableError
from dspex.execution.clients import Budget
from dspex.execution.context import current
from dspex.learning.optimizers import (
    BootstrapFewShot,
    Joint,
    LabeledFewShot,
    MIPROv2,
    RandomSearch,
    Search,
)
from dspex.optimizers import GEPA, SIMBA
from dspex.sync import run
from dspex.testing import ScriptedModel, SimulatedModel

ROWS = [{"question": f"question {n}", "answer": f"answer {n}"} for n in range(20)]
TRAIN = dspex.Dataset.from_rows(ROWS)
FEW = LabeledFewShot(k=2, candidates=1)


class _Waiting:
    async def __call__(self, example, prediction):
        return 1.0


async def _later(example, prediction):
    return 1.0


def _start(optimizer=FEW, *, train=TRAIN, metric=dspex.exact_match, model=None, **search):
    """Search, and return the model."""
    model = model or SimulatedModel(seed=1)
    with dspex.context(model=model):
        program = dspex.Predict("question -> answer")
        run(
            dspex.aoptimize(program, optimizer, train=train, metric=metric, search=Search(**search))
        )
    return model


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"on_error": math.inf}, "on_error is the score of a failed row"),
        ({"train": ROWS}, "the training rows must be a Dataset, not list"),
        (
            {"optimizer": RandomSearch},
            r"is not an optimizer; create one, such as dspex\.RandomSearch",
        ),
        ({"optimizer": "joint"}, "'joint' is not an optimizer"),
        ({"optimizer": BootstrapFewShot(teacher={"self.modle": 1})}, "no variable 'self.modle'"),
        (
            {"optimizer": Joint(objectives=("exact_match", "-dollars"))},
            "unknown figure 'dollars'.*usd",
        ),
        ({"metric": "exact_match"}, "is 'exact_match', not a function"),
        ({"metric": [dspex.exact_match]}, "several by name"),
        ({"metric": _later}, "'_later' is async, and metrics run inline"),
        ({"metric": _Waiting()}, "'_Waiting' is async"),
    ],
)
def test_nonsense_is_refused_before_any_call(value, message):
    if not isinstance(value.get("optimizer", FEW), LabeledFewShot | type | str):
        pytest.importorskip("optuna")
    model = SimulatedModel(seed=1)
    with pytest.raises(DefinitionError, match=message):
        _start(model=model, **value)
    assert not model.calls


@pytest.mark.parametrize(
    ("create", "message"),
    [
        (lambda: Search(trials_at_once=0), "`trials_at_once` .* takes a whole number from 1, not"),
        (lambda: Search(concurrency=-1), "`concurrency` of Search takes a whole number from 1"),
        (lambda: Search(rows=-1), "`rows` of Search takes a whole number from 1 or None, not -1"),
        (lambda: Search(rows=2.0), "`rows` of Search takes a whole number from 1"),
        (lambda: Search(seed=1.5), "`seed` of Search takes a whole number, not 1.5"),
        (lambda: Search(on_error=math.nan), "`on_error` of Search takes a number"),
        (lambda: Search(test=ROWS), r"`test` of Search takes a Dataset or None, not \["),
        (lambda: MIPROv2(full_every=0), "`full_every` of MIPROv2 takes a whole number from 1"),
        (lambda: BootstrapFewShot(max_labelled=-3), "`max_labelled` .* a whole number from 0"),
        (lambda: BootstrapFewShot(rounds=0), "`rounds` of .* takes a whole number from 1, not 0"),
        (lambda: RandomSearch(candidates=-1), "`candidates` of .* a whole number from 0, not -1"),
        (lambda: Joint(sets=-1), "`sets` of Joint takes a whole number from 0, not -1"),
        (lambda: Joint(keep=1), "`keep` of Joint takes a whole number from 2, not 1"),
        (lambda: GEPA(proposals=0), "`proposals` of GEPA takes a whole number from 1, not 0"),
        (lambda: SIMBA(demonstrations=-1), "`demonstrations` of SIMBA takes a whole number from 0"),
    ],
)
def test_a_setting_out_of_range_is_refused_where_it_is_written(create, message):
    with pytest.raises(DefinitionError, match=message):
        create()


@pytest.mark.parametrize(
    ("optimizer", "module"), [(MIPROv2(), "optuna"), (MIPROv2(), "numpy"), (Joint(), "numpy")]
)
def test_a_package_that_is_missing_is_missed_before_any_call(monkeypatch, optimizer, module):
    pytest.importorskip("optuna")
    monkeypatch.setitem(sys.modules, module, None)
    model = SimulatedModel(seed=1)
    with pytest.raises(ConfigurationError, match=r"dspex\[optimize\]"):
        _start(optimizer, model=model)
    assert not model.calls


def test_an_objective_that_has_no_price_ends_the_search_after_the_first_rows():
    pytest.importorskip("optuna")
    model = ScriptedModel("[[ ## answer ## ]]\nanswer 3", cost_usd=None)
    with pytest.raises(DefinitionError, match=r"'usd' cannot be measured .*no price is known"):
        _start(Joint(trials=4, objectives=("exact_match", "-usd")), model=model)
    assert len(model.requests) == len(TRAIN)


@pytest.mark.parametrize(
    "limit", [{"usd": -1}, {"calls": -1}, {"tokens": math.nan}, {"seconds": "60"}]
)
def test_a_limit_of_a_budget_is_a_number_from_0(limit):
    with pytest.raises(
        DefinitionError, match=f"budget in {next(iter(limit))} must be a number of at least 0"
    ):
        Budget(**limit)


def test_a_metric_may_return_any_finite_number():
    np = pytest.importorskip("numpy")
    for value, score in (
        (np.bool_(True), 1.0),
        (np.float32(0.5), 0.5),
        (np.int64(1), 1.0),
        (Fraction(1, 4), 0.25),
    ):
        with dspex.context(model=SimulatedModel(seed=1)):
            work = dspex.aevaluate(
                dspex.Predict("question -> answer"), TRAIN[:1], lambda _, __, v=value: v
            )
            assert run(work).mean == score


def test_a_teacher_takes_what_the_program_takes():
    with pytest.raises(VariableError, match="takes text"):
        _start(BootstrapFewShot(teacher={"self.instructions": 3}))


def test_a_model_that_may_be_chosen_and_has_no_key_is_missed_before_any_call():
    def opened(text):
        if text == "openai/gpt-4o-mini":
            raise ConfigurationError("the model openai/gpt-4o-mini needs an API key")
        return model

    model = SimulatedModel(seed=1)
    program = dspex.Predict("question -> answer").with_variables(
        dspex.OneOf("simulated", "openai/gpt-4o-mini", name="self.model")
    )
    with dspex.context(model=model):
        work = dspex.aoptimize(
            program,
            FEW,
            train=TRAIN,
            metric=dspex.exact_match,
            context=msgspec.structs.replace(current(), models=opened),
        )
        with pytest.raises(ConfigurationError, match="needs an API key"):
            run(work)
    assert not model.calls
