"""The estimate before a search is the upper bound that it promises to be."""

from dataclasses import replace

import pytest

import dspex
from dspex.learning.optimizers import Joint, Search
from dspex.sync import run
from dspex.testing import SimulatedModel

ROWS = [
    {"question": f"question {n} {'and more ' * (n % 7)}", "answer": f"answer {n}"}
    for n in range(40)
]
TRAIN = dspex.Dataset.from_rows(ROWS)
TEST = dspex.Dataset.from_rows(
    [{"question": f"question {n}", "answer": f"answer {n}"} for n in range(50, 70)]
)
PROGRAM = dspex.Predict("question -> answer").with_variables(
    dspex.Text(
        "Answer.", options=("Answer.", "Be careful and exact, " * 9), name="self.instructions"
    ),
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
    estimates = []
    with dspex.context(model=SimulatedModel(seed=2)):
        outcome = run(
            dspex.aoptimize(
                PROGRAM,
                optimizer,
                train=TRAIN,
                metric=dspex.exact_match,
                search=Search(test=TEST, on_estimate=estimates.append),
            )
        )
    (estimate,), spent = estimates, outcome.spent
    assert spent.calls <= estimate.calls
    assert spent.total_tokens <= estimate.tokens <= 9 * spent.total_tokens
    assert spent.cost_usd is not None
    assert estimate.usd is not None
    assert spent.cost_usd <= estimate.usd <= 9 * spent.cost_usd
    assert str(estimate).endswith(" s")


@pytest.mark.parametrize(
    ("recipe", "rows"),
    [
        (Joint(trials=5, cohort=9, first_rows=1, instructions=1, sets=1), 5),
        (
            Joint(
                trials=5,
                cohort=9,
                first_rows=1,
                instructions=1,
                sets=0,
                objectives=("-tokens", "failed"),
            ),
            12,
        ),
        (Joint(trials=12, cohort=4, first_rows=50, instructions=1, sets=1), 12),
        # more trials than there are points
        (Joint(trials=30, cohort=4, first_rows=3, keep=2, instructions=1, sets=1), 12),
    ],
)
def test_joint_runs_no_more_often_than_it_says_however_its_cohorts_fall_out(recipe, rows):
    pytest.importorskip("optuna")
    for options in ((), (0.0, 0.5, 1.0), tuple(n / 50 for n in range(50))):
        program = dspex.Predict("question -> answer")
        if options:
            program = program.with_variables(dspex.OneOf(*options, name="self.temperature"))
        elif not recipe.sets:
            continue
        estimates, few = [], dspex.BootstrapFewShot(max_bootstrapped=1, max_labelled=2)
        search = Search(rows=rows, on_estimate=estimates.append)
        with dspex.context(model=SimulatedModel(seed=2)):
            work = dspex.aoptimize(
                program,
                replace(recipe, bootstrap=few),
                train=TRAIN,
                metric=dspex.exact_match,
                search=search,
            )
            outcome = run(work)
        assert outcome.spent.calls <= estimates[0].calls
