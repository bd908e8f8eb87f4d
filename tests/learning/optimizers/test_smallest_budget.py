"""A budget without room for one proposal is refused, and the message names one that works."""

import json
import re
from dataclasses import replace

import pytest

import dspex
from dspex.errors import BudgetError
from dspex.evaluation import Judge
from dspex.execution.clients import Budget
from dspex.execution.clients.prices import Price
from dspex.learning.optimizers import Control, JsonlJournal, Search
from dspex.sync import run
from dspex.testing import SimulatedModel

pytest.importorskip("optuna")

ROWS = [{"question": f"question {n}", "answer": f"answer {n}"} for n in range(60)]
TRAIN, TEST = dspex.Dataset.from_rows(ROWS).split(24, seed=0)
TEST = TEST[:10]
FEW = dspex.BootstrapFewShot(max_bootstrapped=2, max_labelled=4)
OPTIMIZERS = {
    "LabeledFewShot": dspex.LabeledFewShot(k=3, candidates=3),
    "BootstrapFewShot": FEW,
    "RandomSearch": dspex.RandomSearch(bootstrap=FEW, candidates=3),
    "heats": dspex.RandomSearch(bootstrap=FEW, candidates=6, first_rows=4),
    "MIPROv2": dspex.MIPROv2(
        trials=6, minibatch=6, full_every=3, instructions=3, sets=3, bootstrap=FEW
    ),
    "Joint": dspex.Joint(trials=6, cohort=3, first_rows=4, instructions=3, sets=2, bootstrap=FEW),
}


def _search(optimizer, search, *, model=None, metric=dspex.exact_match):
    with dspex.context(model=model or SimulatedModel(seed=2)):
        return run(
            dspex.aoptimize(
                dspex.Predict("question -> answer", temperature=0.0),
                optimizer,
                train=TRAIN,
                metric=metric,
                search=search,
            )
        )


def _price(label):
    return Price(input=((0, 1.0),), output=((0, 4.0),), cached=((0, 1.0),))


def _proposals(outcome):
    return [trial for trial in outcome.trials[1:] if trial.candidate.is_final]


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("test", [None, TEST], ids=["alone", "held out"])
def test_budget_in_calls_below_the_first_proposal_is_refused_and_the_number_named_works(name, test):
    model = SimulatedModel(seed=2)
    with pytest.raises(BudgetError, match="is too small for one candidate") as error:
        _search(OPTIMIZERS[name], Search(budget=Budget(calls=26), test=test), model=model)
    assert model.calls == 3
    least, enough = map(int, re.findall(r"at least (\d+) calls\. (\d+) are", str(error.value))[0])
    assert 26 < least <= enough
    outcome = _search(OPTIMIZERS[name], Search(budget=Budget(calls=enough), test=test))
    assert _proposals(outcome)
    assert outcome.spent.calls <= enough
    assert outcome.result != "budget too small"
    if test is not None and outcome.best.candidate.assignment:
        assert outcome.verdict is not None


@pytest.mark.parametrize("name", ["LabeledFewShot", "MIPROv2"])
@pytest.mark.parametrize(
    ("unit", "little", "pattern"),
    [("tokens", 3_000, r"(\d+) are enough"), ("usd", 0.004, r"([\d.]+) are enough")],
)
def test_the_same_holds_of_tokens_and_dollars(name, unit, little, pattern):
    with pytest.raises(BudgetError, match="is too small for one candidate") as error:
        _search(OPTIMIZERS[name], Search(budget=Budget(**{unit: little}, price=_price)))
    enough = float(re.findall(pattern, str(error.value))[0])
    outcome = _search(OPTIMIZERS[name], Search(budget=Budget(**{unit: enough}, price=_price)))
    assert _proposals(outcome)


def test_judges_count_too(rulebook):
    def answer(request):
        is_judge = "criterion" in request.messages[0].content
        return json.dumps({"reason": "so", "score": 1.0} if is_judge else {"answer": "so"})

    with pytest.raises(BudgetError, match=r"of 60 calls .*at least 90 calls\. 90 are enough"):
        _search(
            dspex.LabeledFewShot(k=3, candidates=1),
            Search(budget=Budget(calls=60)),
            model=rulebook(answer),
            metric={"exact_match": dspex.exact_match, "brief": Judge("is brief")},
        )


def test_budget_that_ends_in_the_first_rows_is_refused_with_the_runs_of_a_proposal():
    with pytest.raises(BudgetError, match=r"of 2 calls.* 24 runs .* at least 21 for the proposal"):
        _search(dspex.LabeledFewShot(k=3, candidates=1), Search(budget=Budget(calls=2)))


def test_refused_search_goes_on_with_a_larger_budget(tmp_path):
    first, second = SimulatedModel(seed=2), SimulatedModel(seed=2)
    search = Search(budget=Budget(calls=26), journal=JsonlJournal(tmp_path / "journal.jsonl"))
    with pytest.raises(BudgetError):
        _search(FEW, search, model=first)
    outcome = _search(FEW, replace(search, budget=Budget(calls=200)), model=second)
    assert outcome.spent.calls == first.calls + second.calls


def test_search_that_spends_its_budget_before_the_first_proposal_reports_it():
    wrong = SimulatedModel(seed=2)
    wrong.surface = _Never()
    few = dspex.BootstrapFewShot(max_bootstrapped=2, max_labelled=4)
    outcome = _search(few, Search(budget=Budget(calls=46)), model=wrong)
    assert outcome.result == "budget too small"
    assert outcome.conclusion.endswith("the budget was too small to score one proposal")
    assert not outcome.program.demos


class _Never:
    def probability(self, system, demos, temperature):
        return 0.0

    def tokens(self, system):
        return 20


def test_outcome_is_one_of_four():
    few = dspex.LabeledFewShot(k=4, candidates=8)
    better = _search(few, Search(test=TEST, insists=True))
    assert better.result == (
        "improved" if better.verdict.is_better else "no significant improvement"
    )
    wrong = SimulatedModel(seed=2)
    wrong.surface = _Never()
    assert _search(few, Search(test=TEST), model=wrong).result == "no significant improvement"
    control = Control()
    search = Search(test=TEST, control=control, on_trial=lambda trial: control.cancel())
    assert _search(few, search).result == "stopped"


def test_estimate_says_how_many_proposals_fit():
    estimates = []
    _search(
        dspex.LabeledFewShot(k=4, candidates=8),
        Search(budget=Budget(calls=100), on_estimate=estimates.append),
    )
    assert estimates[0].proposals == (100 - 24) // 20
    assert str(estimates[0]).endswith("; the budget is for at least 3 proposals")
    _search(dspex.LabeledFewShot(k=4, candidates=1), Search(on_estimate=estimates.append))
    assert estimates[1].proposals is None
