"""What the bridge to dspy costs, against dspy in this process in the same run.

1. Added CPU per call, parent and child together, on a one-field program. Goal: at most 2 x 194 us, twice what the bare
   wire with one callback costs.
2. Throughput on a program with 8 typed JSON fields: 2 workers against threads in one process. Goal: at least 1.5x.
3. The first call after a crash, with a warm spare. Goal: no import in it (under 0.5 s).

    python benchmarks/bridge.py [--quick] [--check]
"""

import argparse
import asyncio
import importlib.util
import json
import os
import signal
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

RESULT = Path(__file__).parent / "results" / "bridge.json"
BARE_WIRE_US = 194
EIGHT = (
    "text -> a: str, b: int, c: float, d: bool, e: list[str], f: list[int], g: dict[str, float], h: Literal['x', 'y']"
)
VALUES = {"a": "t", "b": 1, "c": 2.5, "d": True, "e": ["p", "q"], "f": [1, 2, 3], "g": {"k": 1.5}, "h": "x"}


def reply_text(kind):
    if kind == "one":
        return "[[ ## answer ## ]]\nyes\n\n[[ ## completed ## ]]"
    return json.dumps(VALUES)


def in_process(kind):
    """Return a call of the same program on dspy in this process, with a model that answers at once."""
    import dspy

    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=False)

    class Shape:
        def __init__(self, **attributes):
            self.__dict__.update(attributes)

    class Local(dspy.BaseLM):
        def forward(self, prompt=None, messages=None, **settings):
            message = Shape(content=reply_text(kind), role="assistant")
            return Shape(choices=[Shape(message=message, finish_reason="stop")], usage={}, model="local")

    program = dspy.Predict("question -> answer" if kind == "one" else EIGHT)
    adapter = dspy.ChatAdapter() if kind == "one" else dspy.JSONAdapter()
    inputs = {"question": "?"} if kind == "one" else {"text": "some text"}

    def call():
        with dspy.context(lm=Local("local"), adapter=adapter, disable_history=True):
            return program(**inputs)

    return call


def bridged(workers, spares=0, concurrency=4):
    from dspex.execution.backends.dspy_bridge import DspyBackend, DspyConfig
    from dspex.execution.workers import PoolConfig

    pool = PoolConfig(name="dspy", minimum=workers, maximum=workers, spares=spares)
    return DspyBackend(DspyConfig(pool=pool, concurrency=concurrency))


def program_of(kind):
    from dspex.language.programs import Node, Program
    from dspex.language.signatures import Signature

    signature = Signature("question -> answer" if kind == "one" else EIGHT)
    config = {"adapter": "chat" if kind == "one" else "json"}
    node = Node(id="self", kind="predict", signature=signature, backend="dspy", config=config)
    return Program(name=kind, signature=signature, root=node)


def context(kind):
    from dspex.execution.context import RunContext
    from dspex.testing import ScriptedModel

    return RunContext(model=ScriptedModel(reply_text(kind)))


def cpu(pid=None):
    """User and system CPU seconds of a process."""
    if pid is None:
        return time.process_time()
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def cpu_per_call(calls):
    """Return CPU us per call: here with dspy in process, and over the bridge (parent, child)."""
    local = in_process("one")
    for _ in range(50):
        local()
    began = cpu()
    for _ in range(calls):
        local()
    here = (cpu() - began) / calls
    inputs, where = {"question": "?"}, context("one")
    async with bridged(1) as bridge:
        handle = await bridge.create_program(program_of("one"))
        for _ in range(100):
            await bridge.execute_program(handle, inputs, where)
        pid = bridge.stats().workers[0].pid
        parent, child = cpu(), cpu(pid)
        for _ in range(calls):
            await bridge.execute_program(handle, inputs, where)
        return [round(seconds * 1e6) for seconds in (here, (cpu() - parent) / calls, (cpu(pid) - child) / calls)]


async def throughput(calls):
    """Return calls per second: dspy in process with 4 threads, and 2 workers over the bridge."""
    local = in_process("eight")
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: local(), range(20)))
        began = time.perf_counter()
        list(threads.map(lambda _: local(), range(calls)))
        here = calls / (time.perf_counter() - began)
    inputs, where = {"text": "some text"}, context("eight")
    async with bridged(2, concurrency=2) as bridge:
        handle = await bridge.create_program(program_of("eight"))
        gate = asyncio.Semaphore(8)

        async def one():
            async with gate:
                await bridge.execute_program(handle, inputs, where)

        await asyncio.gather(*(one() for _ in range(40)))
        began = time.perf_counter()
        await asyncio.gather(*(one() for _ in range(calls)))
        return round(here), round(calls / (time.perf_counter() - began))


async def after_crash(times):
    """Return seconds of the first call after a kill, with a warm spare, each time."""
    found, inputs, where = [], {"question": "?"}, context("one")
    async with bridged(1, spares=1) as bridge:
        handle = await bridge.create_program(program_of("one"))
        for _ in range(times):
            while sum(worker.state == "ready" for worker in bridge.stats().workers) < 2:
                await asyncio.sleep(0.02)
            serving = next(worker for worker in bridge.stats().workers if worker.role == "serving")
            os.kill(serving.pid, signal.SIGKILL)
            while any(w.pid == serving.pid and w.state == "ready" for w in bridge.stats().workers):
                await asyncio.sleep(0)
            began = time.perf_counter()
            await bridge.execute_program(handle, inputs, where)
            found.append(time.perf_counter() - began)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    if importlib.util.find_spec("dspy") is None:
        print("skipped: dspy is not installed here (pip install 'dspex[dspy]')")
        return
    import warnings

    warnings.filterwarnings("ignore", category=DeprecationWarning)
    rounds, calls = (3, 400) if options.quick else (5, 1000)
    costs = [asyncio.run(cpu_per_call(calls)) for _ in range(rounds)]
    added = [parent + child - here for here, parent, child in costs]
    rates = [asyncio.run(throughput(calls // 2)) for _ in range(rounds)]
    ratios = [bridge / here for here, bridge in rates]
    crashes = asyncio.run(after_crash(2 if options.quick else 5))
    middle = statistics.median
    rows = [
        ("dspy in process, CPU us a call", middle(cost[0] for cost in costs), ""),
        ("over the bridge, parent, CPU us a call", middle(cost[1] for cost in costs), ""),
        ("over the bridge, child, CPU us a call", middle(cost[2] for cost in costs), ""),
        ("added by the bridge, CPU us a call", middle(added), f"<= {2 * BARE_WIRE_US}"),
        ("8 JSON fields, dspy in process with threads, calls/s", middle(rate[0] for rate in rates), ""),
        ("8 JSON fields, 2 workers, calls/s", middle(rate[1] for rate in rates), ""),
        ("  ratio", round(middle(ratios), 2), ">= 1.5"),
        ("first call after a crash, slowest, s", round(max(crashes), 3), "< 0.5"),
    ]
    for name, value, goal in rows:
        print(f"{name:56} {value!s:>10}  {goal}")
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps({"quick": options.quick, "rows": [list(row) for row in rows]}, indent=1) + "\n")
    missed = middle(added) > 2 * BARE_WIRE_US or middle(ratios) < 1.5 or max(crashes) >= 0.5
    print("goals missed" if missed else "all goals met")
    sys.exit(options.check and missed)


if __name__ == "__main__":
    main()
