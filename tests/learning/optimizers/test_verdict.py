import json
import math
import random
from typing import Literal

import pytest

import dspex
from dspex.errors import BudgetError, DefinitionError, ModelError
from dspex.execution.clients import Budget, Response
from dspex.language.records import Example, Usage
from dspex.learning.evaluation import Report, Row, compare
from dspex.learning.optimizers import Candidate, Control, JsonlJournal, Search
from dspex.learning.optimizers.goal import Goal
from dspex.learning.optimizers.limits import parse_limit
from dspex.learning.optimizers.verdict import Verdict, judge
from dspex.sync import run


def report(scores, *, usd=None, seconds=None, metric="right"):
    """A report of rows with these scores; None is a row that failed."""
    rows = [
        Row(
            index=n,
            example=Example({"n": n}),
            scores={} if score is None else {metric: float(score)},
            error="ModelError: down" if score is None else None,
            usage=Usage() if score is None or usd is None else Usage(calls=1, cost_usd=usd[n]),
            seconds=0.0 if seconds is None else seconds[n],
        )
        for n, score in enumerate(scores)
    ]
    return Report(rows=tuple(rows), metrics=(metric,), dataset="rows", checksum="same")


def goal(maximize=None, *limits, on_error=None):
    return Goal.of(["right"], maximize=maximize, subject_to=limits, on_error=on_error)


def verdict_on(before, after, goal):
    verdict = judge(before, after, goal)
    assert isinstance(verdict, Verdict)
    return verdict


def test_interval_and_paired_test_have_to_agree_on_what_is_better():
    one_pair = compare(report([1]), report([0]))
    assert (one_pair.interval.low, one_pair.p_value, one_pair.is_better) == (1, 1, False)
    four_of_forty = compare(report([1] * 40), report([0] * 4 + [1] * 36))
    assert four_of_forty.interval.low > 0
    assert four_of_forty.p_value == 0.125
    assert not four_of_forty.is_better
    assert "p is not below 0.05" in four_of_forty.because
    assert compare(report([1] * 40), report([0] * 4 + [1] * 36), alpha=0.2).is_better
    assert compare(report([1] * 40), report([0] * 8 + [1] * 32)).is_better
    with pytest.raises(DefinitionError, match="alpha is a probability"):
        compare(report([1]), report([0]), alpha=5)


@pytest.mark.parametrize("tries", [60, pytest.param(300, marks=pytest.mark.slow)])
def test_few_rows_without_a_difference_are_seldom_called_better(tries):
    rng, better = random.Random(0), 0
    for _ in range(tries):
        count = rng.randint(6, 10)
        before, after = ([rng.random() < 0.5 for _ in range(count)] for _ in range(2))
        better += compare(report(after), report(before)).is_better
    assert better <= tries * (0.025 + 0.02)


def test_failed_rows_count_as_the_worst_in_the_verdict():
    before, after = report([1] * 20 + [0] * 20), report([1] * 8 + [None] * 32)
    assert after.mean == 1.0
    verdict = verdict_on(before, after, goal())
    assert verdict.comparison.pairs == 40
    assert not verdict.is_better
    assert verdict.comparison.difference == pytest.approx(-0.3)
    assert "0 rows failed before and 32 after" in str(verdict)
    assert verdict_on(after, before, goal()).is_better
    assert verdict_on(report([None] * 9), report([1] * 9), goal()).is_better
    assert judge(report([None] * 9), report([None] * 9), goal()) == "every held-out row failed"
    # where less is better, a failure is not a zero
    assert not verdict_on(
        report([0.2] * 20), report([None] * 18 + [0.1] * 2), goal("-right")
    ).is_better
    assert verdict_on(
        report([0.2] * 20), report([None] * 18 + [0.1] * 2), goal("-right", on_error=0)
    ).is_better


def test_verdict_is_on_what_was_maximized():
    dear, cheap = [0.01 + n / 1e5 for n in range(40)], [0.004 + n / 1e5 for n in range(40)]
    before, after = report([1] * 40, usd=dear), report([1] * 38 + [0] * 2, usd=cheap)
    assert not verdict_on(before, after, goal()).is_better
    cheaper = verdict_on(before, after, goal("-usd", "right>=0.9"))
    assert cheaper.is_better
    assert "significantly better on 40 held-out rows" in str(cheaper)
    assert "usd 0.0102 before, 0.00419 after; right 1.00" in str(cheaper)
    assert "right>=0.9 kept (1 -> 0.95)" in str(cheaper)
    worse = verdict_on(before, report([1] * 30 + [0] * 10, usd=cheap), goal("-usd", "right>=0.9"))
    assert not worse.is_better
    assert "right>=0.9 does not hold on the held-out rows" in str(worse)
    unknown = report([1] * 5, usd=[None] * 5)
    refusal = judge(unknown, unknown, goal("-usd"))
    assert isinstance(refusal, str)
    assert "could not be measured" in refusal
    slow = verdict_on(
        report([1] * 9, seconds=[2.0] * 9),
        report([1] * 9, seconds=[1.0 + n / 99 for n in range(9)]),
        goal("-p95"),
    )
    assert slow.is_better


