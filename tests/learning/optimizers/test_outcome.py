"""What is made of a finished search: importance, ablation, reports."""

import csv
import io
import math
from dataclasses import replace
from statistics import fmean

import pytest

import dspex
from dspex.errors import DefinitionError
from dspex.learning.evaluation.export import to_csv, to_html, to_text
from dspex.learning.optimizers import Candidate, Trial
from dspex.learning.optimizers.export import to_csv as sheet
from dspex.learning.optimizers.export import to_html as page
from dspex.learning.optimizers.importance import aablate, importance
from dspex.sync import run
from dspex.testing import ScriptedModel, SimulatedModel
from tests.support.html_pages import check_self_contained, read_html


def _rows(count, first=0):
    return dspex.Dataset.from_rows(
        [
            {"question": f"question {n}", "answer": f"answer {n}"}
            for n in range(first, first + count)
        ]
    )


def _trial(number, values, score):
    return Trial(
        number=number, candidate=Candidate(label="", assignment=values), report=None, score=score
    )


def test_importance_finds_the_variable_that_mattered():
    trials = [
        _trial(
            n,
            {"mode": "ab"[n % 2], "heat": (n * 7 % 40) / 40, "noise": "xyz"[n % 3]},
            (n % 2) + (n * 7 % 40) / 20,
        )
        for n in range(120)
    ]
    shares = importance(trials)
    assert list(shares)[:2] == ["heat", "mode"]
    assert min(shares["heat"], shares["mode"]) > 0.3
    assert shares["noise"] < 0.05


