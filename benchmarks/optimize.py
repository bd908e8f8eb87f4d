"""Searches: what survives a kill, how they compare with dspy's, what joint search is worth, how well it samples.

    python benchmarks/optimize.py [--resume-only] [--quick] [--check] [--banking77 [--seed N]]

Everything but --banking77 ends in one table and in results/optimize.json. With --quick the
comparisons are made on too few seeds to be judged: they are shown, and --check asks only for the
goals that need no statistics.

1. A search of more than 200 trials is killed with SIGKILL at 20 random points and resumed each
   time. It has to end with the same program and trials table as an undisturbed one, ask no
   committed call again, and repeat at most `concurrency` calls for each kill.
2. On simulated models with known response surfaces: Joint against tuning the same variables one
   after the other (`optimize_joint.py`), and the optimizers against dspy's own at equal model calls
   (`optimize_peer.py`, needs dspy).
3. On known functions over mixed, conditional spaces: the sampler of Joint against plain Optuna and
   random sampling, by the regret after 60 evaluations; and the CPU time of the sampler for a trial
   of a search of 200.
4. With --banking77, and nothing else: searches of at most 300 calls on real data with the local
   model (`optimize_banking77.py`), reported as they are. Its goals are none.
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

import dspex
from dspex.language.variables import Boolean, Choice, Space, samples
from dspex.learning.optimizers.sampler import Measurement, Sampler

ROOT = Path(__file__).resolve().parents[1]
CONCURRENCY = 4
KILLS = 20
JOINT_SEEDS = 40


def started(journal: Path, calls: Path) -> subprocess.Popen:
    command = [
        sys.executable,
        str(ROOT / "benchmarks" / "optimize_run.py"),
        str(journal),
        str(calls),
        str(CONCURRENCY),
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


class Lines:
    """Counts the whole lines of a growing file that hold a text, and reads each only once."""

    def __init__(self, file: Path, text: bytes = b"") -> None:
        self.file, self.text, self.offset, self.count = file, text, 0, 0

    def now(self) -> int:
        if not self.file.exists():
            return 0
        with self.file.open("rb") as opened:
            opened.seek(self.offset)
            data = opened.read()
        whole = data[: data.rfind(b"\n") + 1]
        self.offset += len(whole)
        self.count += sum(self.text in line for line in whole.splitlines())
        return self.count


def resume(kills: int) -> dict[str, object]:
    """Kill one search again and again, and compare its end with that of another that nobody disturbs."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        whole = json.loads(started(place / "whole.jsonl", place / "whole.calls").communicate()[0])
        total = Lines(place / "whole.calls").now()
        points = sorted(random.Random(5).sample(range(1, total), kills))
        journal, calls = place / "killed.jsonl", place / "killed.calls"
        answers, begun = Lines(journal, b'"kind":"answer"'), Lines(calls)
        done, repeats = [], [0]
        for point in points:
            work = started(journal, calls)
            while answers.now() < point and work.poll() is None:
                time.sleep(0.005)
            is_alive = work.poll() is None
            work.send_signal(signal.SIGKILL)
            work.communicate()
            if is_alive:
                done.append(answers.now())
                repeats.append(
                    begun.now() - answers.now()
                )  # begun and not answered, in all lives so far
        known = answers.now()
        last = json.loads(started(journal, calls).communicate()[0])
        entries = [json.loads(line) for line in journal.read_bytes().splitlines()]
        keys = Counter(entry["key"] for entry in entries if entry["kind"] == "answer")
        return {
            "trials": len(whole["table"]),
            "calls undisturbed": total,
            "kills": len(done),
            "killed after answers": done,
            "same program": last["program"] == whole["program"],
            "same trials table": last["table"] == whole["table"],
            "committed calls asked again": sum(keys.values())
            - len(keys)
            + last["made"]
            - (total - known),
            "calls repeated in all": begun.now() - answers.now(),
            "calls repeated by one kill at most": max(b - a for a, b in pairwise(repeats)),
            "allowed for a kill": CONCURRENCY,
        }


def bent(values: dict[str, object]) -> float:
    """Optimum 0 in the branch "deep" at depth 5, rate 0.01; the other branch is easier and reaches -0.5 only."""
    if values["kind"] == "deep":
        return -abs(values["depth"] - 5) * 0.3 - abs(math.log10(values["rate"]) + 2)
    return -0.5 - (values["width"] - 0.3) ** 2


def mixed(values: dict[str, object]) -> float:
    """Optimum 0 at "c", true, 7, 0.25, 0.75; the two numbers only count together."""
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
            way: median(made(name, seed, 60) for seed in range(seeds)) for way, made in ways.items()
        }
        for name in FUNCTIONS
    }


