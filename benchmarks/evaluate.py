"""One large evaluation on several workers, beside the same evaluation on one.

    python benchmarks/evaluate.py [--quick] [--check]

A program on dspy is scored on 10,000 rows by `dspex worker start` processes on PostgreSQL. A model
server of this process replies after 200 ms, and each worker has 16 rows in flight. Goals: three
workers take the rows at 2.4 times the speed of one. If one of the three is killed with SIGKILL, no
row is lost or scored twice, and the report equals that of one process. Last, a native program is
scored on 100,000 rows: no process may need more than 8 kB of memory for each row more than it needs
for a tenth of them. Workers are warm (their dspy is imported) before a clock starts."""

import argparse
import asyncio
import contextlib
import json
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from jobs import EVALUATION, World

from dspex import Predict
from dspex.bootstrap import migrate_database, open_services
from dspex.execution.clients import Request, Response
from dspex.operations.domain import DOMAIN
from dspex.operations.evaluations.inputs import CreateEvaluation
from dspex.operations.evaluations.records import EVALUATION_PART
from dspex.operations.framework.store import Query
from dspex.operations.programs.stored_programs import save_program
from dspex.operations.storage import SQLJournal
from dspex.settings import Secret, Settings
from dspex.testing import SimulatedModel
from dspex.testing.model_server import ModelServer
from dspex.testing.postgres import PostgresServer
from dspex.testing.processes import process_tree

HERE = Path(__file__).parent
WORKERS, IN_FLIGHT, SECONDS = 3, 16, 0.2
SPEED, BYTES_A_ROW = 2.4, 8_000
WARMING_ROWS = 192
WARMING = f"rows-{WARMING_ROWS}"
UNLIKE = {"seconds", "trace_id"}  # of a row: what differs between two runs


