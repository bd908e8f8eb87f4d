"""Searches: resuming after kills, joint search, comparison with dspy, and the sampler.

    python benchmarks/optimize.py [--quick] [--check]
    python benchmarks/optimize.py --resume-only | --race-only | --reflective-only [...]
    python benchmarks/optimize.py --banking77 [--seed N] [--quick]

Everything but --banking77 ends in one table and in results/optimize.json. With --quick the
comparisons have too few seeds to be judged: they are shown, and --check tests only the goals that
need no statistics.

1. Searches of Joint (more than 200 trials), GEPA and SIMBA are killed with SIGKILL at 20 random
   points each, and resumed each time. They have to end with the same program and trials table as
   undisturbed ones, repeat no committed call, and repeat at most `concurrency` calls for a kill.
2. On simulated models with known response surfaces: Joint against tuning the same variables one
   after the other (`optimize_joint.py`), and the optimizers against dspy's own at equal model calls
   (`optimize_peer.py`, needs dspy).
3. On known functions over mixed, conditional spaces: the sampler of Joint against plain Optuna and
   random sampling, by the regret after 60 evaluations; and the CPU time of the sampler for a trial
   of a search of 200.
4. A random search with and without races (`optimize_race.py`): the calls, and the true accuracy.
5. Native GEPA and SIMBA against dspy's at equal calls, reflections included, and against the
   program as it is where rules help and there are no demonstrations (`optimize_reflective.py`).
6. With --banking77, and nothing else: searches of at most 300 calls on real data with the local
   model (`optimize_banking77.py`). The results are reported; they have no goals.
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
from dataclasses import dataclass
from itertools import islice, pairwise, product
from pathlib import Path
from statistics import median

import optimize_banking77
import optimize_joint
import optimize_peer
import optimize_race
import optimize_reflective

import dspex
from dspex.language.variables import Boolean, Choice, Space, samples
from dspex.learning.optimizers.sampler import Measurement, Sampler

ROOT = Path(__file__).resolve().parents[1]
CONCURRENCY = 4
KILLS = 20
JOINT_SEEDS = 40


def start_search(journal: Path, calls: Path, optimizer: str) -> subprocess.Popen:
    command = [
        sys.executable,
        str(ROOT / "benchmarks" / "optimize_run.py"),
        str(journal),
        str(calls),
        str(CONCURRENCY),
        optimizer,
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


class Lines:
    """Counts complete lines with a text in a growing file, and reads each only once."""

    def __init__(self, file: Path, text: bytes = b"") -> None:
        self.file, self.text, self.offset, self.count = file, text, 0, 0

    def now(self) -> int:
        if not self.file.exists():
            return 0
        with self.file.open("rb") as stream:
            stream.seek(self.offset)
            data = stream.read()
        whole = data[: data.rfind(b"\n") + 1]
        self.offset += len(whole)
        self.count += sum(self.text in line for line in whole.splitlines())
        return self.count


def resume(kills: int, optimizer: str) -> dict[str, object]:
    """Kill one search repeatedly, and compare its result with an undisturbed one."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        whole = json.loads(
            start_search(place / "whole.jsonl", place / "whole.calls", optimizer).communicate()[0]
        )
        total = Lines(place / "whole.calls").now()
        points = sorted(random.Random(5).sample(range(1, total), kills))
        journal, calls = place / "killed.jsonl", place / "killed.calls"
        answers, starts = Lines(journal, b'"kind":"answer"'), Lines(calls)
        killed_at, repeats = [], [0]
        for point in points:
            process = start_search(journal, calls, optimizer)
            while answers.now() < point and process.poll() is None:
                time.sleep(0.005)
            is_alive = process.poll() is None
            process.send_signal(signal.SIGKILL)
            process.communicate()
            if is_alive:
                killed_at.append(answers.now())
                # begun and not answered, in all lives so far
                repeats.append(starts.now() - answers.now())
        answered = answers.now()
        last = json.loads(start_search(journal, calls, optimizer).communicate()[0])
        entries = [json.loads(line) for line in journal.read_bytes().splitlines()]
        keys = Counter(entry["key"] for entry in entries if entry["kind"] == "answer")
        return {
            "trials": len(whole["table"]),
            "calls undisturbed": total,
            "kills": len(killed_at),
            "killed after answers": killed_at,
            "same program": last["program"] == whole["program"],
            "same trials table": last["table"] == whole["table"],
            "committed calls asked again": sum(keys.values())
            - len(keys)
            + last["made"]
            - (total - answered),
            "calls repeated in all": starts.now() - answers.now(),
            "calls repeated by one kill at most": max(b - a for a, b in pairwise(repeats)),
            "allowed for a kill": CONCURRENCY,
        }