def cpu_of_sampler(name: str, seed: int) -> float:
    """Return milliseconds of CPU time for each of 200 trials, each told before the next is suggested."""
    begun = time.process_time()
    regret_of_sampler(name, seed, 200)
    return (time.process_time() - begun) / 200 * 1000


@dataclass(frozen=True)
class Row:
    """A line of the table; `is_met` is None where there is no goal, or too little to judge by."""

    work: str
    measured: str
    beside: str = ""
    goal: str = ""
    is_met: bool | None = None


Part = tuple[dict[str, object], list[Row]]


def resumed(*, quick: bool) -> Part:
    found = resume(3 if quick else KILLS)
    is_same = bool(found["same program"] and found["same trials table"])
    again, most = found["committed calls asked again"], found["calls repeated by one kill at most"]
    work = f"search of {found['trials']} trials, {found['kills']} times kill -9"
    return found, [
        Row(work, "the same" if is_same else "another end", goal="program and table as "
                "undisturbed", is_met=is_same),
        Row("  answered calls asked again", str(again), goal="0", is_met=again == 0),
        Row(
            "  calls under way repeated", f"{found['calls repeated in all']}, at most {most} for a "
                    "kill",
            goal=f"at most {CONCURRENCY} for a kill", is_met=most <= CONCURRENCY,
        ),
    ]  # fmt: skip


def difference(row: dict[str, float]) -> str:
    return f"{row['difference']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f})"


def simulated(*, quick: bool) -> Part:
    seeds = range(1 if quick else JOINT_SEEDS)
    found = asyncio.run(optimize_joint.measured(seeds))
    rows = []
    for family, what in product(optimize_joint.FAMILIES, ("accuracy", "hypervolume")):
        row, is_asked = found[family][what], family != "no pairs"
        rows.append(
            Row(
                f"Joint, {what}, {family}, {len(seeds)} seeds",
                f"{row['joint']:.3f}",
                f"in turn {row['sequence']:.3f}: {difference(row)}",
                "above 0" if is_asked else "",
                row["low"] > 0 if is_asked and not quick else None,
            )
        )
    return found, rows


def against_dspy(*, quick: bool) -> Part:
    if importlib.util.find_spec("dspy") is None:
        said = "dspy is not installed (pip install 'dspex[dspy]')"
        return {"skipped": said}, [Row("optimizers against dspy's", f"skipped: {said}")]
    found = asyncio.run(
        optimize_peer.measured(optimize_peer.QUICK if quick else optimize_peer.WORK)
    )
    rows = []
    for work in optimize_peer.WORK:
        row = found[work]
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
    return found, rows


def sampled(*, quick: bool) -> Part:
    seeds = 2 if quick else 20
    found: dict[str, dict[str, float]] = functions(seeds)
    rows = []
    for name, row in found.items():
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
    return found, rows


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
    result = asyncio.run(optimize_banking77.measured(seeds or range(1 if quick else 3), model))
    optimize_banking77.show(result)
    written("optimize_banking77", {"quick": quick, **result})


def written(name: str, result: dict[str, object]) -> None:
    target = ROOT / "benchmarks" / "results" / f"{name}.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def main() -> int:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--resume-only", action="store_true", help="kill and resume, nothing else")
    options.add_argument(
        "--banking77", action="store_true", help="the searches on real data, nothing else"
    )
    options.add_argument(
        "--seed",
        type=int,
        action="append",
        help="with --banking77: this one of its three seeds only",
    )
    options.add_argument(
        "--quick",
        action="store_true",
        help="fewer kills and seeds; under a minute without banking77",
    )
    options.add_argument("--check", action="store_true", help="exit with 1 where a goal is missed")
    given = options.parse_args()
    if given.banking77:
        on_banking77(quick=given.quick, seeds=given.seed)
        return 0
    parts = {"resume": resumed}
    if not given.resume_only:
        parts |= {"functions": sampled, "joint": simulated, "dspy": against_dspy}
    result: dict[str, object] = {"quick": given.quick}
    rows: list[Row] = []
    seconds: dict[str, float] = {}
    for name, part in parts.items():
        begun = time.perf_counter()
        result[name], more = part(quick=given.quick)
        rows += more
        seconds[name] = round(time.perf_counter() - begun, 1)
        print(f"{name}: {seconds[name]} s", file=sys.stderr, flush=True)
        goals = {row.work.strip(): row.is_met for row in rows if row.is_met is not None}
        written(
            "optimize_resume" if given.resume_only else "optimize",
            result | {"seconds": seconds, "goals": goals},
        )
    show(rows)
    return 1 if given.check and not all(goals.values()) else 0


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.exit(main())
