"""What many rows cost: the same work beside few executions and beside many, on both databases.

    python benchmarks/large.py [--quick] [--check]

400 executions of a scripted model, 32 at a time, first in an empty database and then beside 300,000
more executions (--quick: 30,000) that ended before; PostgreSQL has analyzed nothing by then, as in
the first minute of a burst. Then it has, and somebody looks for a fault in the large database: the
newest 50 executions, the failed ones, those of one program, and the figures of a program. Medians
of five, in ms; CPU of the database is not this process's."""

import argparse
import asyncio
import dataclasses
import json
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median
from typing import Any

from dspex.bootstrap import Services, migrate_database, new_id, open_services
from dspex.operations.domain import DOMAIN
from dspex.operations.executions.actions import execute_program
from dspex.operations.executions.inputs import ExecuteProgram
from dspex.operations.executions.program_metrics import program_metrics
from dspex.operations.framework.store import Insert, Query
from dspex.operations.programs.actions import ProgramRef, create_program
from dspex.operations.programs.inputs import CreateProgram
from dspex.settings import Secret, Settings
from dspex.testing import ScriptedModel
from dspex.testing.postgres import PostgresServer, execute

HERE = Path(__file__).parent
EXECUTION = DOMAIN["execution"]
REPLY = "[[ ## answer ## ]]\nParis\n\n[[ ## completed ## ]]"
GROUP = 500
GOALS = {"400 executions, beside few": 1.5, "newest": 50.0, "failed": 50.0, "of one program": 50.0}


async def execute_many(services: Services) -> None:
    request = ExecuteProgram(program="triage", inputs={"question": "?"})
    free = asyncio.Semaphore(32)

    async def one() -> None:
        async with free:
            await execute_program(services.operations, request)

    async with asyncio.TaskGroup() as group:
        for _ in range(400):
            group.create_task(one())


async def median_ms(work: Callable[[], Awaitable[Any]], *, rounds: int = 5) -> float:
    durations = []
    for _ in range(rounds):
        start = time.perf_counter()
        await work()
        durations.append(time.perf_counter() - start)
    return median(durations) * 1e3


async def fill(services: Services, count: int) -> None:
    store = services.operations.dependencies.store
    rows = await store.select(EXECUTION, Query(limit=1))
    for first in range(0, count, GROUP):
        copies = [
            dataclasses.replace(rows[0], id=new_id()) for _ in range(min(GROUP, count - first))
        ]
        await store.write(*map(Insert, copies))


async def measure(settings: Settings, count: int) -> dict[str, float]:
    await migrate_database(settings)
    async with open_services(settings, serves=False) as services:
        models: Any = services.context.models
        # a scripted model under a model string, so that no provider is called
        models._local["openai/paris"] = ScriptedModel(REPLY)  # noqa: SLF001
        request = CreateProgram(
            name="triage", signature="question -> answer", configuration={"model": "openai/paris"}
        )
        program = await create_program(services.operations, request)
        await execute_many(services)
        few = await median_ms(lambda: execute_many(services))
        await fill(services, count)
        many = await median_ms(lambda: execute_many(services))
        if settings.database_url is not None:
            await execute(settings.database_url.reveal(), "ANALYZE")
        dependencies = services.operations.dependencies

        def list_executions(**where: Any) -> Callable[[], Awaitable[Any]]:
            query = Query(where={"workspace": "default", **where}, limit=50)
            return lambda: dependencies.store.select(EXECUTION, query)

        return {
            "400 executions": many,
            "400 executions, beside few": many / few,
            "newest": await median_ms(list_executions()),
            "failed": await median_ms(list_executions(status="failed")),
            "of one program": await median_ms(list_executions(program_id=program.id)),
            "figures": await median_ms(
                lambda: program_metrics(services.operations, ProgramRef(program_id=program.id))
            ),
        }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="30,000 executions instead of 300,000")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a goal is missed")
    options = parser.parse_args()
    count = 30_000 if options.quick else 300_000
    figures: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder, PostgresServer() as server:
        for name, url in (("sqlite", None), ("postgres", Secret(server.url(server.make())))):
            settings = Settings(state_dir=Path(folder) / name, database_url=url)
            figures[name] = asyncio.run(measure(settings, count))
    print(f"beside {count:,} executions{'':14}{'SQLite':>10}{'PostgreSQL':>12}")
    for name in figures["sqlite"]:
        goal = f"   (at most {GOALS[name]:g})" if name in GOALS else ""
        print(f"{name:36}{figures['sqlite'][name]:10.2f}{figures['postgres'][name]:12.2f}{goal}")
    results = HERE / "results"
    results.mkdir(exist_ok=True)
    (results / "large.json").write_text(
        json.dumps({"executions": count, **figures}, indent=2) + "\n", encoding="utf-8"
    )
    missed = [
        name
        for name, goal in GOALS.items()
        if any(values[name] > goal for values in figures.values())
    ]
    return int(options.check and bool(missed))


if __name__ == "__main__":
    sys.exit(main())
