"""Durable jobs under fire: workers killed and stopped, a server killed, a database restarted.

    python benchmarks/jobs.py [--quick] [--check]

Three real `dspex worker start` processes carry out evaluations of 20 rows on a model server of this
process, while workers are killed with SIGKILL at random, and one is stopped and continued. A step
is an answer in a job's journal. Then one worker is killed again and again beside one warm survivor,
to see how soon its job goes on. Last, `dspex serve` is asked without a pause while its PostgreSQL
is restarted; on SQLite, where no server can be restarted, `dspex serve` is killed."""

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp

from dspex import Predict
from dspex.bootstrap import migrate_database, new_id, open_services
from dspex.execution.clients import Request, Response
from dspex.operations.datasets.records import DatasetRecord
from dspex.operations.domain import DOMAIN
from dspex.operations.evaluations.inputs import CreateEvaluation
from dspex.operations.framework.store import Insert, Query
from dspex.operations.programs.stored_programs import save_program
from dspex.operations.storage import SQLJournal
from dspex.settings import Secret, Settings
from dspex.testing import SimulatedModel
from dspex.testing.model_server import ModelServer
from dspex.testing.postgres import PostgresServer
from dspex.testing.processes import signal_process_tree

HERE = Path(__file__).parent
STEPS = 20
ROWS = [{"question": f"question {n}", "answer": f"answer {n}"} for n in range(STEPS)]
EVALUATION, EVENT, WORKER = DOMAIN["evaluation"], DOMAIN["event"], DOMAIN["job_worker"]
DEAD_AFTER = 2.0
GOAL = DEAD_AFTER + 2.0
AT_ONCE = 4  # jobs of one kind that a worker runs at once, each with one call under way


