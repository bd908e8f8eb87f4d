"""The estimate before a search is the upper bound that it promises to be."""

import pytest

import dspex
from dspex.learning.optimizers import Joint, Search
from dspex.sync import run
from dspex.testing import SimulatedModel

ROWS = [{"question": f"question {n} {'and more ' * (n % 7)}", "answer": f"answer {n}"} for n in range(40)]
TRAIN = dspex.Dataset.from_rows(ROWS)
TEST = dspex.Dataset.from_rows([{"question": f"question {n}", "answer": f"answer {n}"} for n in range(50, 70)])
PROGRAM = dspex.Predict("question -> answer").with_variables(
    dspex.Text("Answer.", options=("Answer.", "Be careful and exact, " * 9), name="self.instructions"),
    dspex.Float(0, 1.5, name="self.temperature"),
)


@pytest.mark.parametrize(
    "optimizer",
    [
        dspex.LabeledFewShot(k=12, candidates=4),
        dspex.BootstrapFewShot(),
        dspex.RandomSearch(candidates=3),
        dspex.MIPROv2(trials=6, minibatch=10, instructions=3, sets=3),
        Joint(trials=8, cohort=4, instructions=2, sets=2),
    ],
    ids=lambda found: type(found).__name__,
)
def test_no_search_uses_more_than_was_estimated(optimizer):
    if isinstance(optimizer, dspex.MIPROv2 | Joint):
        pytest.importorskip("optuna")
    told = []
    with dspex.context(model=SimulatedModel(seed=2)):
        outcome = run(
            dspex.optimize(
                PROGRAM,
                optimizer,
                train=TRAIN,
                metric=dspex.exact_match,
                search=Search(test=TEST, on_estimate=told.append),
            )
        )
    (estimate,), spent = told, outcome.spent
    assert spent.calls <= estimate.calls
    assert spent.total_tokens <= estimate.tokens <= 9 * spent.total_tokens
    assert spent.cost_usd <= estimate.usd <= 9 * spent.cost_usd
    assert str(estimate).endswith(" s")
