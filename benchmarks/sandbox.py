"""Sandboxes: what a session and a run cost, and who withstands what.

Goals: a session of monty starts in less than 30 ms, and a run in a warm session takes less than
1 ms (median) through the protocol. The hostile suite never harms the host.

    python benchmarks/sandbox.py [--quick] [--check]
"""

import argparse
import asyncio
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from dspex.execution.sandbox import SANDBOXES, Sandbox, SandboxLimits

RESULTS = Path(__file__).parent / "results" / "sandbox.json"
LIMITS = SandboxLimits(seconds=2, memory_mib=100, output_kib=16, files_kib=16, calls=5)
HOSTILE = {
    "endless loop": "while True:\n    pass",
    "memory": "s = 'a'\nwhile True:\n    s = s + s",
    "output flood": "while True:\n    print('x' * 1000)",
    "recursion": "def f():\n    return f()\nf()",
    "host file": "print(open('/etc/hostname').read())\n'seen'",
    "writes outside": "open('/tmp/dspex-hostile', 'w').write('x')\n'seen'",
    "environment": "import os\nassert os.environ['PATH']\nos.environ['HOME']\n'seen'",
    "network": "import socket\nsocket.create_connection(('127.0.0.1', PORT), 1)\n'seen'",
    "processes": "import subprocess\nsubprocess.run(['true'])\n'seen'",
    "introspection": "().__class__.__mro__[-1].__subclasses__()\n'seen'",
    "value without JSON": "class A:\n    pass\nA()",
}


async def times(sandbox: Sandbox, rounds: int) -> dict[str, float]:
    """Return the milliseconds of the first session, of later ones, and of a run in a warm one."""
    started = time.perf_counter()
    async with sandbox.start() as session:
        await session.run("1 + 1")
    first = time.perf_counter() - started
    starts, runs = [], []
    for _ in range(rounds):
        started = time.perf_counter()
        async with sandbox.start() as session:
            await session.run("1 + 1")
            starts.append(time.perf_counter() - started)
            for _ in range(10):
                started = time.perf_counter()
                result = await session.run("1 + n", inputs={"n": 1})
                runs.append(time.perf_counter() - started)
                assert result.value == 2
    return {
        "first_ms": first * 1e3,
        "start_ms": statistics.median(starts) * 1e3,
        "run_ms": statistics.median(runs) * 1e3,
    }


async def withstands(sandbox: Sandbox) -> dict[str, str]:
    """Return what became of each hostile code: its fault, or "let through"."""
    connections: list[object] = []

    async def greet(_reader: object, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    outcomes = {}
    async with server:
        for name, code in HOSTILE.items():
            async with sandbox.start(limits=LIMITS) as session:
                result = await session.run(code.replace("PORT", str(port)))
            fault = result.fault
            outcomes[name] = "let through" if fault is None else f"{fault.kind}: {fault.type}"
    return outcomes


async def measure(rounds: int) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for name, make in SANDBOXES.items():
        sandbox = make()
        figures[name] = {
            "is_safe": sandbox.is_safe,
            **await times(sandbox, rounds),
            "outcomes": await withstands(sandbox),
        }
        await sandbox.aclose()
    Path("/tmp/dspex-hostile").unlink(missing_ok=True)  # noqa: ASYNC240, S108  # what one wrote
    return figures


def goals(figures: dict[str, Any]) -> list[tuple[str, bool]]:
    monty = figures["monty"]
    breaches = [name for name, outcome in monty["outcomes"].items() if outcome == "let through"]
    return [
        (
            f"a session of monty starts in {monty['start_ms']:.1f} ms, below 30",
            monty["start_ms"] < 30,
        ),
        (f"a run in a warm session takes {monty['run_ms']:.2f} ms, below 1", monty["run_ms"] < 1),
        (f"monty withstands all hostile code; let through: {breaches or 'nothing'}", not breaches),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="20 sessions, not 200")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a goal is missed")
    options = parser.parse_args()
    figures = asyncio.run(measure(20 if options.quick else 200))
    print(f"{'sandbox':14}{'first, ms':>12}{'session, ms':>14}{'run, ms':>10}")
    for name, row in figures.items():
        print(f"{name:14}{row['first_ms']:12.1f}{row['start_ms']:14.1f}{row['run_ms']:10.2f}")
    print()
    for hostile in HOSTILE:
        outcomes = "".join(f"{figures[name]['outcomes'][hostile]:32}" for name in figures)
        print(f"{hostile:20}{outcomes}")
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
