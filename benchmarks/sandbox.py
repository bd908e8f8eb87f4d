"""Sandboxes: what a session and a run cost, who withstands what, and what RLM does with 2 MB.

Goals (medians, through the protocol): a session of monty starts in less than 30 ms, also the first
one of a new sandbox, and a run in a warm session takes less than 1 ms; in a warm session of deno
less than 20 ms. The hostile suite never harms the host. deno is left out where it or Pyodide is not
installed.

The models of the last part are scripted: the writer of code always writes code that is right, and
the reader of a prompt counts without mistakes what fits its window of 128,000 tokens. So it shows
what the two ways need, not how good a model is.

    python benchmarks/sandbox.py [--quick] [--check]
"""

import argparse
import asyncio
import json
import os
import random
import statistics
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dspex import Predict
from dspex.errors import ConfigurationError
from dspex.execution.context import RunContext
from dspex.execution.sandbox import SANDBOXES, Sandbox, SandboxLimits, SandboxResult
from dspex.execution.sandbox.deno import find_deno, find_pyodide
from dspex.models import Request
from dspex.modules import RLM
from dspex.testing import ScriptedModel

WRITTEN = Path("/tmp/dspex-hostile")  # noqa: S108  # what hostile code writes
RESULTS = Path(__file__).parent / "results" / "sandbox.json"
LIMITS = SandboxLimits(seconds=2, memory_mib=100, output_kib=16, files_kib=16, calls=5)
CANARY = "DSPEX_SANDBOX_CANARY"
HOSTILE = {
    "endless loop": "while True:\n    pass",
    "memory": "s = 'a'\nwhile True:\n    s = s + s",
    "output flood": "while True:\n    print('x' * 1000)",
    "recursion": "def f():\n    return f()\nf()",
    "host file": "print(open('/etc/hostname').read())\n'seen'",
    "writes outside": "open('/tmp/dspex-hostile', 'w').write('x')\n'seen'",
    "environment": f"import os\nos.environ['{CANARY}']\n'seen'",
    "network": "import socket\nsocket.create_connection(('127.0.0.1', PORT), 1)\n'seen'",
    "processes": "import subprocess\nsubprocess.run(['true'])\n'seen'",
    "introspection": (
        "names = [cls.__name__ for cls in ().__class__.__mro__[-1].__subclasses__()]\n"
        "assert 'SandboxLimits' in names\n'seen'"
    ),
    "fork bomb": (
        "import os, time\nfor _ in range(1000):\n    if os.fork() == 0:\n"
        "        time.sleep(2)\n        os._exit(0)\n'seen'"
    ),
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


async def cold_start(name: str, rounds: int) -> float:
    """Return the milliseconds of the first session of a new sandbox, the median of some."""
    seconds = []
    for _ in range(rounds):
        sandbox = SANDBOXES[name]()
        started = time.perf_counter()
        async with sandbox.start() as session:
            await session.run("1 + 1")
        seconds.append(time.perf_counter() - started)
        await sandbox.aclose()
    return statistics.median(seconds) * 1e3


async def withstands(sandbox: Sandbox) -> dict[str, str]:
    """Return what became of each hostile code: its fault, or "let through"."""
    connections: list[object] = []
    os.environ[CANARY] = "seen"

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
            outcomes[name] = outcome(name, result)
    return outcomes


def remove_written() -> None:
    WRITTEN.unlink(missing_ok=True)


def outcome(name: str, result: SandboxResult) -> str:
    """Return the fault of hostile code, or whether the host noticed anything of it."""
    if result.fault is not None:
        return f"{result.fault.kind}: {result.fault.type}"
    is_inside = name == "writes outside" and not WRITTEN.exists()
    return "a file of its own" if is_inside else "let through"


CUSTOMERS = [f"customer-{number}" for number in range(40)]


def orders(characters: int = 2_000_000) -> str:
    """Return lines of orders: number, customer, amount and whether it was returned."""
    rng, lines, size = random.Random(1), list[str](), 0
    while size < characters:
        amount, state = rng.randrange(1, 1000), rng.choice(["sold", "sold", "returned"])
        lines.append(f"{len(lines)},{rng.choice(CUSTOMERS)},{amount},{state}")
        size += len(lines[-1]) + 1
    return "\n".join(lines)


READ = "rows = [line.split(',') for line in text.split('\\n') if line.count(',') == 3]\n"
QUESTIONS = {
    "How many orders are there?": "answer = len(rows)",
    "What do all orders amount to?": "answer = sum([int(row[2]) for row in rows])",
    "What do the returned orders amount to?": (
        "answer = sum([int(row[2]) for row in rows if row[3] == 'returned'])"
    ),
    "How many orders has customer-7?": (
        "answer = len([row for row in rows if row[1] == 'customer-7'])"
    ),
    "What is the largest amount that one customer has?": (
        "totals = {}\nfor row in rows:\n    totals[row[1]] = totals.get(row[1], 0) + int(row[2])\n"
        "answer = max(totals.values())"
    ),
}
WINDOW = 128_000 * 4  # characters


def right_answer(question: str, text: str) -> int:
    names: dict[str, Any] = {"text": text}
    exec(READ + QUESTIONS[question], names)  # noqa: S102  # the code above
    return names["answer"]


def write_code(request: Request) -> str:
    """Look at the beginning first, as a model would, then compute the answer."""
    prompt = request.messages[-1].text
    question = next(question for question in QUESTIONS if question in prompt)
    code = READ + QUESTIONS[question] + "\nSUBMIT(answer=answer)"
    code = "print(text[:200])" if "nothing yet" in prompt else code
    return f"[[ ## reasoning ## ]]\nNext.\n\n[[ ## code ## ]]\n{code}"


def read_window(request: Request) -> str:
    """Answer from the end of the prompt, as far as the window reaches."""
    prompt = request.messages[-1].text
    question = next(question for question in QUESTIONS if question in prompt)
    return f"[[ ## answer ## ]]\n{right_answer(question, prompt[-WINDOW:])}"


async def aggregate(sandboxes: Iterable[Sandbox]) -> dict[str, dict[str, float]]:
    """Return the share of exact answers, and the tokens (4 characters) and seconds per question."""
    text = orders()
    signature = "text, question -> answer: int"
    ways = {"direct prompt": (Predict(signature), read_window)}
    ways |= {
        f"RLM in {sandbox.name}": (RLM(signature, sandbox=sandbox), write_code)
        for sandbox in sandboxes
    }
    rows = {}
    for name, (module, reply) in ways.items():
        exact, tokens, started = 0, 0.0, time.perf_counter()
        for question in QUESTIONS:
            model = ScriptedModel(reply)
            context = RunContext(model=model)
            prediction = await module.acall(context, text=text, question=question)
            exact += prediction.answer == right_answer(question, text)
            messages = [message for request in model.requests for message in request.messages]
            tokens += sum(len(message.text) for message in messages) / 4
        seconds = (time.perf_counter() - started) / len(QUESTIONS)
        rows[name] = {
            "exact": exact / len(QUESTIONS),
            "input_tokens": tokens / len(QUESTIONS),
            "seconds": seconds,
        }
    return rows


def available() -> list[Sandbox]:
    sandboxes = [make() for name, make in SANDBOXES.items() if name != "deno"]
    try:
        find_deno()
        find_pyodide()
    except ConfigurationError as error:
        print(f"without deno: {error.message}\n")
        return sandboxes
    return [*sandboxes, SANDBOXES["deno"]()]


async def measure(rounds: int) -> tuple[dict[str, Any], dict[str, Any]]:
    figures: dict[str, Any] = {}
    sandboxes = available()
    for sandbox in sandboxes:
        remove_written()
        figures[sandbox.name] = {
            "is_safe": sandbox.is_safe,
            # a process of deno needs longer to load than 200 sessions may take
            **await times(sandbox, rounds if sandbox.name != "deno" else min(rounds, 20)),
            "outcomes": await withstands(sandbox),
        }
    figures["monty"]["cold_ms"] = await cold_start("monty", rounds=9)
    remove_written()
    aggregation = await aggregate(sandboxes)
    for sandbox in sandboxes:
        await sandbox.aclose()
    return figures, aggregation


def breaches(row: dict[str, Any]) -> list[str]:
    return [name for name, result in row["outcomes"].items() if result == "let through"]


def goals(figures: dict[str, Any]) -> list[tuple[str, bool]]:
    monty = figures["monty"]
    reached = [
        (
            f"a session of monty starts in {monty['start_ms']:.1f} ms, below 30",
            monty["start_ms"] < 30,
        ),
        (
            f"the first session of a new sandbox in {monty['cold_ms']:.1f} ms, below 30",
            monty["cold_ms"] < 30,
        ),
        (f"a run in a warm session takes {monty['run_ms']:.2f} ms, below 1", monty["run_ms"] < 1),
        *(
            (
                f"{name} withstands all hostile code; let through: {breaches(row) or 'nothing'}",
                not breaches(row),
            )
            for name, row in figures.items()
            if row["is_safe"]
        ),
    ]
    if deno := figures.get("deno"):
        text = f"a run in a warm session of deno takes {deno['run_ms']:.2f} ms, below 20"
        reached.insert(3, (text, deno["run_ms"] < 20))
    return reached


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="20 sessions, not 200")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a goal is missed")
    options = parser.parse_args()
    figures, aggregation = asyncio.run(measure(20 if options.quick else 200))
    print(f"{'sandbox':14}{'first, ms':>12}{'session, ms':>14}{'run, ms':>10}")
    for name, row in figures.items():
        print(f"{name:14}{row['first_ms']:12.1f}{row['start_ms']:14.1f}{row['run_ms']:10.2f}")
    print()
    for hostile in HOSTILE:
        outcomes = "".join(f"{figures[name]['outcomes'][hostile]:32}" for name in figures)
        print(f"{hostile:20}{outcomes}")
    print(f"\n{'2,000,000 characters':24}{'exact':>8}{'tokens sent':>14}{'seconds':>10}")
    for name, row in aggregation.items():
        tokens, seconds = row["input_tokens"], row["seconds"]
        print(f"{name:24}{row['exact']:8.0%}{tokens:14,.0f}{seconds:10.2f}")
    print()
    reached = goals(figures)
    for text, ok in reached:
        print(f"{'reached' if ok else 'MISSED '}  {text}")
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(
        json.dumps(
            {
                "figures": figures,
                "aggregation": aggregation,
                "goals": [{"goal": g, "reached": ok} for g, ok in reached],
            },
            indent=2,
        )
    )
    return 1 if options.check and not all(ok for _, ok in reached) else 0


if __name__ == "__main__":
    sys.exit(main())
