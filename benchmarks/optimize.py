"""Searches: what survives a kill, what joint search is worth, and how its sampler does on known functions.

    python benchmarks/optimize.py [--resume-only] [--quick] [--check]

1. A search of more than 200 trials is killed with SIGKILL at 20 random points and resumed each time. It has to end with
   the same program and trials table as an undisturbed one, ask no committed call again, and repeat at most
   `concurrency` calls for each kill.
2. On a simulated model with a known response surface, at equal model calls: Joint against tuning the same variables one
   after the other. Compared are the true accuracy of the winner, and the hypervolume of the front in accuracy and cost.
3. On known functions over mixed, conditional spaces: the sampler of Joint against plain Optuna and random sampling, by
   the regret after 60 evaluations.
"""

import argparse
import asyncio
import json
import math
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from itertools import islice
from pathlib import Path
from statistics import fmean, median

import dspex
from dspex.execution.clients.budgeted import Budget
from dspex.language.variables import Boolean, Choice, Space, samples
from dspex.learning.evaluation import bootstrap
from dspex.learning.optimizers.limits import hypervolume
from dspex.learning.optimizers.tuner import Tuner
from dspex.testing import SimulatedModel

ROOT = Path(__file__).resolve().parents[1]
CONCURRENCY = 4
KILLS = 20


def started(journal: Path, calls: Path) -> subprocess.Popen:
    command = [sys.executable, str(ROOT / "benchmarks" / "optimize_run.py"), str(journal), str(calls), str(CONCURRENCY)]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def lines(file: Path) -> int:
    return file.read_bytes().count(b"\n") if file.exists() else 0


def answers(journal: Path) -> int:
    data = journal.read_bytes() if journal.exists() else b""
    return sum(b'"kind":"answer"' in line for line in data.splitlines(keepends=True) if line.endswith(b"\n"))