def bent(values: dict[str, object]) -> float:
    """Return 0 at best: branch "deep", depth 5, rate 0.01; the easier branch reaches only -0.5."""
    if values["kind"] == "deep":
        return -abs(values["depth"] - 5) * 0.3 - abs(math.log10(values["rate"]) + 2)
    return -0.5 - (values["width"] - 0.3) ** 2


def mixed(values: dict[str, object]) -> float:
    """Return 0 at best: "c", true, 7, 0.25, 0.75; the two numbers only count together."""
    off = (
        (values["x"] - 0.25) ** 2 + (values["y"] - 0.75) ** 2 + (values["x"] + values["y"] - 1) ** 2
    )
    return (
        -off
        - 0.1 * abs(values["n"] - 7)
        - 0.5 * (values["letter"] != "c")
        - 0.3 * (not values["flag"])
    )


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
        sampler.learn({number: [Measurement(value)]})
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
        values |= {
            "flag": trial.suggest_categorical("flag", [False, True]),
            "n": trial.suggest_int("n", 0, 20),
        }
        return mixed(values | {axis: trial.suggest_float(axis, 0, 1) for axis in "xy"})

    study.optimize(objective, n_trials=count)
    return -study.best_value


def functions(seeds: int) -> dict[str, dict[str, float]]:
    ways = {"dspex": regret_of_sampler, "optuna": regret_of_optuna, "random": regret_of_random}
    return {
        name: {
            way: median(regret(name, seed, 60) for seed in range(seeds))
            for way, regret in ways.items()
        }
        for name in FUNCTIONS
    }


def cpu_of_sampler(name: str, seed: int) -> float:
    """Return CPU ms per trial over 200 trials; each result is learned before the next trial."""
    start = time.process_time()
    regret_of_sampler(name, seed, 200)
    return (time.process_time() - start) / 200 * 1000


@dataclass(frozen=True)
class Row:
    """A line of the table; `is_met` is None without a goal or with too few seeds to judge."""

    work: str
    measured: str
    beside: str = ""
    goal: str = ""
    is_met: bool | None = None


Part = tuple[dict[str, object], list[Row]]


def measure_resume(*, quick: bool) -> Part:
    parts = {name: _measure_resume(name, quick=quick) for name in ("Joint", "GEPA", "SIMBA")}
    return (
        {name: result for name, (result, _) in parts.items()},
        [row for _, rows in parts.values() for row in rows],
    )


def _measure_resume(optimizer: str, *, quick: bool) -> Part:
    result = resume(3 if quick else KILLS, optimizer)
    is_same = bool(result["same program"] and result["same trials table"])
    again, most = (
        result["committed calls asked again"],
        result["calls repeated by one kill at most"],
    )
    work = f"{optimizer} of {result['trials']} trials, {result['kills']} times kill -9"
    goal = "program and table as undisturbed"
    return result, [
        Row(work, "the same" if is_same else "another end", goal=goal, is_met=is_same),
        Row(f"  answered calls asked again, {optimizer}", str(again), goal="0", is_met=again == 0),
        Row(
            f"  calls under way repeated, {optimizer}",
            f"{result['calls repeated in all']}, at most {most} for a kill",
            goal=f"at most {CONCURRENCY} for a kill",
            is_met=most <= CONCURRENCY,
        ),
    ]