class Slow(SimulatedModel):
    """Answers after a while; counts what it was asked."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds
        self.asked = 0

    async def complete(self, request: Request) -> Response:
        self.asked += 1
        await asyncio.sleep(self.seconds)
        return await super().complete(request)


class World:
    """One database with a program and a data set, and processes of dspex on it."""

    def __init__(self, settings: Settings, folder: Path, model: Slow) -> None:
        self.settings, self.folder, self.model = settings, folder, model
        self.services: Any = None
        self.children: list[asyncio.subprocess.Process] = []

    @property
    def store(self) -> Any:
        return self.services.operations.dependencies.store

    async def child(self, *arguments: str, **more: str) -> asyncio.subprocess.Process:
        env = {
            name: value for name, value in os.environ.items() if not name.startswith("DSPEX_")
        } | more
        if self.settings.database_url is not None:
            env["DSPEX_DATABASE_URL"] = self.settings.database_url.reveal()
        process = await asyncio.create_subprocess_exec(
            *(
                sys.executable,
                "-m",
                "dspex",
                *arguments,
                "--state-dir",
                str(self.settings.state_dir),
            ),
            cwd=self.folder,
            env=env,
            stdout=asyncio.subprocess.PIPE,
            stderr=(self.folder / "log.txt").open("ab"),
        )
        self.children.append(process)
        return process

    async def add_rows(self, name: str, rows: list[Any]) -> None:
        """Store a data set."""
        now = self.services.operations.clock.now()
        facts = {"id": new_id(), "workspace": "default", "created_at": now, "updated_at": now}
        data = {"name": name, "version": 1, "split": "train", "schema": {}, "rows": rows}
        more = {"row_count": len(rows), "checksum": "", "source": "benchmark"}
        await self.store.write(Insert(DatasetRecord(**facts, **data, **more)))

    async def create(self, count: int) -> list[Any]:
        action = next(action for action in DOMAIN.actions if action.name == "create_evaluation")
        request = CreateEvaluation(
            program="qa", dataset="questions", configuration={"concurrency": 1}
        )
        return [await self.services.operations.perform(action, request) for _ in range(count)]

    async def rows(self, jobs: list[Any]) -> list[Any]:
        query = Query(where={"id": tuple(job.id for job in jobs)}, limit=len(jobs))
        return list(await self.store.select(EVALUATION, query))

    async def alive(self) -> dict[int, str]:
        """Ids of workers by the id of their process."""
        rows = await self.store.select(WORKER, Query(where={"status": "alive"}))
        return {row.pid: str(row.id) for row in rows}

    async def until_alive(self, count: int) -> dict[int, str]:
        while len(workers := await self.alive()) < count:
            await asyncio.sleep(0.05)
        return workers

    async def events(self, job: Any) -> list[Any]:
        query = Query(where={"subject_id": job.id}, oldest_first=True, limit=1000)
        return list(await self.store.select(EVENT, query))

    async def end(self) -> None:
        for child in self.children:
            if child.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    signal_process_tree(child.pid, signal.SIGCONT)
                    child.kill()
                await child.wait()


@contextlib.asynccontextmanager
async def world(database: str, url: str | None, *, seconds: float) -> Any:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = Settings(state_dir=folder / "state", database_url=Secret(url) if url else None)
        await migrate_database(settings)
        model = Slow(seconds)
        async with ModelServer({"m": model}) as server, open_services(settings) as services:
            at = World(settings, folder, model)
            at.services = services
            program = Predict("question -> answer", model=f"{server.url}#m").to_program("qa")
            await save_program(services.operations, program, backend="native")
            await at.add_rows("questions", ROWS)
            try:
                yield at
            finally:
                await at.end()
                if os.environ.get("DSPEX_BENCH_LOG"):
                    print((folder / "log.txt").read_text()[-4000:], file=sys.stderr)


async def chaos(at: World, *, jobs: int, every: float, seed: int) -> dict[str, Any]:
    """Run `jobs` on three workers; kill random workers meanwhile, and suspend one for a while."""
    rng = random.Random(seed)
    at.model.asked = 0
    workers = [await at.child("worker", "start") for _ in range(3)]
    await at.until_alive(3)
    created = await at.create(jobs)
    started = time.perf_counter()
    kills, running_when_hit, stopped = 0, 0, None
    while True:
        rows = await at.rows(created)
        if all(row.status in {"completed", "failed", "cancelled"} for row in rows):
            break
        if time.perf_counter() - started > 600:
            break
        await asyncio.sleep(every * rng.uniform(0.7, 1.3))
        alive = await at.alive()
        able = [worker for worker in workers if worker.pid in alive and worker is not stopped]
        if len(able) < 2:
            continue  # one warm survivor remains
        victim = rng.choice(able)
        running = [row for row in await at.rows(created) if row.status == "running"]
        running_when_hit += sum(row.worker == alive[victim.pid] for row in running)
        if kills == 1 and stopped is None:
            stopped = victim
            signal_process_tree(victim.pid, signal.SIGSTOP)
            asyncio.get_running_loop().call_later(5.0, _continue, victim)
            continue
        victim.kill()
        await victim.wait()
        kills += 1
        workers[workers.index(victim)] = await at.child("worker", "start")
    seconds = time.perf_counter() - started
    expected = await at.rows(created)
    facts = Counter(row.status for row in expected)
    lost = doubled = wrong = ends = 0
    reference = None
    for row in expected:
        entries = await SQLJournal(at.services.data, row.id).entries()
        answers = [entry["key"] for entry in entries if entry["kind"] == "answer"]
        steps = [entry["index"] for entry in entries if entry["kind"] == "row"]
        doubled += len(answers) - len(set(answers)) + len(steps) - len(set(steps))
        lost += len(row.rows or []) - len(set(steps)) + STEPS - len(set(answers))
        results = [(line["outputs"], line["scores"]) for line in row.rows or []]
        reference = reference or results
        wrong += results != reference or len(results) != STEPS
        ends += sum(
            event.payload["status"] == "completed" and "over" in event.payload["message"]
            for event in await at.events(row)
        )
    for worker in workers:
        if worker.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                signal_process_tree(worker.pid, signal.SIGCONT)
                worker.terminate()
            await worker.wait()
    return {
        "jobs": jobs,
        "completed": facts["completed"],
        "ended_once": ends == jobs,
        "wrong": wrong,
        "lost": lost,
        "doubled": doubled,
        "kills": kills,
        "stopped_and_continued": int(stopped is not None),
        "running_when_hit": running_when_hit,
        "asked_again": at.model.asked - jobs * STEPS,
        "seconds": seconds,
        "errors": [row.error["message"] for row in expected if row.error],
    }


async def measure_recovery(at: World, *, times: int) -> list[float]:
    """Kill the worker of a running job; return the seconds until the survivor continues it."""
    seconds: list[float] = []
    workers = {child.pid: child for child in [await at.child("worker", "start") for _ in range(2)]}
    for _ in range(times):
        await at.until_alive(2)
        (job,) = await at.create(1)
        while (row := (await at.rows([job]))[0]).status != "running" or not row.progress:
            await asyncio.sleep(0.01)
        alive = await at.alive()
        victim = next(pid for pid, key in alive.items() if key == row.worker)
        at_kill = at.services.operations.clock.now()
        workers[victim].kill()
        await workers.pop(victim).wait()
        while (row := (await at.rows([job]))[0]).status != "completed":
            await asyncio.sleep(0.02)
        again = next(
            event
            for event in await at.events(job)
            if event.payload["message"] == "started" and event.created_at > at_kill
        )
        seconds.append((again.created_at - at_kill).total_seconds())
        child = await at.child("worker", "start")
        workers[child.pid] = child
    for child in workers.values():
        child.terminate()
        await child.wait()
    return seconds


async def restart_under_load(
    at: World, *, postgres: PostgresServer | None, seconds: float
) -> dict[str, Any]:
    """Call a server continuously while its database restarts (on SQLite: the server itself)."""
    url, server = await serve(at, port=0)
    port = url.rpartition(":")[2]
    acknowledged: list[str] = []
    errors: Counter[str] = Counter()
    back: list[float] = []
    over = asyncio.Event()

    async def client() -> None:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session:
            while not over.is_set():
                body = {"inputs": {"question": "question 1"}}
                try:
                    async with session.post(f"{url}/v1/programs/qa/execute", json=body) as response:
                        execution = await response.json()
                        if response.status == 200:
                            acknowledged.append(execution["id"])
                            back.append(time.perf_counter())
                        else:
                            errors[str(response.status)] += 1
                            await asyncio.sleep(0.05)
                except (aiohttp.ClientError, TimeoutError, ValueError):
                    errors["connection"] += 1
                    await asyncio.sleep(0.05)

    clients = [asyncio.create_task(client()) for _ in range(8)]
    await asyncio.sleep(seconds)
    outage = time.perf_counter()
    before = len(acknowledged)
    if postgres is not None:
        await asyncio.to_thread(postgres.stop)
        await asyncio.sleep(1.0)
        await asyncio.to_thread(postgres.start)
    else:
        server.kill()
        await server.wait()
        url, server = await serve(at, port=int(port))
    up = time.perf_counter()
    await asyncio.sleep(seconds + 3)
    over.set()
    await asyncio.gather(*clients)
    server.terminate()
    await server.wait()
    missing = 0
    for start in range(0, len(acknowledged), 100):
        part = tuple(map(_uuid, acknowledged[start : start + 100]))
        rows = await at.store.select(
            DOMAIN["execution"], Query(where={"id": part}, limit=len(part))
        )
        missing += len(set(part)) - sum(row.status == "completed" for row in rows)
    after = [moment for moment in back if moment > up]
    return {
        "acknowledged": len(acknowledged),
        "before": before,
        "after": len(after),
        "missing": missing,
        "refused": dict(errors),
        "outage_s": up - outage,
        "recovered_s": (after[0] - up) if after else None,
    }


async def serve(at: World, *, port: int) -> tuple[str, asyncio.subprocess.Process]:
    server = await at.child("serve", "--port", str(port), "--no-worker", "--json")
    lines = ""
    assert server.stdout is not None
    while "}" not in lines:
        line = await server.stdout.readline()
        assert line, f"the server ended: {(at.folder / 'log.txt').read_text()[-2000:]}"
        lines += line.decode()
    return json.loads(lines)["url"], server


def _uuid(text: str) -> Any:
    from uuid import UUID

    return UUID(text)


def p95(values: list[float]) -> float:
    return sorted(values)[min(len(values) - 1, int(0.95 * len(values)))]


def _continue(worker: Any) -> None:
    with contextlib.suppress(ProcessLookupError):  # it has exited meanwhile
        signal_process_tree(worker.pid, signal.SIGCONT)


async def measure(database: str, *, quick: bool, postgres: PostgresServer | None) -> dict[str, Any]:
    async with world(database, await fresh(postgres), seconds=0.05) as at:
        figures = await chaos(at, jobs=8 if quick else 100, every=1.8 if quick else 3.0, seed=7)
    async with world(database, await fresh(postgres), seconds=0.05) as at:
        recoveries = await measure_recovery(at, times=1 if quick else 20)
    async with world(database, await fresh(postgres), seconds=0.0) as at:
        restart = await restart_under_load(at, postgres=postgres, seconds=1.0 if quick else 5.0)
    return {
        "database": database,
        "chaos": figures,
        "resume": {
            "times": len(recoveries),
            "p50": sorted(recoveries)[len(recoveries) // 2],
            "p95": p95(recoveries),
            "all": recoveries,
        },
        "restart": restart,
    }


async def fresh(postgres: PostgresServer | None) -> str | None:
    return None if postgres is None else postgres.url(await asyncio.to_thread(postgres.make))


def goals(figures: dict[str, Any]) -> list[str]:
    chaotic, missed = figures["chaos"], []
    if chaotic["completed"] != chaotic["jobs"] or not chaotic["ended_once"] or chaotic["wrong"]:
        missed.append("every job ends once with the right result")
    if chaotic["lost"] or chaotic["doubled"]:
        missed.append("no committed step is lost or doubled")
    if chaotic["asked_again"] > AT_ONCE * (chaotic["kills"] + 2 * chaotic["stopped_and_continued"]):
        missed.append("only what was under way at a death is asked again")
    if figures["resume"]["p95"] > GOAL:
        missed.append(f"p95 of going on after a death is below {GOAL:g} s")
    if figures["restart"]["missing"] or not figures["restart"]["after"]:
        missed.append("no acknowledged execution is missing, and the server recovers")
    return [f"{figures['database']}: {goal}" for goal in missed]


def show(columns: list[dict[str, Any]]) -> None:
    print(f"{'':44}" + "".join(f"{column['database']:>14}" for column in columns))
    lines = [
        (
            "jobs of 20 steps: completed / all",
            lambda f: f"{f['chaos']['completed']}/{f['chaos']['jobs']}",
        ),
        (
            "workers killed, stopped and continued",
            lambda f: f"{f['chaos']['kills']}, {f['chaos']['stopped_and_continued']}",
        ),
        ("jobs running on them then", lambda f: f["chaos"]["running_when_hit"]),
        (
            "results wrong; steps lost; steps doubled",
            lambda f: f"{f['chaos']['wrong']}; {f['chaos']['lost']}; {f['chaos']['doubled']}",
        ),
        ("calls under way then, asked again", lambda f: f["chaos"]["asked_again"]),
        ("seconds for all of them", lambda f: f"{f['chaos']['seconds']:.1f}"),
        (
            "seconds from a death to going on: p50, p95",
            lambda f: f"{f['resume']['p50']:.2f}, {f['resume']['p95']:.2f}",
        ),
        ("executions acknowledged around a restart", lambda f: f["restart"]["acknowledged"]),
        ("of these missing", lambda f: f["restart"]["missing"]),
        (
            "seconds from database up to the next answer",
            lambda f: (
                "none"
                if f["restart"]["recovered_s"] is None
                else f"{f['restart']['recovered_s']:.2f}"
            ),
        ),
    ]
    for label, value in lines:
        print(f"{label:44}" + "".join(f"{value(column)!s:>14}" for column in columns))


async def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="8 jobs and one death, not 100 and 20")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a goal is missed")
    parser.add_argument("--only", choices=["sqlite", "postgres"], help="one database only")
    options = parser.parse_args()
    figures = []
    if options.only != "postgres":
        figures.append(await measure("sqlite", quick=options.quick, postgres=None))
    if options.only != "sqlite":
        with PostgresServer(is_durable=True) as server:
            figures.append(await measure("postgres", quick=options.quick, postgres=server))
    show(figures)
    missed = [goal for column in figures for goal in goals(column)]
    for error in [error for column in figures for error in column["chaos"]["errors"]]:
        print(f"a job failed: {error}")
    for goal in missed:
        print(f"missed: {goal}")
    results = HERE / "results"
    results.mkdir(exist_ok=True)
    (results / "jobs.json").write_text(
        json.dumps({"quick": options.quick, "figures": figures, "missed": missed}, indent=2)
    )
    return 1 if missed and options.check else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