def test_who_fails_is_not_the_cheaper_one():
    dear, cheap = [0.01 + n / 1e5 for n in range(40)], [0.009 + n / 1e5 for n in range(40)]
    before, after = report([1] * 40, usd=dear), report([1] * 5 + [None] * 35, usd=cheap)
    assert not verdict_on(before, after, goal("-usd")).is_better


def test_coming_within_a_limit_is_better_where_it_is_significant():
    dear, cheap = [0.01] * 40, [0.004 + n / 1e5 for n in range(40)]
    before, after = report([1] * 20 + [0] * 20, usd=cheap), report([1] * 38 + [0] * 2, usd=dear)
    verdict = verdict_on(before, after, goal("-usd", "right>=0.9"))
    assert verdict.is_better  # dearer, and good enough at last
    assert "it meets right>=0.9, unlike the original program" in str(verdict)
    almost = report([1] * 35 + [0] * 5, usd=cheap)
    by_chance = verdict_on(almost, report([1] * 37 + [0] * 3, usd=dear), goal("-usd", "right>=0.9"))
    assert not by_chance.is_better
    assert "may be chance" in str(by_chance)


class Sort(dspex.Signature):
    """Sort the text."""

    text: str
    label: Literal["a", "b", "c"] = dspex.Output()


TRAIN = dspex.Dataset.from_rows([{"text": f"{c}{n}", "label": c} for c in "abc" for n in range(4)])
TEST = dspex.Dataset.from_rows(
    [{"text": f"{c}{n}", "label": c} for c in "abc" for n in range(4, 16)]
)
METRICS = {
    "right": dspex.exact_match,
    "short": lambda example, prediction: float(prediction.label == "a"),
}


class _Fixed:
    """An optimizer that tries what it is given."""

    def __init__(self, *candidates):
        self._candidates = list(candidates)

    def start(self, task):
        return _Fixed(*self._candidates)

    def runs(self, task, rows):
        return len(self._candidates) * rows

    def ask(self, count):
        batch, self._candidates = self._candidates[:count], self._candidates[count:]
        return batch

    def tell(self, results):
        pass


def says(*instructions):
    return _Fixed(
        *(Candidate(label=text, assignment={"self.instructions": text}) for text in instructions)
    )


def answer(request):
    """Right where the instructions are "Good.", always "b" where "Bees.".

    Fails but for "a" where they are "Frail.".
    """
    instructions, text = (
        request.messages[0].content,
        request.messages[-1].content.rpartition("\n")[2],
    )
    if "Frail." in instructions:
        if text[0] != "a":
            raise ModelError("down")
        return json.dumps({"label": "a"})
    if "Bees." in instructions:
        return json.dumps({"label": "b"})
    return json.dumps(
        {"label": text[0] if "Good." in instructions else "b" if text[0] == "a" else "a"}
    )


def optimize(model, optimizer, program=None, **search):
    with dspex.context(model=model):
        return run(
            dspex.aoptimize(
                program or dspex.Predict(Sort),
                optimizer,
                train=TRAIN,
                metric=METRICS,
                search=Search(**search),
            )
        )


def test_candidate_that_fails_on_most_rows_does_not_win_and_is_warned_about(rulebook):
    outcome = optimize(rulebook(answer), says("Good.", "Frail."), test=TEST)
    frail = outcome.trials[2]
    assert (frail.score, frail.figures["failed"]) == (pytest.approx(1 / 3), pytest.approx(2 / 3))
    assert outcome.best.candidate.label == "Good."
    assert not outcome.warnings
    with (
        pytest.warns(
            UserWarning, match="24 of 36 rows of the best candidate on held-out rows failed"
        ),
        pytest.warns(UserWarning, match="8 of 12 rows of trial 1 failed and count as the worst"),
    ):
        alone = optimize(rulebook(answer), says("Frail."), test=TEST, insists=True)
    assert "24 after, counted as the worst" in alone.conclusion
    assert optimize(rulebook(answer), says("Frail."), subject_to=["failed<=0.1"]).best.number == 0
    with pytest.warns(UserWarning, match="failed"):
        assert optimize(rulebook(answer), says("Frail."), on_error=1.0).best.score == 1.0