def difference(row: dict[str, float]) -> str:
    return f"{row['difference']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f})"


def compare_joint(*, quick: bool) -> Part:
    seeds = range(1 if quick else JOINT_SEEDS)
    result = asyncio.run(optimize_joint.measure(seeds))
    rows = []
    for family, what in product(optimize_joint.FAMILIES, ("accuracy", "hypervolume")):
        row, has_goal = result[family][what], family != "no pairs"
        rows.append(
            Row(
                f"Joint, {what}, {family}, {len(seeds)} seeds",
                f"{row['joint']:.3f}",
                f"in turn {row['sequence']:.3f}: {difference(row)}",
                "above 0" if has_goal else "",
                row["low"] > 0 if has_goal and not quick else None,
            )
        )
    return result, rows


def compare_dspy(*, quick: bool) -> Part:
    if importlib.util.find_spec("dspy") is None:
        reason = "dspy is not installed (pip install 'dspex[dspy]')"
        return {"skipped": reason}, [Row("optimizers against dspy's", f"skipped: {reason}")]
    result = asyncio.run(
        optimize_peer.measure(optimize_peer.QUICK if quick else optimize_peer.WORK)
    )
    rows = []
    for work in optimize_peer.WORK:
        row = result[work]
        name = (
            f"{work}, {row['seeds']} seeds, {row['our calls']:.0f} and {row['their calls']:.0f} "
            "calls"
        )
        beside = f"dspy {row['theirs']:.3f}: {difference(row)}"
        rows.append(
            Row(
                name,
                f"{row['ours']:.3f}",
                beside,
                "at least -0.02",
                None if quick else row["low"] >= -0.02,
            )
        )
    return result, rows


def compare_reflective(*, quick: bool) -> Part:
    if importlib.util.find_spec("dspy") is None:
        reason = "dspy is not installed (pip install 'dspex[dspy]')"
        return {"skipped": reason}, [Row("GEPA and SIMBA against dspy's", f"skipped: {reason}")]
    seeds = optimize_reflective.QUICK if quick else optimize_reflective.WORK
    result = asyncio.run(optimize_reflective.measure(seeds))
    rows = []
    for work, count in seeds.items():
        row = result[work]
        rows.append(
            Row(
                f"native {work}, {count} seeds, {row['our calls']:.0f} and "
                f"{row['their calls']:.0f} calls",
                f"{row['ours']:.3f}",
                f"dspy {row['theirs']:.3f}: {difference(row)}",
                "at least -0.02",
                None if quick else row["low"] >= optimize_reflective.MARGIN,
            )
        )
        if work.endswith("rules"):
            better = row["better than as it is"]
            least = 0.9 * count
            rows.append(
                Row(
                    f"  {work}, better than the program as it is",
                    f"on {better} of {count} seeds",
                    f"{row['as it is']:.3f}",
                    "on 18 of 20",
                    None if quick else better >= least,
                )
            )
    return result, rows


def measure_race(*, quick: bool) -> Part:
    seeds = optimize_race.QUICK if quick else optimize_race.SEEDS
    result = asyncio.run(optimize_race.measure(seeds))
    work = f"race, {seeds} seeds"
    without = f"without {result['accuracy without']:.3f}: {difference(result)}"
    saved, is_met = f"{result['saved']:.0%}", result["saved"] >= optimize_race.SAVINGS
    calls = f"{result['calls']:.0f} calls, without {result['calls without']:.0f}"
    return result, [
        Row(
            f"{work}, accuracy",
            f"{result['accuracy']:.3f}",
            without,
            "at least -0.02",
            None if quick else result["low"] >= optimize_race.MARGIN,
        ),
        Row(f"{work}, calls saved", saved, calls, "at least 30%", None if quick else is_met),
    ]


