"""Joint search against tuning one variable at a time, on simulated models.

A part of benchmarks/optimize.py.

What varies: 8 instructions, 6 sets of demonstrations, the temperature, and whether the program
reasons first. Both ways use the same recipe and have the same number of model calls; one after the
other takes the variables in an order drawn by the seed, a quarter of the calls each, and keeps what
it chose. Compared are the true accuracy of what each way chose (known, because the surface is), and
the hypervolume of true accuracy and cost over all candidates scored in full.

Surfaces are drawn at random, 30 training rows each. "pairs" has effects of single features and of
pairs of them, "no pairs" those of single features only, and "bottleneck" is of another kind that no
part of the search was looked at with. The recipe was chosen on seeds from 100 on of "pairs";
reported are seeds from 0 on."""

import random
from statistics import fmean
from typing import Any

import dspex
from dspex.execution.clients import Budget
from dspex.language.variables import Examples
from dspex.learning.evaluation import bootstrap
from dspex.learning.optimizers.limits import hypervolume
from dspex.testing import Bottleneck, SimulatedModel, Surface
from dspex.testing.simulated import PROPOSALS

FAMILIES = {
    "pairs": Surface.drawn,
    "no pairs": lambda seed: Surface.drawn(seed, together=0.0),
    "bottleneck": Bottleneck.drawn,
}
TEXTS = ("Answer.", *(text for text in PROPOSALS if "step" not in text))
PLAIN, REASONING = "alternatives['Predict']", "alternatives['ChainOfThought'].predict"
VARIED = ("style", "demos", "heat", "self.self")
OBJECTIVES = ("exact_match", "-usd")
CALLS = 600


def questions(first: int, count: int) -> dspex.Dataset:
    rows = [
        {"question": f"question {n}", "answer": f"answer {n}"} for n in range(first, first + count)
    ]
    return dspex.Dataset.from_rows(rows)


def program() -> dspex.Module:
    either = dspex.OneOf(
        dspex.Predict("question -> answer"), dspex.ChainOfThought("question -> answer")
    )
    return either.with_variables(
        dspex.Text(
            TEXTS[0],
            options=TEXTS,
            name="style",
            paths=(f"{PLAIN}.instructions", f"{REASONING}.instructions"),
        ),
        Examples(name="demos", paths=(f"{PLAIN}.demos", f"{REASONING}.demos")),
        dspex.Float(
            0, 1.5, name="heat", paths=(f"{PLAIN}.temperature", f"{REASONING}.temperature")
        ),
    )


def true_accuracy(model: SimulatedModel, values: dict[str, Any]) -> float:
    system = values.get("style", TEXTS[0])
    if values.get("self.self") == "ChainOfThought":
        system += " [[ ## reasoning ## ]]"
    demos = [
        (
            int(demo["question"].split()[1]),
            demo["answer"] == demo["question"].replace("question", "answer"),
        )
        for demo in values.get("demos", [])
    ]
    return model.truth(system, demos, values.get("heat", 0.0))


async def run_search(
    values: dict[str, Any], only: tuple[str, ...], *, seed: int, calls: int
) -> Any:
    few = dspex.BootstrapFewShot(max_bootstrapped=4, max_labelled=4)
    recipe = dspex.Joint(
        trials=200, cohort=8, first_rows=4, keep=2, instructions=1, sets=5, bootstrap=few,
        objectives=OBJECTIVES, only=only,
    )  # fmt: skip
    search = dspex.Search(seed=seed, budget=Budget(calls=calls), insists=True)
    student = program().assign(values)
    return await dspex.aoptimize(
        student, recipe, train=questions(0, 30), metric=dspex.exact_match, search=search
    )


def volume(model: SimulatedModel, runs: list[tuple[Any, dict[str, Any]]]) -> float:
    points = []
    for trials, values in runs:
        for trial in trials:
            if trial.candidate.is_final and trial.score is not None:
                accuracy = true_accuracy(model, {**values, **trial.candidate.assignment})
                points.append((accuracy, -1e4 * trial.figures["usd"]))
    return hypervolume(points, (0.0, -8.0))


async def both_ways(family: str, seed: int) -> dict[str, float]:
    surface = FAMILIES[family](seed)
    model = SimulatedModel(surface, seed=seed)
    with dspex.context(model=model):
        together = await run_search({}, (), seed=seed, calls=CALLS)
    result = {
        "joint accuracy": true_accuracy(model, dict(together.best.candidate.assignment)),
        "joint hypervolume": volume(model, [(together.trials, {})]),
        "plain accuracy": true_accuracy(model, {}),
    }
    model = SimulatedModel(surface, seed=seed)
    values: dict[str, Any] = {}
    runs = []
    with dspex.context(model=model):
        for name in random.Random(seed).sample(VARIED, len(VARIED)):
            step = await run_search(values, (name,), seed=seed, calls=CALLS // len(VARIED))
            runs.append((step.trials, dict(values)))
            values |= step.best.candidate.assignment
    return result | {
        "sequence accuracy": true_accuracy(model, values),
        "sequence hypervolume": volume(model, runs),
    }


async def measure(seeds: range) -> dict[str, Any]:
    result: dict[str, Any] = {"seeds": [seeds.start, seeds.stop], "calls": CALLS}
    for family in FAMILIES:
        rows = [await both_ways(family, seed) for seed in seeds]
        result[family] = {"plain accuracy": fmean(row["plain accuracy"] for row in rows)}
        for what in ("accuracy", "hypervolume"):
            gains = [row[f"joint {what}"] - row[f"sequence {what}"] for row in rows]
            interval = bootstrap(gains)
            result[family][what] = {
                "joint": fmean(row[f"joint {what}"] for row in rows),
                "sequence": fmean(row[f"sequence {what}"] for row in rows),
                "difference": fmean(gains),
                "low": interval.low,
                "high": interval.high,
            }
    return result