def test_budget_for_the_held_out_comparison_is_set_aside(rulebook):
    model, budget = rulebook(answer), Budget(calls=12 * 3 + 2 * 36 + 5)
    outcome = optimize(model, says("Good.", "other", "third"), test=TEST, budget=budget)
    assert outcome.stopped.startswith("budget: ")
    assert "72 calls are reserved for the comparison on 36 held-out rows" in outcome.stopped
    assert outcome.verdict.is_better
    assert outcome.program.signature.instructions == "Good."
    assert len(model.requests) <= (budget.calls or 0)
    assert budget.spent.calls == len(model.requests)


def test_budget_without_room_for_the_comparison_is_refused(rulebook):
    model = rulebook(answer)
    with pytest.raises(BudgetError, match=r"two on each of 36 held-out rows.* 96 are enough"):
        optimize(model, says("Good."), test=TEST, budget=Budget(calls=60))
    assert len(model.requests) == 3
    insisted = optimize(
        rulebook(answer), says("Good."), test=TEST, budget=Budget(calls=60), insists=True
    )
    assert insisted.program.signature.instructions == "Good."
    assert insisted.verdict is None
    assert "there was no comparison on held-out rows" in insisted.conclusion
    assert insisted.result == "stopped"


def test_search_resumed_within_its_budget_ends_as_an_undisturbed_one(rulebook, tmp_path):
    whole, calls = tmp_path / "whole.jsonl", 12 * 3 + 2 * 36 + 5
    optimizer = says("Good.", "other", "third")
    first = optimize(
        rulebook(answer),
        optimizer,
        test=TEST,
        budget=Budget(calls=calls),
        journal=JsonlJournal(whole),
    )
    lines = whole.read_bytes().splitlines(keepends=True)
    for length in (20, 40, 60, 90, len(lines)):
        cut = tmp_path / f"{length}.jsonl"
        cut.write_bytes(b"".join(lines[:length]))
        model = rulebook(answer)
        again = optimize(
            model, optimizer, test=TEST, budget=Budget(calls=calls), journal=JsonlJournal(cut)
        )
        assert again.table() == first.table()
        assert str(again.verdict) == str(first.verdict)
        assert again.program.signature.instructions == "Good."


def test_cancelled_search_leaves_the_program_as_it_was_and_keeps_the_candidate(rulebook):
    control = Control()

    def cancel(trial):
        if trial.number == 1:
            control.cancel()

    outcome = optimize(
        rulebook(answer), says("Good.", "more"), test=TEST, control=control, on_trial=cancel
    )
    assert outcome.verdict is None
    assert outcome.program.signature.instructions == "Sort the text."
    assert outcome.kept == "the winner could not be compared on the held-out rows: cancelled"
    assert outcome.candidate.signature.instructions == "Good."
    assert "the program stays unchanged (the winner could not be compared" in outcome.conclusion


def test_second_metric_is_judged_when_it_was_maximized(rulebook):
    outcome = optimize(rulebook(answer), says("Bees."), test=TEST, maximize="-short")
    assert outcome.verdict.comparison.difference == pytest.approx(2 / 3)
    assert outcome.verdict.is_better
    assert "short 0.67" in str(outcome.verdict)
    assert outcome.program.signature.instructions == "Bees."


class Unpriced:
    """A model whose price nobody knows."""

    name = "unpriced"
    capabilities = frozenset({"response_schema", "constrained_decoding"})

    def __init__(self):
        self.calls = 0

    async def complete(self, request):
        self.calls += 1
        usage = Usage(input_tokens=10, output_tokens=2, calls=1, cost_usd=None)
        return Response(text=answer(request), usage=usage, model=self.name)

    async def aclose(self):
        pass


def test_limit_that_nobody_meets_is_said_and_leaves_the_program(rulebook):
    with pytest.warns(
        UserWarning,
        match=r"no program within the limits: right>=2 \(the best of 2 candidates reached 1\)",
    ):
        outcome = optimize(rulebook(answer), says("Good."), test=TEST, subject_to=["right>=2"])
    assert not outcome.verdict.is_better
    assert str(outcome.verdict).startswith("no program within the limits")
    assert outcome.program.signature.instructions == "Sort the text."
    with pytest.warns(UserWarning, match="no program within"):
        without_test = optimize(rulebook(answer), says("Good."), subject_to=["right>=2"])
    assert without_test.program.signature.instructions == "Sort the text."
    assert "no program within the limits" in without_test.conclusion
    with pytest.warns(UserWarning, match="no program within"):
        insisted = optimize(rulebook(answer), says("Good."), subject_to=["right>=2"], insists=True)
    assert insisted.program.signature.instructions == "Good."
    assert insisted.conclusion.startswith("no program within the limits")