def resume(kills: int) -> dict[str, object]:
    """Kill one search again and again, and compare its end with that of another that nobody disturbs."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        whole = json.loads(started(place / "whole.jsonl", place / "whole.calls").communicate()[0])
        total = lines(place / "whole.calls")
        points = sorted(random.Random(5).sample(range(1, total), kills))
        journal, calls = place / "killed.jsonl", place / "killed.calls"
        done, repeats = [], 0
        for point in points:
            work = started(journal, calls)
            while answers(journal) < point and work.poll() is None:
                time.sleep(0.001)
            if work.poll() is None:
                work.send_signal(signal.SIGKILL)
                done.append(answers(journal))
            work.communicate()
        known = answers(journal)
        last = json.loads(started(journal, calls).communicate()[0])
        asked = Counter(calls.read_bytes().splitlines())
        repeats = sum(count - 1 for count in asked.values())
        return {
            "trials": len(whole["table"]),
            "calls undisturbed": total,
            "kills": len(done),
            "killed after answers": done,
            "same program": last["program"] == whole["program"],
            "same trials table": last["table"] == whole["table"],
            "committed calls asked again": last["made"] - (total - known),
            "calls repeated in all": repeats,
            "allowed": len(done) * CONCURRENCY,
        }


def questions(first: int, count: int) -> dspex.Dataset:
    rows = [{"question": f"question {n}", "answer": f"answer {n}"} for n in range(first, first + count)]
    return dspex.Dataset.from_rows(rows)


TEXTS = ("Answer.", "Be careful.", "Be exact.", "Be careful and exact.", "Think step by step.", "Be a careful poem.")
PLAIN = ("self.instructions", "self.temperature")


def program(*varied: str) -> dspex.Module:
    every = {
        "self.instructions": dspex.Text(TEXTS[0], options=TEXTS, name="self.instructions"),
        "self.temperature": dspex.Float(0, 1.5, name="self.temperature"),
    }
    return dspex.Predict("question -> answer").with_variables(*(every[name] for name in varied))


def true_accuracy(model: SimulatedModel, module: dspex.Module, assignment: dict[str, object]) -> float:
    made = module.assign(assignment)
    demos = [
        (int(demo["question"].split()[1]), demo["answer"] == demo["question"].replace("question", "answer"))
        for demo in made.demos
    ]
    return model.truth(made.signature.instructions, demos, made.settings.get("temperature", 0.0))


async def searched(module: dspex.Module, recipe: dspex.Joint, *, seed: int, calls: int) -> object:
    search = dspex.Search(seed=seed, budget=Budget(calls=calls), insists=True)
    return await dspex.optimize(module, recipe, train=questions(0, 30), metric=dspex.exact_match, search=search)


def recipe(sets: int, objectives: tuple[str, ...]) -> dspex.Joint:
    few = dspex.BootstrapFewShot(max_bootstrapped=4, max_labelled=4)
    return dspex.Joint(
        trials=200, cohort=8, first_rows=6, keep=2, instructions=1, sets=sets, bootstrap=few, objectives=objectives
    )


async def joint_against_sequence(seed: int, calls: int) -> dict[str, float]:
    """Return true accuracy and hypervolume of both ways, with `calls` model calls each."""
    objectives = ("exact_match", "-usd")
    model = SimulatedModel(seed=seed)
    with dspex.context(model=model):
        both = await searched(program(*PLAIN), recipe(5, objectives), seed=seed, calls=calls)
    points = {"joint": [(both.trials, program(*PLAIN), {})]}
    best = {"joint": true_accuracy(model, program(*PLAIN), both.best.candidate.assignment)}
    model = SimulatedModel(seed=seed)
    kept: dict[str, object] = {}
    points["sequence"] = []
    for step, sets in ((("self.instructions",), 0), ((), 5), (("self.temperature",), 0)):
        given = program(*PLAIN).assign(kept)
        base = dspex.Predict(given.signature, demos=given.demos, **given.settings)
        every = {"self.instructions": dspex.Text(TEXTS[0], options=TEXTS, name="self.instructions")}
        every["self.temperature"] = dspex.Float(0, 1.5, name="self.temperature")
        varied = base.with_variables(*(every[name] for name in step))
        with dspex.context(model=model):
            found = await searched(varied, recipe(sets, objectives), seed=seed, calls=calls // 3)
        points["sequence"].append((found.trials, program(*PLAIN), dict(kept)))
        kept |= found.best.candidate.assignment
    best["sequence"] = true_accuracy(model, program(*PLAIN), kept)
    volumes = {name: volume(model, runs) for name, runs in points.items()}
    return {f"{name} accuracy": value for name, value in best.items()} | {
        f"{name} hypervolume": value for name, value in volumes.items()
    }


def volume(model: SimulatedModel, runs: list[tuple[object, dspex.Module, dict[str, object]]]) -> float:
    """Return the hypervolume of true accuracy and measured cost over all candidates that were scored in full."""
    found = []
    for trials, module, kept in runs:
        for trial in trials:
            if trial.candidate.is_final and trial.score is not None:
                accuracy = true_accuracy(model, module, {**kept, **trial.candidate.assignment})
                found.append((accuracy, -1e4 * trial.figures["usd"]))
    return hypervolume(found, (0.0, -8.0))


def bent(values: dict[str, object]) -> float:
    """Optimum 0 in the branch "deep" at depth 5, rate 0.01; the other branch is easier and reaches -0.5 only."""
    if values["kind"] == "deep":
        return -abs(values["depth"] - 5) * 0.3 - abs(math.log10(values["rate"]) + 2)
    return -0.5 - (values["width"] - 0.3) ** 2


def mixed(values: dict[str, object]) -> float:
    """Optimum 0 at "c", true, 7, 0.25, 0.75; the two numbers only count together."""
    off = (values["x"] - 0.25) ** 2 + (values["y"] - 0.75) ** 2 + (values["x"] + values["y"] - 1) ** 2
    return -off - 0.1 * abs(values["n"] - 7) - 0.5 * (values["letter"] != "c") - 0.3 * (not values["flag"])


FUNCTIONS = {
    "conditional": (
        bent,
        Space(
            [
                Choice("flat", "deep", name="kind"),
                dspex.Integer(1, 12, name="depth", when=dspex.var("kind").equals("deep")),
                dspex.Float(1e-5, 1, log=True, name="rate", when=dspex.var("kind").equals("deep")),
                dspex.Float(0, 1, name="width", when=dspex.var("kind").equals("flat")),
            ]
        ),
    ),
    "mixed": (
        mixed,
        Space(
            [
                Choice("a", "b", "c", "d", name="letter"),
                Boolean(name="flag"),
                dspex.Integer(0, 20, name="n"),
                dspex.Float(0, 1, name="x"),
                dspex.Float(0, 1, name="y"),
            ]
        ),
    ),
}


def regret_of_tuner(name: str, seed: int, count: int) -> float:
    function, space = FUNCTIONS[name]
    tuner, best = Tuner(space, choices={}, seed=seed), -math.inf
    for _ in range(count):
        number, values, _ = tuner.suggest()
        value = function(values)
        tuner.learn(number, {"value": value}, ["value"])
        best = max(best, value)
    return -best


def regret_of_random(name: str, seed: int, count: int) -> float:
    function, space = FUNCTIONS[name]
    return -max(function(values) for values in islice(samples(space, seed=seed), count))


def regret_of_optuna(name: str, seed: int, count: int) -> float:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))

    def objective(trial: optuna.Trial) -> float:
        if name == "conditional":
            values = {"kind": trial.suggest_categorical("kind", ["flat", "deep"])}
            if values["kind"] == "deep":
                values |= {"depth": trial.suggest_int("depth", 1, 12)}
                values |= {"rate": trial.suggest_float("rate", 1e-5, 1, log=True)}
            else:
                values |= {"width": trial.suggest_float("width", 0, 1)}
            return bent(values)
        values = {"letter": trial.suggest_categorical("letter", list("abcd"))}
        values |= {"flag": trial.suggest_categorical("flag", [False, True]), "n": trial.suggest_int("n", 0, 20)}
        return mixed(values | {axis: trial.suggest_float(axis, 0, 1) for axis in "xy"})

    study.optimize(objective, n_trials=count)
    return -study.best_value


def functions(seeds: int) -> dict[str, dict[str, float]]:
    ways = {"dspex": regret_of_tuner, "optuna": regret_of_optuna, "random": regret_of_random}
    return {
        name: {way: median(made(name, seed, 60) for seed in range(seeds)) for way, made in ways.items()}
        for name in FUNCTIONS
    }


async def simulated(seeds: int) -> dict[str, object]:
    found = [await joint_against_sequence(seed, 600) for seed in range(seeds)]
    result: dict[str, object] = {"seeds": seeds, "calls": 600}
    for what in ("accuracy", "hypervolume"):
        gains = [row[f"joint {what}"] - row[f"sequence {what}"] for row in found]
        interval = bootstrap(gains)
        result[what] = {
            "joint": fmean(row[f"joint {what}"] for row in found),
            "sequence": fmean(row[f"sequence {what}"] for row in found),
            "difference": fmean(gains),
            "low": interval.low,
            "high": interval.high,
        }
    return result


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--resume-only", action="store_true", help="kill and resume, nothing else")
    options.add_argument("--quick", action="store_true", help="fewer kills and seeds; under a minute")
    options.add_argument("--check", action="store_true", help="exit with 1 where a goal is missed")
    given = options.parse_args()
    result: dict[str, object] = {"quick": given.quick, "resume": resume(5 if given.quick else KILLS)}
    for name, value in result["resume"].items():
        print(f"{name:28} {value}")
    goals = {
        "a resumed search ends the same": result["resume"]["same program"] and result["resume"]["same trials table"],
        "no committed call is asked again": result["resume"]["committed calls asked again"] == 0,
        "at most `concurrency` calls are repeated per kill": result["resume"]["calls repeated in all"]
        <= result["resume"]["allowed"],
    }
    if not given.resume_only:
        result["simulated"] = asyncio.run(simulated(4 if given.quick else 20))
        result["functions"] = functions(5 if given.quick else 20)
        for what in ("accuracy", "hypervolume"):
            row = result["simulated"][what]
            print(
                f"{what:12} joint {row['joint']:.3f}  one after the other {row['sequence']:.3f}  "
                f"difference {row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]"
            )
            goals[f"joint search is better in {what}"] = row["low"] > 0
        for name, row in result["functions"].items():
            print(f"regret, {name:12} " + "  ".join(f"{way} {value:.4f}" for way, value in row.items()))
            goals[f"the sampler is no worse than random on {name}"] = row["dspex"] <= row["random"]
    result["goals"] = goals
    target = ROOT / "benchmarks" / "results" / "optimize.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    for goal, met in goals.items():
        print(f"{'met   ' if met else 'MISSED'} {goal}")
    return 1 if given.check and not all(goals.values()) else 0


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.exit(main())
