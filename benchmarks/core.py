"""The native core against dspy and a bare HTTP client, in one run: medians over interleaved rounds.

A ratio is the median of the ratios of neighbours in time, since the machine is shared.

    python benchmarks/core.py [--quick] [--check] [--dspy-python PYTHON]

Each side is a separate process on the first core; servers run on the last. The yardsticks
(`model_server.py`, `bare_client.py`) are read from $DSPEX_SHARED/bench or `../shared/bench`. dspy
runs in the interpreter of --dspy-python, or in this one if it is installed. Writes
`benchmarks/results/core.json`.
"""

import argparse
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).resolve().parent
SHARED = Path(os.environ.get("DSPEX_SHARED", HERE.parent.parent / "shared")) / "bench"
LIMIT = 120  # seconds for one piece of work; in a full run the longest takes about 15
CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]


def start(stack: ExitStack, command: list[str], core: int) -> subprocess.Popen:
    pinned = ["taskset", "-c", str(core), *command] if len(CORES) > 1 else command
    process = stack.enter_context(
        subprocess.Popen(
            pinned,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
    )
    stack.callback(process.kill)
    return process


class Side:
    """A process that does one piece of work after another; it is restarted if it hangs."""

    def __init__(self, stack: ExitStack, python: str, name: str) -> None:
        self.stack, self.python, self.name = stack, python, name
        self.begin()

    def begin(self) -> None:
        self.process = start(
            self.stack, [self.python, str(HERE / "core_side.py"), self.name], CORES[0]
        )
        if self.read_line(LIMIT) != "ready":
            sys.exit(f"{self.name} does not start with {self.python}")

    def read_line(self, seconds: float) -> str | None:
        """Return the next line, or None after `seconds`; the process is then killed."""
        watch = threading.Timer(seconds, self.process.kill)
        watch.start()
        try:
            return self.process.stdout.readline().strip() or None
        finally:
            watch.cancel()

    def ask(self, work: str, **parameters) -> dict[str, float]:
        self.process.stdin.write(json.dumps({"work": work, **parameters}) + "\n")
        self.process.stdin.flush()
        line = self.read_line(LIMIT)
        if line is None:
            self.begin()
            return {"error": f"no answer within {LIMIT} s"}
        return json.loads(line)


def serve(stack: ExitStack, *command: str) -> str:
    process = start(stack, [sys.executable, *command], CORES[-1])
    return f"http://127.0.0.1:{process.stdout.readline().split()[1]}"


def bare(url: str, calls: int, concurrency: int, delay: int) -> dict[str, float]:
    command = [sys.executable, str(SHARED / "bare_client.py"), "--url", url, "--calls", str(calls)]
    command += ["--concurrency", str(concurrency), "--delay-ms", str(delay)]
    pinned = ["taskset", "-c", str(CORES[0]), *command] if len(CORES) > 1 else command
    return json.loads(
        subprocess.run(pinned, capture_output=True, text=True, check=True, timeout=LIMIT).stdout
    )


def middle(rounds: list[dict[str, float]], key: str) -> float | None:
    values = [row[key] for row in rounds if key in row]
    return statistics.median(values) if values else None


def dspy_python(python: str | None) -> str | None:
    if python:
        return python
    return sys.executable if importlib.util.find_spec("dspy") else None


Results = dict[str, dict[str, list[dict[str, float]]]]


class Notes:
    """Results by work and side, and the seconds that each work took."""

    def __init__(self) -> None:
        self.results: Results = {}
        self.seconds: dict[str, float] = {}

    def take(self, work: str, side: str, call: "Callable[[], dict[str, float]]") -> None:
        begin = time.perf_counter()
        answer = call()
        self.seconds[work] = self.seconds.get(work, 0.0) + time.perf_counter() - begin
        self.results.setdefault(work, {}).setdefault(side, []).append(answer)
        if "error" in answer:
            print(f"  {work} by {side}: {answer['error']}", file=sys.stderr)


def measure(stack: ExitStack, *, quick: bool, peer: str | None) -> Notes:
    few, rounds = (5, 3) if quick else (1, 5)
    ours = Side(stack, sys.executable, "dspex")
    theirs = Side(stack, peer, "dspy") if peer else None
    model = serve(stack, str(SHARED / "model_server.py"), "--port", "0")
    stream = serve(stack, str(HERE / "core_side.py"), "stream-server")
    slow = {"url": f"{model}/d200"}
    notes = Notes()

    def us(work: str, name: str, **parameters) -> None:
        notes.take(work, "dspex", partial(ours.ask, name, **parameters))

    def both(work: str, name: str, sizes: tuple[int, int], **parameters) -> None:
        size = "rows" if name == "evaluate" else "calls"
        us(work, name, **{size: sizes[0] // few}, **parameters)
        if theirs:
            notes.take(
                work, "dspy", partial(theirs.ask, name, **{size: sizes[1] // few}, **parameters)
            )

    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", file=sys.stderr)
        both("predict", "predict", (5000, 600))
        both("predict_sync", "predict_sync", (5000, 600))
        both("typed", "typed8", (3000, 150))
        notes.take("server64", "bare", partial(bare, model, 20_000 // few, 64, 0))
        both("server64", "server", (20_000, 2_000), url=model, concurrency=64)
        both("evaluate", "evaluate", (10_000, 2_000), url=model, concurrency=64)
        us("first_delta", "first_delta", url=stream, calls=300 // few)
        us("calls_1000", "predict", calls=1_000)
        us("calls_100000", "predict", calls=100_000 // few)
        if quick and number:
            continue  # the rest takes most of the time
        notes.take("server1000", "bare", partial(bare, model, 10_000, 1000, 200))
        both("server1000", "server", (10_000 * few, 2_000), concurrency=1000, **slow)
        # CPU only, so the few may wait less
        for size, calls, delay in ((64, 2_000, 20), (5000, 20_000, 200)):
            url = f"{model}/d{delay}"
            us(f"flight_{size}", "server", calls=calls // few, concurrency=size, url=url)
            notes.take(f"flight_{size}", "bare", partial(bare, model, calls // few, size, delay))
    for name, python in (("dspex", sys.executable), ("dspy", peer)):
        if python:
            fresh = Side(stack, python, name)
            notes.take("memory", name, partial(fresh.ask, "memory_growth", calls=10_000 // few))
    return notes


def judge(results: Results) -> list[dict]:
    def value(work: str, side: str, key: str) -> float | None:
        return middle(results.get(work, {}).get(side, []), key)

    def ratio(
        work: str, key: str, above: str, below: str, *, other: str | None = None
    ) -> float | None:
        """Return the median ratio of what was measured one after the other.

        Two sides of one work, or one side of two works.
        """
        pairs = zip(
            results.get(work, {}).get(above, []),
            results.get(other or work, {}).get(below, []),
            strict=False,
        )
        ratios = [one[key] / two[key] for one, two in pairs if one.get(key) and two.get(key)]
        return statistics.median(ratios) if ratios else None

    def row(name: str, goal: str, measured: float | None, passed: "bool | None", **shown) -> dict:
        return {"work": name, "goal": goal, "measured": measured, "passed": passed, **shown}

    rows = []
    for name, work, least in (
        ("Predict in memory, acall: CPU us", "predict", 9),
        ("Predict in memory, sync: CPU us", "predict_sync", 6),
        ("8 typed fields, JSON: CPU us", "typed", 30),
    ):
        us, them = value(work, "dspex", "cpu_us"), value(work, "dspy", "cpu_us")
        measured = ratio(work, "cpu_us", "dspy", "dspex")
        rows.append(
            row(
                name,
                f"1/{least} of dspy",
                measured,
                measured and measured >= least,
                dspex=us,
                dspy=them,
            )
        )
    for name, work, least, share in (
        ("server, 64 at a time: calls/s", "server64", 7, 0.55),
        ("server, 1000 at a time, 200 ms: calls/s", "server1000", 7, 0.85),
    ):
        us, them, limit = (value(work, side, "per_second") for side in ("dspex", "dspy", "bare"))
        measured = ratio(work, "per_second", "dspex", "dspy")
        rows.append(
            row(
                name,
                f"{least}x dspy",
                measured,
                measured and measured >= least,
                dspex=us,
                dspy=them,
                bare=limit,
            )
        )
        measured = ratio(work, "per_second", "dspex", "bare")
        rows.append(
            row(
                name,
                f"{share:.0%} of bare",
                measured,
                measured and measured >= share,
                dspex=us,
                dspy=them,
                bare=limit,
            )
        )
    late = value("first_delta", "dspex", "p50_ms")
    rows.append(
        row("first streamed delta: p50 ms", "<= 1 ms", late, late and late <= 1, dspex=late)
    )
    us, them = value("evaluate", "dspex", "per_second"), value("evaluate", "dspy", "per_second")
    measured = ratio("evaluate", "per_second", "dspex", "dspy")
    rows.append(
        row(
            "evaluate, 64 at a time: rows/s",
            "6x dspy",
            measured,
            measured and measured >= 6,
            dspex=us,
            dspy=them,
        )
    )
    us, them = value("memory", "dspex", "mb"), value("memory", "dspy", "mb")
    passed = None if us is None else us < 5
    rows.append(
        row("memory after 10,000 calls: MB more", "< 5 MB", us, passed, dspex=us, dspy=them)
    )
    measured = ratio("calls_100000", "cpu_us", "dspex", "dspex", other="calls_1000")
    rows.append(
        row(
            "CPU per call, 100,000 calls against 1,000",
            "<= 1.15x",
            measured,
            measured and measured <= 1.15,
        )
    )
    # Python's collector visits everything in flight, at the memory speed that other processes
    # leave. This grows for a bare client too, so compare with the bare client of the same round.
    pairs = growth(results)
    measured = statistics.median(ours / limit for ours, limit in pairs) if pairs else None
    sides = (
        [statistics.median(side) for side in zip(*pairs, strict=True)] if pairs else [None, None]
    )
    name = "CPU per call, 5,000 in flight against 64"
    rows.append(
        row(
            name,
            "<= 1.2x bare's",
            measured,
            measured and measured <= 1.2,
            dspex=sides[0],
            bare=sides[1],
        )
    )
    return rows


def growth(results: Results) -> list[tuple[float, float]]:
    """Return for each round the growth of dspex and of the bare client.

    Growth is the CPU per call with 5,000 calls in flight over that with 64.
    """
    answers = [
        results.get(work, {}).get(side, [])
        for side in ("dspex", "bare")
        for work in ("flight_5000", "flight_64")
    ]
    rounds = zip(*answers, strict=True)
    cpu = [
        [answer["cpu_us"] for answer in round_]
        for round_ in rounds
        if all("cpu_us" in answer for answer in round_)
    ]
    return [(many / few, bare_many / bare_few) for many, few, bare_many, bare_few in cpu]


def show(rows: list[dict]) -> None:
    def text(value: float | None) -> str:
        return "-" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.2f}"

    print(f"{'work':<44}{'dspex':>10}{'dspy':>10}{'bare':>10}  {'goal':<14}{'measured':>9}  ")
    for row in rows:
        sides = "".join(f"{text(row.get(side)):>10}" for side in ("dspex", "dspy", "bare"))
        verdict = {True: "met", False: "MISSED"}.get(row["passed"], "not measured")
        print(f"{row['work']:<44}{sides}  {row['goal']:<14}{text(row['measured']):>9}  {verdict}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="fewer calls and rounds, under a minute"
    )
    parser.add_argument("--check", action="store_true", help="exit with 1 if a goal is missed")
    parser.add_argument("--dspy-python", help="an interpreter that has dspy 3.4.1")
    options = parser.parse_args()
    if not SHARED.is_dir():
        print(f"skipped: the yardsticks are not in {SHARED}; set DSPEX_SHARED")
        return
    peer = dspy_python(options.dspy_python)
    if peer is None:
        print(
            "dspy is not installed: measuring only dspex and the bare client (pass --dspy-python)"
        )
    with ExitStack() as stack:
        notes = measure(stack, quick=options.quick, peer=peer)
    rows = judge(notes.results)
    show(rows)
    print(
        "seconds: " + ", ".join(f"{work} {elapsed:.0f}" for work, elapsed in notes.seconds.items())
    )
    results = HERE / "results" / "core.json"
    results.parent.mkdir(exist_ok=True)
    machine = {"python": platform.python_version(), "cores": len(CORES), "quick": options.quick}
    results.write_text(
        json.dumps(
            {"machine": machine, "rows": rows, "seconds": notes.seconds, "rounds": notes.results},
            indent=1,
        )
        + "\n"
    )
    if options.check and any(row["passed"] is False for row in rows):
        sys.exit(1)


if __name__ == "__main__":
    main()
