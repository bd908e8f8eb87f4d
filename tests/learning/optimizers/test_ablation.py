"""A search that says what each value of its winner is worth, within its budget."""

import re
import warnings

import dspex
from dspex.execution.clients import Budget
from dspex.learning.optimizers.export import to_html
from dspex.learning.optimizers.journal import MemoryJournal
from dspex.optimizers import Joint, Search, aoptimize
from dspex.testing import ScriptedModel

ROWS = dspex.Dataset.from_rows(
    {"question": f"question {n}", "answer": f"answer {n}"} for n in range(60)
)
TRAIN, TEST = ROWS.split(0.5, seed=1)


def reply(request):
    """Answer every third question right, and every one at a temperature of 0.9."""
    number = re.findall(r"question (\d+)", str(request.messages[-1].content))[-1]
    is_right = int(number) % 3 == 0 or request.temperature == 0.9
    return f"[[ ## answer ## ]]\n{'answer ' + number if is_right else 'none'}"


PROGRAM = dspex.Predict(
    "question -> answer",
    temperature=dspex.OneOf(0.0, 0.9, default=0.0),
    max_tokens=dspex.OneOf(100, 200, default=100),
)


async def search(model, **values):
    settings = Search(test=TEST, rows=15, ablate=True, **values)
    with dspex.context(model=model):
        return await aoptimize(
            PROGRAM, Joint(trials=8), train=TRAIN, metric=dspex.exact_match, search=settings
        )


async def test_a_search_measures_what_each_value_of_its_winner_adds():
    outcome = await search(ScriptedModel(reply))
    assert outcome.result == "improved"
    assert outcome.ablation.keys() == outcome.best.candidate.assignment.keys()
    heat = outcome.ablation["self.temperature"]
    assert (heat.is_better, heat.pairs) == (True, 30)
    assert heat.difference > 0.5
    assert heat.alpha == 0.05 / len(outcome.ablation)
    assert all(
        each.difference == 0
        for name, each in outcome.ablation.items()
        if name != "self.temperature"
    )
    page = to_html(outcome, "search")
    assert "What each value is worth" in page
    assert f"{heat.difference:+.3f}" in page


async def test_a_resumed_search_asks_nothing_again_for_its_ablation():
    journal, model = MemoryJournal(), ScriptedModel(reply)
    first = await search(model, journal=journal)
    calls = len(model.requests)
    second = await search(model, journal=journal)
    assert len(model.requests) == calls
    assert second.new_calls == 0
    assert {name: each.to_dict() for name, each in second.ablation.items()} == {
        name: each.to_dict() for name, each in first.ablation.items()
    }


async def test_an_ablation_never_exceeds_the_budget_and_says_what_is_missing():
    whole = await search(ScriptedModel(reply))
    calls = whole.spent.calls - 10
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        outcome = await search(ScriptedModel(reply), budget=Budget(calls=calls))
    assert outcome.spent.calls <= calls
    if outcome.ablation.keys() != outcome.best.candidate.assignment.keys():
        assert any("ended after the ablation of" in text for text in outcome.warnings)
    assert outcome.result == "improved"


async def test_without_the_setting_nothing_is_spent_on_it():
    model = ScriptedModel(reply)
    settings = Search(test=TEST, rows=15)
    with dspex.context(model=model):
        outcome = await aoptimize(
            PROGRAM, Joint(trials=8), train=TRAIN, metric=dspex.exact_match, search=settings
        )
    assert outcome.ablation == {}
