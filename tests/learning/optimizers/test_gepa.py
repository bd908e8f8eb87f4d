"""Reflective evolution: texts by reflection, numbers and demonstrations too, and resumed alike."""

import json
from typing import Literal

import pytest

import dspex
from dspex.errors import BudgetError
from dspex.execution.clients import Budget
from dspex.learning.optimizers import JsonlJournal, Search, Task
from dspex.learning.optimizers.gepa import _Evolution, _Member
from dspex.optimizers import GEPA
from dspex.sync import run


class Sort(dspex.Signature):
    """Sort the text."""

    text: str
    label: Literal["a", "b", "c"] = dspex.Output()


TRAIN = dspex.Dataset.from_rows([{"text": f"{c}{n}", "label": c} for n in range(6) for c in "abc"])


def _search(model, optimizer, program=None, **settings):
    with dspex.context(model=model):
        return run(
            dspex.aoptimize(
                program or dspex.Predict(Sort),
                optimizer,
                train=TRAIN,
                metric=dspex.exact_match,
                search=Search(**settings),
            )
        )


def _reflecting(request):
    """Names one more letter in each reflection; a row is right if its letter is named."""
    prompt, system = request.messages[-1].text, request.messages[0].text
    if "[[ ## feedback ## ]]" in prompt:
        assert '"score": ' in prompt
        old = prompt.partition("[[ ## current_instruction ## ]]")[2].partition("[[ ##")[0]
        letters = [letter for letter in "abc" if f"<{letter}>" in old]
        more = "".join(f"<{letter}>" for letter in "abc"[: max(2, len(letters) + 1)])
        return json.dumps({"instruction": f"Sort by {more}."})
    letter = prompt.rpartition("\n")[2][0]
    return json.dumps({"label": letter if f"<{letter}>" in system else "a"})


def test_reflections_improve_a_text_step_by_step(rulebook):
    outcome = _search(rulebook(_reflecting), GEPA(proposals=12, demonstrations=0))
    assert outcome.best.score == 1.0
    assert "<a><b><c>" in outcome.program.signature.instructions
    full = [trial for trial in outcome.trials if trial.candidate.is_final]
    assert len(full) < 8  # what does no better on a few rows is not scored on all


def test_a_number_is_searched_beside_the_texts(rulebook):
    def answer(request):
        if "[[ ## feedback ## ]]" in request.messages[-1].text:
            return json.dumps({"instruction": "Sort the text well."})
        letter = request.messages[-1].text.rpartition("\n")[2][0]
        return json.dumps({"label": letter if (request.temperature or 0) > 0.7 else "a"})

    program = dspex.Predict("text -> label", temperature=dspex.Float(0, 1.4))
    outcome = _search(rulebook(answer), GEPA(proposals=16, demonstrations=0), program)
    assert outcome.best.score == 1.0
    assert outcome.best.candidate.assignment["self.temperature"] > 0.7


@pytest.mark.parametrize("length", [1, 25, 45, 60])
def test_a_resumed_search_ends_as_an_undisturbed_one(rulebook, tmp_path, length):
    optimizer, whole = GEPA(proposals=8), tmp_path / "whole.jsonl"
    first = _search(rulebook(_reflecting), optimizer, journal=JsonlJournal(whole))
    lines = whole.read_bytes().splitlines(keepends=True)
    cut = tmp_path / "cut.jsonl"
    cut.write_bytes(b"".join(lines[:length]))
    again = _search(rulebook(_reflecting), optimizer, journal=JsonlJournal(cut))
    assert again.table() == first.table()
    assert again.spent == first.spent


def test_reflections_are_within_the_budget(rulebook):
    model = rulebook(_reflecting)
    outcome = _search(model, GEPA(proposals=12, demonstrations=0), budget=Budget(calls=70))
    assert len(model.requests) == outcome.spent.calls <= 70
    with pytest.raises(BudgetError, match="too small for one candidate"):
        _search(rulebook(_reflecting), GEPA(demonstrations=0), budget=Budget(calls=30))


def test_every_variable_gets_its_turn_beside_merges(rulebook):
    """Every fourth proposal may merge; with four variables, none loses its turns to that."""

    def answer(request):
        letter = request.messages[-1].text.rpartition("\n")[2][0]
        return json.dumps({"label": letter if (request.temperature or 0) > 0.7 else "a"})

    program = dspex.OneOf(
        *(dspex.Predict("text -> label", temperature=dspex.Float(0, 1.4)) for _ in range(3))
    )
    outcome = _search(rulebook(answer), GEPA(proposals=16, demonstrations=0), program)
    labels = " ".join(trial.candidate.label for trial in outcome.trials)
    for name in program.variables():
        if name.endswith("temperature") or name == "self.self":
            assert name.removeprefix("self.") in labels


def test_a_parent_without_a_mistake_is_not_reflected_on(rulebook):
    def answer(request):
        assert "[[ ## feedback ## ]]" not in request.messages[-1].text
        return json.dumps({"label": request.messages[-1].text.rpartition("\n")[2][0]})

    outcome = _search(rulebook(answer), GEPA(proposals=8, demonstrations=0))
    assert outcome.spent.calls == len(TRAIN)


def test_programs_that_others_surpass_are_not_changed_any_more():
    members = [
        _Member(label="poor", scores={"x": 1.0, "y": 0.0, "z": 0.0}),
        _Member(label="good", scores={"x": 1.0, "y": 1.0, "z": 0.0}),
        _Member(label="other", scores={"x": 0.0, "y": 0.0, "z": 1.0}),
    ]
    task = Task(program=dspex.Predict(Sort).to_program(), train=TRAIN)
    evolution = _Evolution(GEPA(), task)
    evolution._pool = members
    assert {evolution._choose().label for _ in range(50)} == {"good", "other"}
