"""The simulated model and its surfaces: the basis of benchmarks of searches."""

from statistics import fmean

import pytest

import dspex
from dspex.execution.clients import OpenAIModel
from dspex.testing import Bottleneck, SimulatedModel, Surface
from dspex.testing.model_server import ModelServer

GOOD = [(3 * n, True) for n in range(4)]


def test_effects_add_up_and_pairs_of_them_count_once_both_are_there():
    surface = Surface(
        base=0.0,
        words={"careful": 1.0},
        steepness=0.0,
        together={("careful", "demonstrations"): 5.0},
    )
    assert surface.probability("", [], 0.0) == 0.5
    alone = surface.probability("Be careful.", [], 0.0)
    assert alone == pytest.approx(0.731, abs=0.001)
    probability = Surface(base=0.0, words={}, steepness=0.0).probability("", GOOD, 0.0)
    both = surface.probability("Be careful.", GOOD, 0.0)
    assert both > max(alone, probability)
    assert both == pytest.approx(
        Surface(base=7.3, words={}, demonstrations=()).probability("", [], 0.2), abs=1e-4
    )


@pytest.mark.parametrize("family", [Surface.drawn, Bottleneck.drawn])
def test_drawn_surfaces_are_seeded_hard_at_first_and_leave_much_to_gain(family):
    assert family(3) == family(3)
    assert family(3) != family(4)
    plain = [family(seed).probability("Answer.", [], 0.0) for seed in range(40)]
    probabilities = [
        family(seed).probability("You are an expert.", GOOD, 0.4) for seed in range(40)
    ]
    assert 0.02 < fmean(plain) < 0.3
    assert fmean(probabilities) > fmean(plain) + 0.1


def test_a_surface_without_pairs_adds_up():
    surface = Surface.drawn(5, together=0.0)
    assert not surface.together
    assert Surface.drawn(5).together


def test_asking_for_reasoning_counts_whether_by_a_word_or_by_a_field():
    surface = Surface.drawn(1)
    by_word = surface.probability("step", [], 0.5)
    assert (
        surface.probability("[[ ## reasoning ## ]]", [], 0.5)
        == by_word
        != surface.probability("", [], 0.5)
    )
    assert surface.tokens("step") == surface.long > surface.tokens("")


@pytest.mark.bridge
async def test_the_model_behind_the_protocol_answers_as_it_does_in_memory():
    rows = dspex.Dataset.from_rows(
        [{"question": f"question {n}", "answer": f"answer {n}"} for n in range(40)]
    )
    program = dspex.ChainOfThought("question -> answer", temperature=0.4)

    async def scores(model):
        with dspex.context(model=model):
            report = await dspex.aevaluate(program, rows, dspex.exact_match)
        await model.aclose()
        return [row.outputs for row in report.rows]

    async with ModelServer({"m": SimulatedModel(seed=2)}) as server:
        served = await scores(OpenAIModel("m", base_url=server.url, api_key="none"))
        assert server.calls == {"m": 40}
        with dspex.context(model=OpenAIModel("other", base_url=server.url, api_key="none")):
            failed = await dspex.aevaluate(program, rows[:1], dspex.exact_match)
    assert failed.rows[0].error is not None
    assert "unknown model 'other'" in failed.rows[0].error
    assert served == await scores(SimulatedModel(seed=2))