@pytest.mark.parametrize("count", [6, 7, 9, 10, 11, 15])
def test_numbers_are_cut_into_quarters_however_many_trials_there_are(count):
    """A separate group for each number would explain all of the variance.

    It would, whatever the number does.
    """
    scores = [(n * n % count) / count for n in range(count)]
    trials = [_trial(n, {"heat": n / count}, score) for n, score in enumerate(scores)]
    quarters = [
        [n for n in range(count) if sum(n >= count * part // 4 for part in (1, 2, 3)) == q]
        for q in range(4)
    ]
    means = [fmean(scores[n] for n in group) for group in quarters]
    within = sum(
        (scores[n] - mean) ** 2 for group, mean in zip(quarters, means, strict=True) for n in group
    )
    total, noise = sum((score - fmean(scores)) ** 2 for score in scores), within / (count - 4)
    omega_squared = max(0.0, (total - within - 3 * noise) / (total + noise))
    assert importance(trials)["heat"] == pytest.approx(omega_squared)


def test_ablation_leaves_out_what_a_constraint_does_not_let_go():
    module = dspex.Predict("question -> answer").with_variables(
        dspex.Float(0, 1, name="self.temperature"),
        dspex.Integer(1, 9, name="size"),
        dspex.Constraint(
            name="both", test=(dspex.var("size") < 5) | (dspex.var("self.temperature") > 0.5)
        ),
    )
    with dspex.context(model=SimulatedModel(seed=1)):
        winner = _trial(0, {"self.temperature": 0.9, "size": 7}, 1.0)
        result = run(aablate(module, winner, _rows(4), metric=dspex.exact_match))
    assert list(result) == ["size"]


def test_what_is_picked_is_judged_as_in_the_search_and_a_figure_that_nobody_has_is_said():
    unpriced = ScriptedModel("[[ ## answer ## ]]\nanswer 3", cost_usd=None)
    recipe = dspex.LabeledFewShot(k=2, candidates=2)
    with dspex.context(model=unpriced):
        program = dspex.Predict("question -> answer")
        outcome = run(dspex.aoptimize(program, recipe, train=_rows(8), metric=dspex.exact_match))
    assert outcome.pick(maximize="-tokens").number == 0
    with pytest.raises(DefinitionError, match="'usd' could not be measured in any trial"):
        outcome.pick(maximize="-usd")
    with pytest.raises(DefinitionError, match="none of 3 trials on all rows is within usd<=1"):
        outcome.pick("usd<=1", maximize="exact_match")
    lines = list(csv.DictReader(io.StringIO(sheet(outcome))))
    assert [(line["usd"], line["failed"], line["rows"]) for line in lines] == [
        ("", "0", "8"),
        *[("", "0", "6")] * 2,
    ]
    better = replace(
        outcome,
        estimated={0: {"exact_match": 0.1}, 1: {"exact_match": 0.3}, 2: {"exact_match": 0.2}},
    )
    assert better.pick(maximize="exact_match").number == 1
    assert better.pick("exact_match<=0.25", maximize="exact_match").number == 2


def test_ablation_takes_back_one_value_at_a_time():
    winner = _trial(0, {"self.instructions": "Be careful and exact.", "self.temperature": 0.2}, 1.0)
    module = dspex.Predict("question -> answer", temperature=dspex.Float(0, 1.5))
    with dspex.context(model=SimulatedModel(seed=1)):
        result = run(aablate(module, winner, _rows(200), metric=dspex.exact_match))
    assert result["self.instructions"].is_better
    assert abs(result["self.temperature"].difference) < 0.1


def test_report_is_written_as_text_csv_and_html_without_running_anything_in_it():
    rows = dspex.Dataset.from_rows(
        [{"question": "question 1", "answer": "=cmd()"}, {"question": "<b>", "answer": "x"}]
    )
    with dspex.context(model=SimulatedModel(seed=1)):
        report = run(dspex.aevaluate(dspex.Predict("question -> answer"), rows, dspex.exact_match))
    assert "0.000" in to_text({"it": report})
    records = list(csv.DictReader(io.StringIO(to_csv(report))))
    assert [row["answer"] for row in records] == ["'=cmd()", "x"]
    assert {"out.answer", "score.exact_match", "seconds"} <= set(records[0])
    page = to_html(report, "A & B")
    assert "&lt;b&gt;" in page
    assert "<b>" not in page


def test_simulated_model_is_as_good_as_its_surface_says():
    model, rows = SimulatedModel(seed=2), _rows(400)
    demos = [{"question": f"question {n}", "answer": f"answer {n}"} for n in (1000, 1002, 1005)]
    program = dspex.Predict("question -> answer", demos=demos, temperature=0.5).assign(
        {"self.instructions": "Be careful."}
    )
    with dspex.context(model=model):
        report = run(dspex.aevaluate(program, rows, dspex.exact_match))
        again = run(dspex.aevaluate(program, rows, dspex.exact_match))
    truth = model.truth("Be careful.", [(1000, True), (1002, True), (1005, True)], 0.5)
    assert report.mean == pytest.approx(truth, abs=4 * math.sqrt(0.25 / 400))
    assert [row.outputs for row in again.rows] == [row.outputs for row in report.rows]


def test_what_changed_is_told_of_a_program_that_cannot_be_stored_too():
    pytest.importorskip("optuna")

    class Local(dspex.Module):
        signature = "question -> answer"

        def __init__(self):
            heat = dspex.Float(0, 1.5)
            self.ask = dspex.Predict(
                "question -> answer", temperature=heat, demos=[{"question": "1", "answer": "2"}]
            )

        async def forward(self, question):
            return await self.ask.acall(question=question)

    program = Local().assign({"ask.temperature": 1.25})
    recipe = dspex.Joint(
        trials=4, cohort=4, first_rows=4, instructions=1, sets=1, only=("ask.temperature",)
    )
    with dspex.context(model=SimulatedModel(seed=1)):
        search = dspex.Search(insists=True, maximize="-tokens")
        outcome = run(
            dspex.aoptimize(
                program, recipe, train=_rows(12), metric=dspex.exact_match, search=search
            )
        )
        changed = next(
            trial
            for trial in outcome.trials
            if trial.candidate.assignment.get("ask.temperature", 1.25) < 1
        )
    outcome = replace(outcome, best=changed)
    text = outcome.changes()
    assert "  -1.25\n" in text
    assert text.startswith("ask.temperature:")
    assert outcome.changes(is_short=True) in read_html(outcome._repr_html_()).text
    assert outcome.changes(is_short=True) in check_self_contained(page(outcome)).text
