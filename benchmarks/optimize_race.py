"""Races: the same random search with and without them, on simulated models.

A part of benchmarks/optimize.py.

A random search over 16 sets of demonstrations, each scored on 60 rows; with `race=True` a set stops
as soon as it cannot win any more. Compared are the calls, and the true accuracy of what was chosen,
which the surface knows. Surfaces are drawn at random, one for each seed from 2000 on. The level of
the test was chosen on simulated scores; the first four seeds had been run with another level.
"""

from statistics import fmean
from typing import Any

import dspex
from dspex.testing import SimulatedModel, Surface

FIRST, SEEDS, QUICK = 2000, 60, 2
MARGIN, SAVINGS = -0.02, 0.3


def rows(first: int, count: int) -> dspex.Dataset:
    numbers = range(first, first + count)
    return dspex.Dataset.from_rows(
        [{"question": f"question {n}", "answer": f"answer {n}"} for n in numbers]
    )


async def one(seed: int, *, race: bool) -> tuple[float, int]:
    """Return the true accuracy of the winner, and the calls of the search."""
    surface = Surface.drawn(seed)
    few = dspex.BootstrapFewShot(max_bootstrapped=4, max_labelled=4)
    search = dspex.Search(
        seed=seed, race=race, insists=True, validation=rows(30, 60), concurrency=4
    )
    with dspex.context(model=SimulatedModel(surface, seed=seed)):
        outcome = await dspex.aoptimize(
            dspex.Predict("question -> answer", temperature=0.0),
            dspex.RandomSearch(bootstrap=few, candidates=16),
            train=rows(0, 30),
            metric=dspex.exact_match,
            search=search,
        )
    demos = [
        (int(demo["question"].split()[1]), demo["answer"].split()[1] == demo["question"].split()[1])
        for demo in outcome.program.demos
    ]
    return surface.probability("", demos, 0.0), outcome.spent.calls


async def measure(seeds: int) -> dict[str, Any]:
    results = []
    for seed in range(FIRST, FIRST + seeds):
        raced, whole = [await one(seed, race=race) for race in (True, False)]
        results.append((*raced, *whole))
    gains = [row[0] - row[2] for row in results]
    interval = dspex.evaluation.bootstrap(gains)
    raced_calls, calls = (fmean(row[column] for row in results) for column in (1, 3))
    return {
        "seeds": [FIRST, FIRST + seeds],
        "accuracy": fmean(row[0] for row in results),
        "accuracy without": fmean(row[2] for row in results),
        "calls": raced_calls,
        "calls without": calls,
        "saved": 1 - raced_calls / calls,
        "difference": fmean(gains),
        "low": interval.low,
        "high": interval.high,
    }
