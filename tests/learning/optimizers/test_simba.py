"""Ascent on mini-batches: rules, demonstrations and values, in one budget, and resumed alike."""

import json
from typing import Literal

import pytest

import dspex
from dspex.errors import BudgetError
from dspex.execution.clients import Budget
from dspex.language.variables import Examples
from dspex.learning.optimizers import JsonlJournal, Search
from dspex.optimizers import SIMBA
from dspex.sync import run


class Sort(dspex.Signature):
    """Sort the text."""

    text: str
    label: Literal["a", "b", "c"] = dspex.Output()


TRAIN = dspex.Dataset.from_rows([{"text": f"{c}{n}", "label": c} for n in range(6) for c in "abc"])
FEW = SIMBA(steps=4, minibatch=6, candidates=3)
RULES = SIMBA(steps=4, minibatch=6, candidates=3, demonstrations=0)


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


def _learner(request):
    """Writes the rule of the row that it reads; a row is right if its letter has a rule."""
    prompt, system = request.messages[-1].text, request.messages[0].text
    if "[[ ## worse_run ## ]]" in prompt:
        letter = prompt.partition('"label": "')[2][0]
        return json.dumps({"rule": f"Sort <{letter}> too."})
    letter = prompt.rpartition("\n")[2][0]
    return json.dumps({"label": letter if f"<{letter}>" in system else "a"})


def test_rules_are_added_to_an_instruction_step_by_step(rulebook):
    outcome = _search(rulebook(_learner), RULES)
    assert outcome.best.score == 1.0
    text = outcome.program.signature.instructions
    assert text.startswith("Sort the text.\n\nSort <")
    assert "<b>" in text
    assert "<c>" in text


def test_runs_that_differ_come_first_and_the_question_has_both(rulebook):
    """Only rows with "b" differ between runs: they are right in runs at temperature 1."""
    questions = []

    def answer(request):
        prompt = request.messages[-1].text
        if "[[ ## worse_run ## ]]" in prompt:
            questions.append(prompt)
            return json.dumps({"rule": "Sort well."})
        letter = prompt.rpartition("\n")[2][0]
        is_right = letter == "a" or (letter == "b" and request.temperature == 1.0)
        return json.dumps({"label": letter if is_right else "a"})

    optimizer = SIMBA(steps=1, minibatch=18, candidates=2, demonstrations=0)
    _search(rulebook(answer), optimizer)
    assert len(questions) == 2
    for prompt in questions:
        worse, _, better = prompt.partition("[[ ## better_run ## ]]")
        assert '"answer": {"label": "a"}, "score": 0.0' in worse
        assert '"answer": {"label": "b"}, "score": 1.0' in better


def test_runs_that_went_well_become_demonstrations(rulebook):
    def answer(request):
        letter = request.messages[-1].text.rpartition("\n")[2][0]
        helps = any(letter in message.text for message in request.messages[1:-1])
        is_right = helps or letter == "a" or request.temperature == 1.0
        return json.dumps({"label": letter if is_right else "a"})

    program = dspex.Predict(Sort).with_variables(
        Examples(name="shots", paths=("self.demos",)),
    )
    outcome = _search(rulebook(answer), FEW, program)
    demos = outcome.best.candidate.assignment["shots"]
    assert outcome.best.score > outcome.trials[0].score
    assert 1 <= len(demos) <= FEW.demonstrations
    assert all(demo["label"] == demo["text"][0] for demo in demos)
    for trial in outcome.trials:
        assert not {row.example["text"] for row in trial.report.rows} & {
            demo["text"] for demo in trial.candidate.assignment.get("shots", ())
        }


def test_numbers_and_choices_are_drawn_anew(rulebook):
    def answer(request):
        letter = request.messages[-1].text.rpartition("\n")[2][0]
        return json.dumps({"label": letter if (request.temperature or 0) > 1.1 else "a"})

    program = dspex.Predict("text -> label", temperature=dspex.Float(0, 1.5))
    optimizer = SIMBA(steps=6, minibatch=6, candidates=4, demonstrations=0)
    outcome = _search(rulebook(answer), optimizer, program)
    assert outcome.best.score == 1.0
    assert outcome.best.candidate.assignment["self.temperature"] > 1.1


@pytest.mark.parametrize("length", [1, 30, 60, 90])
def test_a_resumed_search_ends_as_an_undisturbed_one(rulebook, tmp_path, length):
    whole = tmp_path / "whole.jsonl"
    first = _search(rulebook(_learner), FEW, journal=JsonlJournal(whole))
    lines = whole.read_bytes().splitlines(keepends=True)
    cut = tmp_path / "cut.jsonl"
    cut.write_bytes(b"".join(lines[:length]))
    again = _search(rulebook(_learner), FEW, journal=JsonlJournal(cut))
    assert again.table() == first.table()
    assert again.spent == first.spent


def test_several_trials_at_once_end_alike(rulebook):
    first, second = (_search(rulebook(_learner), RULES, trials_at_once=count) for count in (1, 5))
    assert first.table() == second.table()


def test_rules_are_within_the_budget(rulebook):
    model = rulebook(_learner)
    outcome = _search(model, RULES, budget=Budget(calls=90))
    assert len(model.requests) == outcome.spent.calls <= 90
    with pytest.raises(BudgetError, match="too small for one candidate"):
        _search(rulebook(_learner), RULES, budget=Budget(calls=40))
