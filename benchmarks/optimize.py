"""Searches: what survives a kill, how they compare with dspy's, what joint search is worth, how well it samples.

    python benchmarks/optimize.py [--resume-only] [--quick] [--check] [--banking77]

1. A search of more than 200 trials is killed with SIGKILL at 20 random points and resumed each time. It has to end with
   the same program and trials table as an undisturbed one, ask no committed call again, and repeat at most
   `concurrency` calls for each kill.
2. On simulated models with known response surfaces: Joint against tuning the same variables one after the other
   (`optimize_joint.py`), and the optimizers against dspy's own at equal model calls (`optimize_peer.py`, needs dspy).
3. On known functions over mixed, conditional spaces: the sampler of Joint against plain Optuna and random sampling, by
   the regret after 60 evaluations.
4. With --banking77, and nothing else: searches of at most 300 calls on real data with the local model
   (`optimize_banking77.py`), reported as they are. Its goals are none.
"""

import argparse
import asyncio
import importlib.util
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
from statistics import median

import optimize_banking77
import optimize_joint
import optimize_peer

import dspex
from dspex.language.variables import Boolean, Choice, Space, samples
from dspex.learning.optimizers.sampler import Measured, Sampler

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
                time.sleep(0.005)
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


def regret_of_sampler(name: str, seed: int, count: int) -> float:
    function, space = FUNCTIONS[name]
    sampler, best = Sampler(space, seed=seed), -math.inf
    for _ in range(count):
        suggested = sampler.suggest()
        if suggested is None:
            break
        number, values = suggested
        value = function(values)
        sampler.learn({number: [Measured(value)]})
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
    ways = {"dspex": regret_of_sampler, "optuna": regret_of_optuna, "random": regret_of_random}
    return {
        name: {way: median(made(name, seed, 60) for seed in range(seeds)) for way, made in ways.items()}
        for name in FUNCTIONS
    }


def resumed(*, quick: bool) -> tuple[dict[str, object], dict[str, bool]]:
    found = resume(3 if quick else KILLS)
    for name, value in found.items():
        print(f"{name:28} {value}")
    return found, {
        "a resumed search ends the same": bool(found["same program"] and found["same trials table"]),
        "no committed call is asked again": found["committed calls asked again"] == 0,
        "at most `concurrency` calls are repeated per kill": found["calls repeated in all"] <= found["allowed"],
    }


def simulated(*, quick: bool) -> tuple[dict[str, object], dict[str, bool]]:
    found = asyncio.run(optimize_joint.measured(range(1 if quick else 20)))
    optimize_joint.show(found)
    return found, {
        f"joint search is better in {what} ({family})": found[family][what]["low"] > 0
        for family in ("pairs", "bottleneck")
        for what in ("accuracy", "hypervolume")
    }


def against_dspy(*, quick: bool) -> tuple[dict[str, object], dict[str, bool]]:
    if importlib.util.find_spec("dspy") is None:
        print("skipped: dspy is not installed (pip install 'dspex[dspy]')")
        return {"skipped": "dspy is not installed"}, {}
    found = asyncio.run(optimize_peer.measured(range(1 if quick else 30)))
    optimize_peer.show(found)
    return found, {f"{work} is not worse than dspy's": found[work]["low"] >= -0.02 for work in optimize_peer.WORK}


def sampled(*, quick: bool) -> tuple[dict[str, object], dict[str, bool]]:
    found = functions(3 if quick else 20)
    for name, row in found.items():
        print(f"regret, {name:12} " + "  ".join(f"{way} {value:.4f}" for way, value in row.items()))
    return found, {
        f"the sampler is no worse than {way} on {name}": row["dspex"] <= row[way]
        for name, row in found.items()
        for way in ("random", "optuna")
    }


def on_banking77(*, quick: bool) -> None:
    if not (optimize_banking77.SHARED / "data" / "banking77").is_dir():
        print(f"skipped: no banking77 in {optimize_banking77.SHARED} (set DSPEX_SHARED)")
        return
    from dspex.execution.context import current

    with dspex.context(model="local/gemma3-270m"):
        model = current().model
    result = asyncio.run(optimize_banking77.measured(1 if quick else 3, model))
    optimize_banking77.show(result)
    written("optimize_banking77", {"quick": quick, **result})


def written(name: str, result: dict[str, object]) -> None:
    target = ROOT / "benchmarks" / "results" / f"{name}.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--resume-only", action="store_true", help="kill and resume, nothing else")
    options.add_argument("--banking77", action="store_true", help="the searches on real data, nothing else")
    options.add_argument("--quick", action="store_true", help="fewer kills and seeds; under a minute without banking77")
    options.add_argument("--check", action="store_true", help="exit with 1 where a goal is missed")
    given = options.parse_args()
    if given.banking77:
        on_banking77(quick=given.quick)
        return 0
    parts = {"resume": resumed}
    if not given.resume_only:
        parts |= {"functions": sampled, "joint": simulated, "dspy": against_dspy}
    result: dict[str, object] = {"quick": given.quick}
    goals: dict[str, bool] = {}
    for name, part in parts.items():
        result[name], reached = part(quick=given.quick)
        goals |= reached
    result["goals"] = goals
    written("optimize", result)
    for goal, met in goals.items():
        print(f"{'met   ' if met else 'MISSED'} {goal}")
    return 1 if given.check and not all(goals.values()) else 0


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.exit(main())
