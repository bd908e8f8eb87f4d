"""The cost of idling: a worker without jobs, and followers of events while nothing happens.

    python benchmarks/idle.py [--quick] [--check]

A private PostgreSQL counts its transactions; each is one question here. Measured are a `dspex
worker` without jobs, and one process with 1, 10 and 100 open subscriptions, against the same
database without clients. CPU is that of the worker process.
"""

import argparse
import asyncio
import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg

from dspex.bootstrap import migrate_database, open_services
from dspex.operations.domain import DOMAIN
from dspex.operations.events.event_log import Feed
from dspex.operations.framework.store import Query
from dspex.settings import Secret, Settings
from dspex.testing.postgres import PostgresServer

HERE = Path(__file__).parent
FOLLOWERS = (1, 10, 100)
GOALS = {"questions of an idle worker, a second": 40.0, "100 followers to 1": 1.5}


async def transactions(server: PostgresServer, database: str) -> int:
    """Return how many transactions a database has committed, queried on another database."""
    connection = await asyncpg.connect(server.url())
    try:
        return int(
            await connection.fetchval(
                "SELECT xact_commit FROM pg_stat_database WHERE datname = $1", database
            )
        )
    finally:
        await connection.close()


async def rate(server: PostgresServer, database: str, seconds: float) -> float:
    """Return transactions a second, after earlier ones have been counted."""
    await asyncio.sleep(2.0)  # a backend reports its counts once a second
    before, start = await transactions(server, database), time.monotonic()
    await asyncio.sleep(seconds)
    return (await transactions(server, database) - before) / (time.monotonic() - start)


@contextlib.asynccontextmanager
async def worker(settings: Settings, folder: str) -> AsyncIterator[int]:
    assert settings.database_url is not None
    env = {name: value for name, value in os.environ.items() if not name.startswith("DSPEX_")}
    env["DSPEX_DATABASE_URL"] = settings.database_url.reveal()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "dspex", "worker", "start", "--state-dir", folder),
        cwd=folder,
        env=env,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with open_services(settings) as services:
            store = services.operations.dependencies.store
            while not await store.select(DOMAIN["job_worker"], Query(where={"status": "alive"})):
                await asyncio.sleep(0.1)
        yield process.pid
    finally:
        process.terminate()
        await process.wait()


def cpu_of(pid: int) -> float:
    parts = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
    return (int(parts[11]) + int(parts[12])) / os.sysconf("SC_CLK_TCK")


async def measure_worker(
    server: PostgresServer, settings: Settings, *, name: str, seconds: float
) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        async with worker(settings, folder) as pid:
            await asyncio.sleep(2.0)
            before, start = cpu_of(pid), time.monotonic()
            questions = await rate(server, name, seconds)
            used = (cpu_of(pid) - before) / (time.monotonic() - start)
    return {
        "questions of an idle worker, a second": questions,
        "CPU of an idle worker, ms a second": used * 1000,
    }


async def measure_followers(
    server: PostgresServer, settings: Settings, *, name: str, seconds: float
) -> dict[str, float]:
    figures = {}
    async with open_services(settings) as services:
        feed = services.operations.services[Feed]
        assert feed is not None
        for count in FOLLOWERS:
            streams = [feed.follow("default", "execution") for _ in range(count)]
            waiting = [asyncio.ensure_future(anext(stream)) for stream in streams]
            figures[f"questions of {count} followers, a second"] = await rate(server, name, seconds)
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
    return figures


async def measure(server: PostgresServer, name: str, seconds: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(state_dir=Path(folder), database_url=Secret(server.url(name)))
        await migrate_database(settings)
        figures = {"questions without clients, a second": await rate(server, name, seconds)}
        figures |= await measure_followers(server, settings, name=name, seconds=seconds)
        return figures | await measure_worker(server, settings, name=name, seconds=seconds)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="5 seconds each instead of 30")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a goal is missed")
    options = parser.parse_args()
    with PostgresServer() as server:
        figures = asyncio.run(measure(server, server.make(), 5.0 if options.quick else 30.0))
    single, many = (
        figures[f"questions of {count} followers, a second"]
        for count in (FOLLOWERS[0], FOLLOWERS[-1])
    )
    figures["100 followers to 1"] = many / single
    for name, value in figures.items():
        goal = f"   (at most {GOALS[name]:g})" if name in GOALS else ""
        print(f"{name:44}{value:9.2f}{goal}")
    results = HERE / "results"
    results.mkdir(exist_ok=True)
    (results / "idle.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return int(options.check and any(figures[name] > goal for name, goal in GOALS.items()))


if __name__ == "__main__":
    sys.exit(main())
