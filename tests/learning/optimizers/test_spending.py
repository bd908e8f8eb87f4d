"""What a search may spend: money, calls and time hold over failures, retries and lives."""

import asyncio
import json
from dataclasses import replace
from typing import Literal

import msgspec
import pytest

import dspex
from dspex.errors import BudgetError, ExecutionError, ModelTimeoutError, ModelUnavailableError
from dspex.execution.clients import Budget, Retrying
from dspex.execution.context import current
from dspex.learning.optimizers import Control, JsonlJournal, Search
from dspex.learning.optimizers.journal import MemoryJournal
from dspex.sync import run
from dspex.testing import FakeClock, SimulatedModel


class Sort(dspex.Signature):
    """Sort the text."""

    text: str
    label: Literal["a", "b"] = dspex.Output()


TRAIN = dspex.Dataset.from_rows([{"text": f"{c}{n}", "label": c} for c in "ab" for n in range(4)])
FEW = dspex.LabeledFewShot(per_class=1, candidates=6)


def _search(model, search, optimizer=FEW):
    with dspex.context(model=model):
        return run(
            dspex.aoptimize(
                dspex.Predict(Sort), optimizer, train=TRAIN, metric=dspex.exact_match, search=search
            )
        )


def _failing(rulebook, *, every, error):
    """A model of which every n-th call fails."""

    def answer(_):
        if len(model.requests) % every == 0:
            raise error
        return json.dumps({"label": "a"})

    model = rulebook(answer)
    return model


def test_failed_calls_and_retries_count_and_the_outcome_says_so(rulebook, tmp_path):
    model = _failing(rulebook, every=2, error=ModelUnavailableError("away", status=500))
    retrying = Retrying(model, clock=FakeClock(jumps=True))
    file = tmp_path / "j.jsonl"
    outcome = _search(retrying, Search(budget=Budget(calls=40), journal=JsonlJournal(file)))
    assert len(model.requests) == outcome.spent.calls == outcome.new_calls == 40
    assert outcome.stopped.startswith("budget: the budget of 40 calls")
    more = _search(retrying, Search(budget=Budget(calls=50), journal=JsonlJournal(file)))
    assert len(model.requests) == more.spent.calls == 50  # those of the first life count


@pytest.mark.filterwarnings("ignore:.*failed and count as the worst")
def test_rows_that_fail_count_too(rulebook):
    model = _failing(rulebook, every=2, error=ModelTimeoutError("silent"))
    outcome = _search(model, Search(budget=Budget(calls=30), concurrency=4))
    assert len(model.requests) == outcome.spent.calls == 30


def _better_shown(request):
    is_shown = len(request.messages) > 2
    return json.dumps(
        {"label": request.messages[-1].content.rpartition("\n")[2][0] if is_shown else "a"}
    )


class _Timed:
    name = "timed"
    capabilities = frozenset({"constrained_decoding", "response_schema"})

    def __init__(self, rulebook, clock, *, hangs_after=10**9):
        self.model, self.clock, self.hangs_after = rulebook(_better_shown), clock, hangs_after
        self.cancelled = 0

    async def complete(self, request):
        response = await self.model.complete(request)
        if len(self.model.requests) > self.hangs_after:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        if self.clock is not None:
            await self.clock.advance(1)
        return response

    async def aclose(self):
        pass


def test_seconds_end_a_search_with_what_it_found_and_those_of_an_earlier_life_count(
    rulebook, tmp_path
):
    clock, file = FakeClock(), tmp_path / "j.jsonl"
    model = _Timed(rulebook, clock)
    budget = Budget(seconds=20, clock=clock)
    outcome = _search(model, Search(budget=budget, journal=JsonlJournal(file), concurrency=1))
    assert outcome.stopped == "budget: the budget of 20 seconds is used up"
    assert 18 <= len(model.model.requests) <= 20
    assert [trial.number for trial in outcome.trials] == [0, 1]
    clock = FakeClock()
    again = _Timed(rulebook, clock)
    more = Budget(seconds=25, clock=clock)
    _search(again, Search(budget=more, journal=JsonlJournal(file), concurrency=1))
    assert 3 <= len(again.model.requests) <= 6


def test_a_model_that_hangs_is_cancelled_when_time_is_up_and_the_outcome_is_whole(rulebook):
    model = _Timed(rulebook, None, hangs_after=15)
    outcome = _search(model, Search(budget=Budget(seconds=0.3), concurrency=3))
    assert model.cancelled == 3
    assert outcome.stopped == "budget: the budget of 0.3 seconds is used up"
    assert outcome.trials
    assert outcome.best.score is not None


def test_a_program_that_hangs_outside_of_its_model_is_cancelled_too(rulebook):
    model = rulebook(lambda _: json.dumps({"label": "a"}))

    class Hanging(dspex.Module):
        def __init__(self):
            self.sort = dspex.Predict(Sort)

        def contract(self):
            return self.sort.contract()

        async def forward(self, text):
            if len(model.requests) > 12:
                await asyncio.Event().wait()
            return await self.sort.acall(text=text)

    with dspex.context(model=model):
        outcome = run(
            dspex.aoptimize(
                Hanging(),
                FEW,
                train=TRAIN,
                metric=dspex.exact_match,
                search=Search(budget=Budget(seconds=0.5)),
            )
        )
    assert outcome.stopped == "budget: the budget of 0.5 seconds is used up"
    with pytest.raises(BudgetError, match="one candidate"):
        _search(_Timed(rulebook, None, hangs_after=0), Search(budget=Budget(seconds=0.05)))


