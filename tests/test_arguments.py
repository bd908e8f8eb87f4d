"""Misspelled arguments of the public classes and functions."""

import inspect
from typing import Any

import pytest

import dspex
from dspex import agents, models, modules, retrieval
from dspex.arguments import checks_names
from dspex.errors import DefinitionError


@pytest.mark.parametrize(
    ("call", "wrong", "right"),
    [
        (lambda **arguments: dspex.Predict("q -> a", **arguments), "temprature", "temperature"),
        (
            lambda **arguments: dspex.Retry(dspex.Predict("q -> a"), **arguments),
            "atempts",
            "attempts",
        ),
        (dspex.Joint, "trails", "trials"),
        (dspex.LabeledFewShot, "per_clas", "per_class"),
        (dspex.Search, "validaton", "validation"),
        (lambda **arguments: dspex.Float(0, 1, **arguments), "precison", "precision"),
        (dspex.Budget, "token", "tokens"),
        (dspex.Collection, "embeder", "embedder"),
        (dspex.Dataset, "exampels", "examples"),
        (dspex.Tool, "nam", "name"),
        (dspex.configure, "modle", "model"),
        (dspex.evaluate, "metrik", "metric"),
        (dspex.optimize, "trian", "train"),
        (models.OpenAIModel, "modle", "model"),
        (agents.TeamLimits, "turn", "turns"),
        (modules.SandboxLimits, "secnds", "seconds"),
        (retrieval.SentenceChunker, "tokns", "tokens"),
    ],
)
def test_misspelled_argument_is_refused_with_the_right_one(call, wrong, right):
    with pytest.raises(DefinitionError, match=rf"takes no '{wrong}'\. Did you mean '{right}'"):
        call(**{wrong: 1})


def test_misspelled_argument_of_a_context_is_refused():
    with (
        pytest.raises(DefinitionError, match=r"context takes no 'modle'\. Did you mean 'model'"),
        dspex.context(modle="x"),  # type: ignore[call-arg]
    ):
        pass


async def test_misspelled_argument_of_a_coroutine_is_refused():
    assert inspect.iscoroutinefunction(dspex.aevaluate)
    with pytest.raises(DefinitionError, match="Did you mean 'metric'"):
        await dspex.aevaluate(metrik=1)  # type: ignore[call-arg]


PREDICT: Any = dspex.Predict
REACT: Any = dspex.ReAct
RETRY: Any = dspex.Retry
LIMITS: Any = agents.TeamLimits


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: PREDICT(), r"Predict needs signature\. It takes: signature, "),
        (lambda: REACT(), r"ReAct needs signature and tools\. "),
        (lambda: REACT("q -> a"), r"ReAct needs tools\. "),
        (
            lambda: RETRY(PREDICT("q -> a"), 3),
            "Retry takes only module by position, not 3 too; write it by name",
        ),
        (lambda: LIMITS(3), "TeamLimits takes nothing by position, not 3 too"),
    ],
)
def test_missing_and_superfluous_arguments_are_named(call, message):
    with pytest.raises(DefinitionError, match=message):
        call()


def test_type_errors_inside_the_call_stay():
    @checks_names
    def length(text, *, unit=""):
        return len(text), unit

    with pytest.raises(TypeError, match="has no len"):
        length(5)
    assert length("abc", unit="m") == (3, "m")
