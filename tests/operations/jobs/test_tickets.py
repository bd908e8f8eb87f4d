"""What DBOS does by default, each with the test that it does otherwise here."""

import asyncio
import json
import logging
import sqlite3
import subprocess
import sys
import threading
from datetime import timedelta
from functools import partial
from pathlib import Path
from uuid import UUID

import pytest

from dspex.clock import SystemClock
from dspex.errors import StorageError
from dspex.operations.domain import QUEUES
from dspex.operations.jobs import JobPolicy
from dspex.operations.jobs.tickets import VERSION, Tickets, make_engine, ticket_of
from dspex.testing.postgres import PostgresServer
from tests.operations.jobs.conftest import Opened
from tests.support.postgres import migrated
from tests.support.waiting import eventually

JOB, OTHER = UUID(int=1), UUID(int=2)
QUICK = JobPolicy(queues=QUEUES, poll=0.02, concurrency=2)


async def is_spent(tickets: Tickets, names: list[str], spent: set[str]) -> bool:
    return await asyncio.to_thread(tickets.find_spent, names) == spent


@pytest.mark.full
@pytest.mark.filterwarnings("ignore::ResourceWarning")
async def test_tickets_are_handed_out_once_on_our_loop_and_hold_plain_json(
    open_store: Opened, tmp_path: Path
) -> None:
    """Noted twice, run once; on the loop and thread of the worker; JSON, our version, WAL."""

    runs: list[tuple[str, UUID, int, asyncio.AbstractEventLoop, int]] = []
    both = asyncio.Event()

    async def run(queue: str, job_id: UUID, turn: int) -> str:
        runs.append((queue, job_id, turn, asyncio.get_running_loop(), threading.get_ident()))
        if len(runs) == 2:
            both.set()
        return "completed"

    loop = asyncio.get_running_loop()
    url = f"sqlite+aiosqlite:///{tmp_path / 'dspex.sqlite3'}"
    async with open_store():
        for life in ("first", "second"):  # one after the other: there is one DBOS in a process
            both.clear()
            runs.clear()
            tickets = Tickets(url, executor=life, run=run, loop=loop, policy=QUICK)
            await asyncio.to_thread(tickets.start, [("evaluation", "evaluation")])
            try:
                for turn in (0, 0, 1) if life == "first" else (2, 3):
                    await asyncio.to_thread(tickets.add, "evaluation", JOB, turn)
                await asyncio.to_thread(tickets.add, "elsewhere", OTHER, 0)
                names = [thread.name for thread in threading.enumerate()]
                assert "queue-worker-evaluation" not in names  # it would poll the database
                tickets.look("evaluation")
                tickets.look("elsewhere")
                await both.wait()
                first = 0 if life == "first" else 2
                assert [entry[:3] for entry in sorted(runs, key=lambda entry: entry[2])] == [
                    ("evaluation", JOB, first),
                    ("evaluation", JOB, first + 1),
                ]
                assert {entry[3:] for entry in runs} == {(loop, threading.get_ident())}
                names = [ticket_of(JOB, first), ticket_of(OTHER, 0)]
                await eventually(partial(is_spent, tickets, names, {names[0]}))
                await asyncio.to_thread(tickets.discard, ["nobody"])
                # DBOS takes an empty list for all of them
                await asyncio.to_thread(tickets.discard, [])
                assert await asyncio.to_thread(tickets.find_spent, []) == set()
                assert await asyncio.to_thread(tickets.find_spent, [names[1]]) == set()
                now = SystemClock().now()
                assert await asyncio.to_thread(tickets.forget, now - timedelta(days=1)) == 0
                if life == "first":
                    spent = [ticket_of(JOB, 0), ticket_of(JOB, 1)]
                    await eventually(partial(is_spent, tickets, spent, set(spent)))
                    # with the one that waits where this worker does not look
                    assert await asyncio.to_thread(tickets.forget, now + timedelta(days=1)) == 3
                    assert await asyncio.to_thread(tickets.find_spent, [*spent, names[1]]) == {
                        *spent,
                        names[1],
                    }
            finally:
                await asyncio.to_thread(tickets.stop)
    connection = sqlite3.connect(tmp_path / "dspex.sqlite3")
    query = (
        "select application_version, serialization, workflow_input.inputs, executor_id from "
        "workflow_status join workflow_input using (workflow_uuid)"
    )
    rows = connection.execute(query).fetchall()
    assert connection.execute("pragma journal_mode").fetchone() == ("wal",)
    connection.close()
    assert len(rows) == 3  # what waits elsewhere, and the second life
    assert {row[0] for row in rows} == {VERSION}
    assert {row[1] for row in rows} == {"portable_json"}
    assert all(json.loads(row[2]) for row in rows)
    assert {row[3] for row in rows} == {"second", None}


@pytest.mark.full
async def test_a_database_that_is_away_is_a_storage_error_whatever_is_asked(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.CRITICAL, logger="dbos")

    async def run(_queue: str, _job_id: UUID, _turn: int) -> str:
        return "completed"

    async def work(server: PostgresServer, url: str) -> None:
        tickets = Tickets(
            url, executor="me", run=run, loop=asyncio.get_running_loop(), policy=QUICK
        )
        await asyncio.to_thread(tickets.start, [("evaluation", "evaluation")])
        server.stop("QUIT")
        tickets.look("evaluation")
        for call in (
            lambda: tickets.add("evaluation", JOB, 0),
            lambda: tickets.find_spent([ticket_of(JOB, 0)]),
            tickets.find_holders,
            lambda: tickets.discard(["somebody"]),
            lambda: tickets.forget(SystemClock().now()),
        ):
            with pytest.raises(StorageError, match="the queue of jobs cannot be used"):
                await asyncio.to_thread(call)
        await asyncio.to_thread(tickets.stop)
        with pytest.raises(StorageError, match="does not start"):
            await asyncio.to_thread(tickets.start, [("evaluation", "evaluation")])
        with pytest.raises(StorageError, match="is closed"):
            tickets.add("evaluation", JOB, 0)

    with PostgresServer() as server:
        url = server.url(server.make())
        migrated(url)
        await work(server, url)


def test_connections_for_dbos_have_our_settings(tmp_path: Path) -> None:
    engine = make_engine(f"sqlite+aiosqlite:///{tmp_path / 'some.sqlite3'}")
    with engine.begin() as connection:
        pragmas = [
            connection.exec_driver_sql(f"pragma {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        ]
        assert pragmas == ["wal", 1, 1]
        with (
            sqlite3.connect(tmp_path / "some.sqlite3", timeout=0) as blocker,
            pytest.raises(sqlite3.OperationalError),
        ):
            # a transaction holds the lock from its first statement on
            blocker.execute("begin immediate")
        blocker.close()
    engine.dispose()


@pytest.mark.bridge
def test_nothing_but_a_worker_imports_dbos() -> None:
    """It takes 2 s: neither the command line nor a server nor an action on a job pays for it."""
    script = (
        "import sys, dspex.bootstrap, dspex.surfaces.cli.worker, dspex.surfaces.cli.serve, "
        "dspex.surfaces.api, dspex.operations.jobs, dspex.operations.optimizations.jobs; "
        "sys.exit('dbos' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False, timeout=60).returncode == 0