def measure_sampler(*, quick: bool) -> Part:
    seeds = 2 if quick else 20
    result: dict[str, dict[str, float]] = functions(seeds)
    rows = []
    for name, row in result.items():
        beside = f"Optuna {row['optuna']:.4f}, random {row['random']:.4f}"
        is_met = None if quick else row["dspex"] <= min(row["optuna"], row["random"])
        work = f"regret after 60, {name}, {seeds} seeds"
        rows.append(Row(work, f"{row['dspex']:.4f}", beside, "no larger than either", is_met))
        row["sampler CPU ms a trial"] = cpu = median(
            cpu_of_sampler(name, seed) for seed in range(1 if quick else 5)
        )
        rows.append(
            Row(
                f"sampler CPU, ms a trial of 200, {name}",
                f"{cpu:.1f}",
                goal="at most 10",
                is_met=cpu <= 10,
            )
        )
    return result, rows


def show(rows: list[Row]) -> None:
    marks = {True: "met", False: "MISSED", None: ""}
    table = [("work", "dspex", "beside it", "goal", "")]
    table += [(row.work, row.measured, row.beside, row.goal, marks[row.is_met]) for row in rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        print(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        )


def on_banking77(*, quick: bool, seeds: list[int] | None = None) -> None:
    if not (optimize_banking77.SHARED / "data" / "banking77").is_dir():
        print(f"skipped: no banking77 in {optimize_banking77.SHARED} (set DSPEX_SHARED)")
        return
    from dspex.execution.context import current

    with dspex.context(model="local/gemma3-270m"):
        model = current().model
    result = asyncio.run(optimize_banking77.measure(seeds or range(1 if quick else 3), model))
    optimize_banking77.show(result)
    write_result("optimize_banking77", {"quick": quick, **result})


def write_result(name: str, result: dict[str, object]) -> None:
    target = ROOT / "benchmarks" / "results" / f"{name}.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--resume-only", action="store_true", help="only the kills and resumes")
    parser.add_argument("--race-only", action="store_true", help="only the races")
    parser.add_argument(
        "--reflective-only", action="store_true", help="only GEPA and SIMBA against dspy's"
    )
    parser.add_argument("--banking77", action="store_true", help="only the searches on real data")
    parser.add_argument(
        "--seed",
        type=int,
        action="append",
        help="with --banking77: only this seed, of three",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="fewer kills and seeds; under a minute without --banking77",
    )
    parser.add_argument("--check", action="store_true", help="exit with 1 if a goal is missed")
    options = parser.parse_args()
    if options.banking77:
        on_banking77(quick=options.quick, seeds=options.seed)
        return 0
    parts, name = {"resume": measure_resume}, "optimize"
    if options.race_only:
        parts, name = {"race": measure_race}, "optimize_race"
    elif options.reflective_only:
        parts, name = {"reflective": compare_reflective}, "optimize_reflective"
    elif options.resume_only:
        name = "optimize_resume"
    else:
        parts |= {"functions": measure_sampler, "joint": compare_joint, "race": measure_race}
        parts |= {"dspy": compare_dspy, "reflective": compare_reflective}
    result: dict[str, object] = {"quick": options.quick}
    rows: list[Row] = []
    seconds: dict[str, float] = {}
    for label, part in parts.items():
        start = time.perf_counter()
        result[label], more = part(quick=options.quick)
        rows += more
        seconds[label] = round(time.perf_counter() - start, 1)
        print(f"{label}: {seconds[label]} s", file=sys.stderr, flush=True)
        goals = {row.work.strip(): row.is_met for row in rows if row.is_met is not None}
        write_result(name, result | {"seconds": seconds, "goals": goals})
    show(rows)
    return 1 if options.check and not all(goals.values()) else 0


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.exit(main())