@pytest.mark.parametrize("search", [{"maximize": "-usd"}, {"subject_to": ["usd<=0.1"]}])
def test_figures_that_cannot_be_measured_end_the_search_before_more_is_spent(search):
    model, estimates = Unpriced(), []
    with pytest.raises(DefinitionError, match=r"'usd' cannot be measured .*no price is known"):
        optimize(model, says("Good."), **search)
    assert model.calls == 12
    with pytest.raises(DefinitionError, match="'usd' cannot be measured"):
        optimize(estimated := Unpriced(), says("Good."), on_estimate=estimates.append, **search)
    assert (estimated.calls, estimates) == (3, [])


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ({"maximize": "rigt"}, "unknown figure 'rigt'. Did you mean 'right'"),
        ({"maximize": "-uds"}, "unknown figure 'uds'. Did you mean 'usd'"),
        ({"subject_to": ["righ>0.5"]}, "unknown figure 'righ'"),
        ({"subject_to": ["p95<<2"]}, "is not a limit"),
        ({"subject_to": ["p95<1.2.3"]}, "is not a limit"),
        ({"subject_to": ["p95<."]}, "is not a limit"),
        ({"alpha": 0}, "`alpha` of Search takes a number above 0 and below 1, not 0"),
    ],
)
def test_goal_that_makes_no_sense_is_refused_before_anything_is_spent(rulebook, search, message):
    model = rulebook(answer)
    with pytest.raises(DefinitionError, match=message):
        optimize(model, says("Good."), on_estimate=print, **search)
    assert not model.requests


def test_metric_may_not_be_named_like_a_figure_of_every_trial():
    with pytest.raises(DefinitionError, match="'p95' is reserved for a built-in figure"):
        Goal.of(["right", "p95"])


def test_limits_may_be_negative():
    assert parse_limit("gain >= -0.5").holds({"gain": -0.4})
    assert parse_limit("f1-macro<=1e-3").value == 0.001
    assert math.isclose(parse_limit("p95<300ms").value, 0.3)


def test_same_rows_in_validation_and_test_and_one_class_only_are_warned_about(rulebook):
    with pytest.warns(UserWarning, match="the validation rows contain 36 rows of the test split"):
        outcome = optimize(rulebook(answer), says("Good."), validation=TEST, test=TEST)
    assert outcome.warnings == (
        "the validation rows contain 36 rows of the test split (the first: row 0)",
    )
    with pytest.warns(UserWarning, match="every test row has the same 'label'"):
        optimize(rulebook(answer), says("Good."), test=TEST[:12])


@pytest.mark.parametrize(
    ("settings", "variable"),
    [
        ({"temperature": 0.9}, dspex.Float(0, 1, name="h", paths=("self.temperature",))),
        (
            {"temperature": 0.9},
            dspex.Float(0, 1, name="h", default=0.3, paths=("self.temperature",)),
        ),
        # the range does not hold it
        ({"temperature": 0.9}, dspex.Float(0, 0.5, name="h", paths=("self.temperature",))),
        ({}, dspex.Float(0, 1, name="h", paths=("self.temperature",))),  # left to the provider
    ],
)
def test_program_as_it_is_runs_as_it_is_set_until_a_variable_is_assigned(
    rulebook, settings, variable
):
    model = rulebook(answer)
    program = dspex.Predict(Sort, **settings).with_variables(variable)
    untouched = settings.get("temperature")
    warmer = Candidate(label="warmer", assignment={"h": 0.4})
    outcome = optimize(
        model,
        _Fixed(warmer, Candidate(label="text", assignment={"self.instructions": "x"})),
        program,
    )
    temperatures = [request.temperature for request in model.requests]
    assert temperatures == [untouched] * 12 + [0.4] * 12 + [untouched] * 12
    again = dspex.build(program.to_program())
    assert isinstance(again, dspex.Predict)
    assert again.settings.get("temperature") == untouched
    assert (
        program.assign({"h": 0.4}).assign({"self.instructions": "x"}).settings["temperature"] == 0.4
    )
    assert program.variables()["h"].default == (
        0.9 if untouched and variable.high == 1 else variable.default
    )
    assert outcome.trials[0].candidate.assignment == {}