class Model(SimulatedModel):
    """Answers after a while; counts what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = SECONDS
        self.asked: Counter[str] = Counter()

    async def complete(self, request: Request) -> Response:
        self.asked[request.messages[-1].text] += 1
        if self.seconds:
            await asyncio.sleep(self.seconds)
        return await super().complete(request)


class Memory:
    """The largest resident size of any process of the workers, in bytes, from `start` on."""

    def __init__(self, at: World) -> None:
        self._at = at
        self.largest = 0

    async def watch(self) -> None:
        while True:
            for child in self._at.children:
                if child.returncode is None:
                    for pid in process_tree(child.pid):
                        self.largest = max(self.largest, resident(pid))
            await asyncio.sleep(0.25)


def resident(pid: int) -> int:
    with contextlib.suppress(OSError, ValueError, IndexError):
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    return 0


@contextlib.asynccontextmanager
async def world(url: str) -> Any:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = Settings(state_dir=folder / "state", database_url=Secret(url))
        await migrate_database(settings)
        model = Model()
        async with ModelServer({"m": model}) as server, open_services(settings) as services:
            at = World(settings, folder, model)  # type: ignore[arg-type]
            at.services = services
            program = Predict("question -> answer", model=f"{server.url}#m")
            for backend in ("dspy", "native"):
                await save_program(
                    services.operations, program.to_program(backend), backend=backend
                )
            try:
                yield at
            finally:
                await at.end()
                if os.environ.get("DSPEX_BENCH_LOG"):
                    print((folder / "log.txt").read_text()[-4000:], file=sys.stderr)


async def add_rows(at: World, count: int) -> str:
    """Store a data set of `count` rows, and return its name."""
    name = f"rows-{count}"
    rows = [{"question": f"question {n}", "answer": f"answer {n}"} for n in range(count)]
    await at.add_rows(name, rows)
    return name


async def start(at: World, program: str, dataset: str, *, parts: int | None) -> Any:
    """Create the evaluation."""
    divided = {} if parts is None else {"parts": parts}
    action = next(action for action in DOMAIN.actions if action.name == "create_evaluation")
    request = CreateEvaluation(
        program=program,
        dataset=dataset,
        configuration={"concurrency": IN_FLIGHT, **divided},
    )
    return await at.services.operations.perform(action, request)


async def finish(at: World, job: Any) -> Any:
    """Return the row of the evaluation when it has ended."""
    query = Query(where={"id": job.id}, limit=1, without=frozenset({"rows"}))
    while True:
        (row,) = await at.store.select(EVALUATION, query)
        if row.status == "completed":
            return await at.store.get(EVALUATION, id=job.id)
        if row.status in {"failed", "cancelled"}:
            raise SystemExit(f"the evaluation {row.status}: {row.error}")
        await asyncio.sleep(0.05)


async def add_worker(at: World) -> None:
    """Start a worker with one process for dspy, which has as many calls in flight as the job."""
    await at.child("worker", "start", DSPEX_DSPY_WORKERS="1", DSPEX_DSPY_CONCURRENCY=str(IN_FLIGHT))


async def warm(at: World, workers: int) -> None:
    """Let each of the workers start what it needs for a program on dspy, in small parts."""
    await at.until_alive(workers)
    warmed: set[str] = set()
    while len(warmed) < workers:
        job = await start(at, "dspy", WARMING, parts=4 * workers)
        await finish(at, job)
        warmed |= {part.worker for part in await parts_of(at, job) if part.worker}


async def parts_of(at: World, job: Any) -> list[Any]:
    query = Query(where={"evaluation_id": job.id}, oldest_first=True, limit=100)
    return list(await at.store.select(EVALUATION_PART, query))


async def timed(at: World, dataset: str, *, parts: int | None) -> tuple[float, Any]:
    """Return the seconds of an evaluation on dspy, and its row."""
    started = time.perf_counter()
    row = await finish(at, await start(at, "dspy", dataset, parts=parts))
    return time.perf_counter() - started, row


async def with_kill(at: World, dataset: str, *, parts: int | None) -> tuple[Any, int]:
    """Kill a worker during an evaluation; return its row, and how many rows the part had scored."""
    job = await start(at, "dspy", dataset, parts=parts)
    while True:
        parts_now = await parts_of(at, job)
        begun = [part for part in parts_now if part.status == "running" and part.progress]
        if begun and sum(part.progress.get("done", 0) for part in parts_now) > 0:
            break
        await asyncio.sleep(0.02)
    alive = await at.alive()
    pid = next(pid for pid, key in alive.items() if key == begun[0].worker)
    victim = next(child for child in at.children if child.pid == pid)
    victim.kill()
    await victim.wait()
    return await finish(at, job), begun[0].progress["done"]


async def faults(at: World, row: Any, undivided: Any) -> dict[str, int]:
    """Count the rows that are lost, doubled, or unlike those of one process."""
    counts: Counter[int] = Counter()
    for part in await parts_of(at, row):
        entries = await SQLJournal(at.services.data, part.id).entries()
        counts.update(entry["index"] for entry in entries if entry["kind"] == "row")
    expected = range(len(undivided.rows))
    alike = [
        [{name: line[name] for name in line if name not in UNLIKE} for line in each.rows]
        for each in (row, undivided)
    ]
    return {
        "lost": sum(index not in counts for index in expected),
        "doubled": sum(count - 1 for count in counts.values()),
        "unlike": sum(ours != theirs for ours, theirs in zip(*alike, strict=True)),
        "other_figures": int((row.mean, row.interval) != (undivided.mean, undivided.interval)),
    }


async def large(at: World, count: int) -> dict[str, float]:
    """Score a native program on `count` rows and on a tenth of them; return what it took."""
    at.model.seconds = 0.0
    figures: dict[str, float] = {}
    for rows in (count // 10, count):
        memory = Memory(at)
        watching = asyncio.create_task(memory.watch())
        started = time.perf_counter()
        row = await finish(at, await start(at, "native", await add_rows(at, rows), parts=None))
        watching.cancel()
        figures[f"seconds_{rows}"] = time.perf_counter() - started
        figures[f"bytes_{rows}"] = memory.largest
        figures[f"scored_{rows}"] = len(row.rows)
    figures["bytes_a_row"] = (figures[f"bytes_{count}"] - figures[f"bytes_{count // 10}"]) / (
        count * 0.9
    )
    return figures


async def measure(*, quick: bool, server: PostgresServer) -> dict[str, Any]:
    rows, parts = (960, 3) if quick else (10_000, None)

    async def fresh() -> str:
        return server.url(await asyncio.to_thread(server.make))

    async with world(await fresh()) as at:
        dataset = await add_rows(at, rows)
        await add_rows(at, WARMING_ROWS)
        await add_worker(at)
        await warm(at, 1)
        one_seconds, undivided = await timed(at, dataset, parts=None)
        for _ in range(WORKERS - 1):
            await add_worker(at)
        await warm(at, WORKERS)
        three_seconds, three = await timed(at, dataset, parts=parts)
        whole = await faults(at, three, undivided)
        survivor, done = await with_kill(at, dataset, parts=parts)
        figures = {
            "rows": rows,
            "seconds_one": one_seconds,
            "seconds_three": three_seconds,
            "speed": one_seconds / three_seconds,
            "parts": len(await parts_of(at, three)),
            "whole": whole,
            "killed": await faults(at, survivor, undivided),
            "scored_before_kill": done,
        }
        if not quick:
            await add_worker(at)
            await at.until_alive(WORKERS)
            figures["large"] = await large(at, 100_000)
    return figures


def goals(figures: dict[str, Any]) -> list[str]:
    missed = []
    if figures["speed"] < SPEED:
        missed.append(f"three workers at {SPEED} times the speed of one")
    for name in ("whole", "killed"):
        missed += [f"{name}: no row {fault}" for fault, count in figures[name].items() if count]
    if (big := figures.get("large")) and big["bytes_a_row"] > BYTES_A_ROW:
        missed.append(f"at most {BYTES_A_ROW} bytes of memory a row")
    return missed


def show(figures: dict[str, Any]) -> None:
    rows = figures["rows"]
    print(f"{'one worker: rows/s':48}{rows / figures['seconds_one']:>12.1f}")
    print(f"{'three workers: rows/s':48}{rows / figures['seconds_three']:>12.1f}")
    print(f"{f'  ratio (goal {SPEED})':48}{figures['speed']:>12.2f}")
    for name, title in (("whole", "three workers"), ("killed", "one of three killed")):
        text = "; ".join(str(count) for count in figures[name].values())
        print(f"{f'{title}: rows lost; doubled; unlike; figures':48}{text:>12}")
    if big := figures.get("large"):
        for count in (10_000, 100_000):
            size = big[f"bytes_{count}"] / 2**20
            print(f"{f'{count} rows, native: s':48}{big[f'seconds_{count}']:>12.1f}")
            print(f"{f'{count} rows, native: largest process, MB':48}{size:>12.1f}")
        print(f"{f'  bytes a row (goal {BYTES_A_ROW})':48}{big['bytes_a_row']:>12.0f}")


async def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="960 rows, and not the 100,000")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a goal is missed")
    options = parser.parse_args()
    with PostgresServer() as server:
        figures = await measure(quick=options.quick, server=server)
    show(figures)
    missed = goals(figures)
    for goal in missed:
        print(f"missed: {goal}")
    results = HERE / "results"
    results.mkdir(exist_ok=True)
    (results / "evaluate.json").write_text(
        json.dumps({"quick": options.quick, "figures": figures, "missed": missed}, indent=2)
    )
    return 1 if missed and options.check else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
