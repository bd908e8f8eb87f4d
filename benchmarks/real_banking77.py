"""Six banking77 intents on the small local model, zero-shot and with chosen demonstrations.

    python benchmarks/real_banking77.py [--quick] [--check]

Goals (--check): at least 0.70 with chosen demonstrations on 60 test rows, and the paired interval
above both zero-shot and the majority class. Needs `dspex[local]` and the shared data (`../shared`
beside the repository, or DSPEX_SHARED).
"""

import argparse
import asyncio
import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Literal

from banking77 import INTENTS, SHARED, rows

import dspex
from dspex.learning.evaluation import constant
from dspex.learning.optimizers import Trial

ROOT = Path(__file__).resolve().parents[1]
GOAL = 0.70


class Intent(dspex.Signature):
    """Say which intent a customer of a bank has."""

    text: str
    intent: Literal[INTENTS] = dspex.Output()


def print_trial(trial: Trial) -> None:
    print(
        f"  trial {trial.number}: {trial.score:.2f} on {trial.report.scored} rows", file=sys.stderr
    )


async def measure(*, quick: bool, seed: int) -> dict[str, object]:
    train, test = rows("train", 10, seed), rows("test", 4 if quick else 10, seed)
    duplicates = len(train.duplicates(test, fields=["text"]))
    program = dspex.Predict(Intent)
    zero = await dspex.aevaluate(program, test, dspex.exact_match, concurrency=1)
    start = time.perf_counter()
    outcome = await dspex.aoptimize(
        program,
        dspex.LabeledFewShot(per_class=3, candidates=2 if quick else 6),
        train=train,
        metric=dspex.exact_match,
        search=dspex.Search(
            rows=18 if quick else 30, concurrency=1, seed=seed, on_trial=print_trial
        ),
    )
    seconds = time.perf_counter() - start
    demonstrated = await dspex.aevaluate(outcome.program, test, dspex.exact_match, concurrency=1)
    majority = constant(
        test, {"intent": dspex.evaluation.majority_class(train, "intent").value}, dspex.exact_match
    )
    return {
        "seed": seed,
        "rows": {"train": len(train), "test": len(test), "also in train": duplicates},
        "zero-shot": figures(zero),
        "majority class": figures(majority),
        "chosen demonstrations": figures(demonstrated),
        "over zero-shot": dspex.compare(demonstrated, zero).to_dict(),
        "over majority class": dspex.compare(demonstrated, majority).to_dict(),
        "search": {"seconds": round(seconds, 1), "trials": outcome.table()},
    }


def figures(report: dspex.Report) -> dict[str, object]:
    interval = report.interval()
    return {
        "accuracy": report.mean,
        "low": interval.low,
        "high": interval.high,
        "scored": report.scored,
        "failed": report.failed,
        "p50 seconds": report.p50,
        "p95 seconds": report.p95,
        "input tokens": report.usage.input_tokens,
    }


def show(result: dict[str, object]) -> None:
    print(f"{'':24} accuracy  95% interval   p50 s  p95 s  failed")
    for name in ("majority class", "zero-shot", "chosen demonstrations"):
        figures = result[name]
        print(
            f"{name:24} {figures['accuracy']:8.2f}  [{figures['low']:.2f}, {figures['high']:.2f}]  "
            f"{figures['p50 seconds']:6.2f} {figures['p95 seconds']:6.2f}  {figures['failed']:6}"
        )
    for name in ("over zero-shot", "over majority class"):
        figures = result[name]
        print(
            f"{name:24} {figures['difference']:+8.2f}  "
            f"[{figures['low']:.2f}, {figures['high']:.2f}]  "
            f"p = {figures['p_value']:.2g} ({figures['test']}, {figures['pairs']} pairs)"
        )
    print(
        f"search: {result['search']['seconds']} s, {len(result['search']['trials'])} trials; "
        f"rows: {result['rows']}"
    )


def missed_goals(result: dict[str, object]) -> list[str]:
    problems = []
    if result["chosen demonstrations"]["accuracy"] < GOAL:
        problems.append(
            f"accuracy {result['chosen demonstrations']['accuracy']:.2f} is below {GOAL}"
        )
    problems.extend(
        f"the interval {name} reaches zero"
        for name in ("over zero-shot", "over majority class")
        if result[name]["low"] <= 0
    )
    return problems


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="24 test rows and two candidates")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a goal is missed")
    parser.add_argument("--seed", type=int, default=0, help="seed of the split (0)")
    options = parser.parse_args()
    if not (SHARED / "data" / "banking77").is_dir():
        print(f"skipped: no banking77 in {SHARED} (set DSPEX_SHARED)")
        return 0
    try:
        with dspex.context(model="local/gemma3-270m"):
            result = asyncio.run(measure(quick=options.quick, seed=options.seed))
    except dspex.DspexError as error:
        if error.code != "configuration":
            raise
        print(f"skipped: {error}")
        return 0
    result["quick"], result["machine"] = (
        options.quick,
        f"{platform.machine()}, {os.cpu_count()} cores",
    )
    show(result)
    target = ROOT / "benchmarks" / "results" / "real_banking77.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(result, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    problems = missed_goals(result)
    print("goals: " + ("; ".join(problems) if problems else "met"))
    return 1 if options.check and problems else 0


if __name__ == "__main__":
    sys.exit(main())
