"""Modules that run a module several times, against their closed forms.

A simulated predictor is right with probability 0.6, independently in each request. Goals:
`Retry(3)` is right in 1 - 0.4^3 = 0.936 of the runs, `BestOfN(5)` in 1 - 0.4^5, `Majority(5)` as
often as at least three of five are right; each within 0.02, also behind a cache, which must answer
a second pass without asking the model again.

    python benchmarks/modules.py [--quick] [--check]
"""

import argparse
import asyncio
import json
import math
import random
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dspex
from dspex.execution.clients.caching import Caching
from dspex.execution.context import RunContext
from dspex.modules import BestOfN, Majority, Retry
from dspex.testing import ScriptedModel

if TYPE_CHECKING:
    from collections.abc import Callable

RESULTS = Path(__file__).parent / "results" / "modules.json"
RIGHT = 0.6
TOLERANCE = 0.02


def is_right(_inputs: Any, prediction: dspex.Prediction) -> float:
    return float(prediction.answer == "yes")


def majority_of_five() -> float:
    return sum(math.comb(5, k) * RIGHT**k * (1 - RIGHT) ** (5 - k) for k in (3, 4, 5))


def simulated(seed: int) -> ScriptedModel:
    rng = random.Random(seed)
    return ScriptedModel(lambda _: f"[[ ## answer ## ]]\n{'yes' if rng.random() < RIGHT else 'no'}")


async def share_right(module: dspex.Module, context: RunContext, rows: int) -> float:
    right = 0
    for number in range(rows):
        try:
            prediction = await module.acall(context, question=str(number))
        except dspex.DspexError:  # no answer was accepted
            continue
        right += prediction.answer == "yes"
    return right / rows


def measure(rows: int) -> list[dict[str, Any]]:
    ask = dspex.Predict("question -> answer")
    cases: list[tuple[str, Callable[[], dspex.Module], float]] = [
        ("Predict", lambda: ask, RIGHT),
        ("Retry(3)", lambda: Retry(ask, attempts=3, accept=accepted), 1 - (1 - RIGHT) ** 3),
        ("BestOfN(5)", lambda: BestOfN(ask, reward=is_right, n=5), 1 - (1 - RIGHT) ** 5),
        ("Majority(5)", lambda: Majority(ask, n=5), majority_of_five()),
    ]
    figures = []
    for seed, (name, make, expected) in enumerate(cases):
        model = simulated(seed)
        start = time.process_time()
        plain = asyncio.run(share_right(make(), RunContext(model=model), rows))
        cpu = (time.process_time() - start) / len(model.requests) * 1e6
        behind = simulated(seed + 100)
        cache = Caching(behind, entries=rows * 10)
        first = asyncio.run(share_right(make(), RunContext(model=cache), rows))
        asked = len(behind.requests)
        second = asyncio.run(share_right(make(), RunContext(model=cache), rows))
        figures.append(
            {
                "module": name,
                "expected": expected,
                "plain": plain,
                "cached": first,
                "again": second,
                "asked_again": len(behind.requests) - asked,
                "cpu_us_per_request": cpu,
            }
        )
    return figures


def accepted(prediction: dspex.Prediction) -> bool:
    return bool(prediction.answer == "yes")


def goals(figures: list[dict[str, Any]]) -> list[tuple[str, bool]]:
    results = []
    for row in figures:
        error = max(abs(row[name] - row["expected"]) for name in ("plain", "cached"))
        results.append(
            (
                f"{row['module']}: {row['plain']:.3f} and {row['cached']:.3f} behind a cache, "
                f"expected {row['expected']:.3f}, at most {TOLERANCE} apart",
                error <= TOLERANCE,
            )
        )
        results.append(
            (
                f"{row['module']}: a second pass behind the cache is the same, and asks "
                f"{row['asked_again']} times",
                row["again"] == row["cached"] and row["asked_again"] == 0,
            )
        )
    return results


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="3,000 rows, not 10,000")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a goal is missed")
    options = parser.parse_args()
    figures = measure(3_000 if options.quick else 10_000)
    print(f"{'module':14}{'expected':>10}{'plain':>10}{'cached':>10}{'CPU us a request':>20}")
    for row in figures:
        print(
            f"{row['module']:14}{row['expected']:10.3f}{row['plain']:10.3f}{row['cached']:10.3f}"
            f"{row['cpu_us_per_request']:20.0f}"
        )
    print()
    reached = goals(figures)
    for text, ok in reached:
        print(f"{'reached' if ok else 'MISSED '}  {text}")
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(
        json.dumps(
            {"figures": figures, "goals": [{"goal": g, "reached": ok} for g, ok in reached]},
            indent=2,
        )
    )
    return 1 if options.check and not all(ok for _, ok in reached) else 0


if __name__ == "__main__":
    sys.exit(main())
