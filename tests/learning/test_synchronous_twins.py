"""`evaluate`, `optimize` and `ablate` from scripts and on an event loop.

Code runs on an event loop in a notebook, for example.
"""

import asyncio
import inspect

import pytest

import dspex
from dspex.optimizers import aablate, ablate
from dspex.sync import run
from dspex.testing import SimulatedModel

ROWS = dspex.Dataset.from_rows(
    [{"question": f"question {n}", "answer": f"answer {n}"} for n in range(12)]
)
PROGRAM = dspex.Predict("question -> answer", temperature=dspex.Float(0, 1))


def test_evaluate_gives_the_same_report_as_its_asynchronous_twin() -> None:
    with dspex.context(model=SimulatedModel(seed=3)):
        report = dspex.evaluate(PROGRAM, ROWS, dspex.exact_match)
        twin = run(dspex.aevaluate(PROGRAM, ROWS, dspex.exact_match))
    assert report.scored == 12
    assert [row.scores for row in report.rows] == [row.scores for row in twin.rows]


def test_the_synchronous_forms_work_on_a_running_loop_as_in_a_notebook() -> None:
    async def cell() -> tuple[dspex.Report, object]:
        report = dspex.evaluate(PROGRAM, ROWS, dspex.exact_match)
        outcome = dspex.optimize(
            PROGRAM, dspex.RandomSearch(candidates=1), train=ROWS, metric=dspex.exact_match
        )
        return report, ablate(PROGRAM, outcome.best, ROWS, metric=dspex.exact_match)

    with dspex.context(model=SimulatedModel(seed=3)):
        report, comparisons = asyncio.run(cell())
    assert report.scored == 12
    assert isinstance(comparisons, dict)


@pytest.mark.parametrize(
    ("synchronous", "asynchronous"),
    [(dspex.evaluate, dspex.aevaluate), (dspex.optimize, dspex.aoptimize), (ablate, aablate)],
)
def test_both_forms_take_the_same_parameters(synchronous: object, asynchronous: object) -> None:
    assert inspect.signature(synchronous).parameters == inspect.signature(asynchronous).parameters