def test_time_is_kept_for_the_comparison_on_held_out_rows(rulebook):
    clock = FakeClock()
    model = _Timed(rulebook, clock)
    test = dspex.Dataset.from_rows(
        [{"text": f"{c}{n}", "label": c} for c in "ab" for n in range(4, 10)]
    )
    search = Search(budget=Budget(seconds=50, clock=clock), concurrency=1, test=test)
    with dspex.context(model=model):
        context = msgspec.structs.replace(current(), clock=clock)
        outcome = run(
            dspex.aoptimize(
                dspex.Predict(Sort),
                FEW,
                train=TRAIN,
                metric=dspex.exact_match,
                search=search,
                context=context,
            )
        )
    assert (outcome.stopped or "").startswith(
        "budget: the budget of 50 seconds is used up (24 calls are reserved"
    )
    assert clock.monotonic_ns() <= 50e9
    assert outcome.best.number == 1
    assert outcome.verdict is not None
    assert outcome.verdict.is_better


class _Careful(dspex.Module):
    """Has its own answer for a call that fails, whatever the reason."""

    signature = "question -> answer"

    def __init__(self):
        self.ask = dspex.Predict("question -> answer")

    async def forward(self, question):
        try:
            answer = (await self.ask.acall(question=question)).answer
        except Exception:  # noqa: BLE001  # as a careful user writes it
            answer = "unknown"
        return {"answer": answer}


@pytest.mark.parametrize("calls", [25, 47])
def test_a_trial_that_the_budget_cuts_short_does_not_count_though_the_program_goes_on(
    calls,
):
    rows = dspex.Dataset.from_rows(
        [{"question": f"question {n}", "answer": f"answer {n}"} for n in range(20)]
    )

    def start(search):
        with dspex.context(model=SimulatedModel(seed=1)):
            recipe = dspex.RandomSearch(candidates=3)
            return run(
                dspex.aoptimize(
                    _Careful(), recipe, train=rows, metric=dspex.exact_match, search=search
                )
            )

    outcome = start(Search(budget=Budget(calls=calls), concurrency=3))
    assert outcome.stopped
    assert outcome.spent.calls == calls
    # none of them was answered without the model
    assert all(trial.report.usage.calls for trial in outcome.trials)
    with pytest.raises(BudgetError, match="too small for one candidate"):
        start(Search(budget=Budget(calls=19)))


@pytest.mark.parametrize("estimates", [[], None])
def test_a_search_that_is_cancelled_before_anything_was_scored_says_so(rulebook, estimates):
    control = Control()
    control.cancel()
    model = rulebook(lambda _: "{}")
    search = Search(control=control, on_estimate=None if estimates is None else estimates.append)
    with (
        dspex.context(model=model),
        pytest.raises(ExecutionError, match="cancelled before the unchanged program"),
    ):
        run(
            dspex.aoptimize(
                dspex.Predict("text -> label"),
                FEW,
                train=TRAIN,
                metric=dspex.exact_match,
                search=search,
            )
        )
    assert not model.requests
    assert not estimates


def test_a_budget_counts_each_call_once_though_the_search_is_started_again(rulebook):
    held_out = dspex.Dataset.from_rows(
        [{"text": f"{c}{n}", "label": c} for c in "ab" for n in range(4, 8)]
    )
    limited = Search(test=held_out, budget=Budget(calls=90), journal=MemoryJournal())
    model = rulebook(lambda _: json.dumps({"label": "a"}))
    for search in (
        limited,
        limited,
        replace(limited, maximize="-tokens"),
        replace(limited, subject_to=["failed<=0"]),
    ):
        outcome = _search(model, search)
        assert outcome.stopped is None
        assert limited.budget.spent.calls == outcome.spent.calls == len(model.requests)
    larger = replace(limited, budget=Budget(calls=90))
    _search(model, larger)
    # another budget counts what was spent before
    assert larger.budget.spent.calls == len(model.requests)


def test_time_between_two_starts_of_a_search_does_not_count(rulebook):
    clock = FakeClock()
    search = Search(budget=Budget(seconds=200, clock=clock), journal=MemoryJournal(), concurrency=1)
    first = _search(_Timed(rulebook, clock), search)
    spent = search.budget.elapsed
    run(clock.advance(3600))
    assert search.budget.elapsed == spent
    again = _search(_Timed(rulebook, clock), search)
    assert (again.stopped, again.new_calls) == (None, 0)
    assert again.table() == first.table()


class BringsItsModel(dspex.Module):
    """Uses the model of its predictor, and that of the context in a predictor made on the way."""

    signature = Sort

    def __init__(self, sort):
        super().__init__()
        self.sort = sort

    async def forward(self, text):
        model = current().model_for(None)
        await dspex.Predict(Sort, model=model).acall(text=text)
        return await self.sort.acall(text=text)


def test_models_that_modules_bring_are_replayed_and_within_the_budget(rulebook):
    brought, model = (rulebook(lambda _: json.dumps({"label": "a"})) for _ in range(2))
    program = BringsItsModel(dspex.Predict(Sort, model=brought))
    with dspex.context(model=model):
        outcome = run(
            dspex.aoptimize(
                program,
                FEW,
                train=TRAIN,
                metric=dspex.exact_match,
                search=Search(budget=Budget(calls=30), concurrency=1),
            )
        )
    assert (outcome.stopped or "").startswith("budget: the budget of 30 calls")
    assert len(model.requests) + len(brought.requests) == outcome.spent.calls == 30
    assert len(brought.requests) > len(TRAIN)
