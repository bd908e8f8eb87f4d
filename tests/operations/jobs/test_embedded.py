"""`dspex serve` on SQLite runs jobs too.

A worker process begins with the first job and ends with the server.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from dspex.bootstrap import open_services
from dspex.operations.domain import DOMAIN
from dspex.operations.framework.store import Query, Store
from dspex.settings import Settings
from dspex.testing.processes import is_alive, process_tree, signal_process_tree
from tests.operations.jobs.rows import a_dataset, a_program
from tests.support.command_server import run_dspex
from tests.support.waiting import Child, eventually

pytestmark = pytest.mark.full


@asynccontextmanager
async def open_store(folder: Path) -> AsyncIterator[Store]:
    """The store of a server in a folder, with a program and a data set."""
    async with open_services(Settings(state_dir=folder / ".dspex")) as services:
        store = services.operations.dependencies.store
        await a_program(store)
        await a_dataset(store)
        yield store


async def workers(store: Store, status: str) -> list[Any]:
    """The rows of workers in this state."""
    return list(await store.select(DOMAIN["job_worker"], Query(where={"status": status})))


async def until_completed(store: Store, job: UUID) -> None:
    """Wait until a job has run."""

    async def is_completed() -> bool:
        row = await store.get(DOMAIN["evaluation"], id=job)
        return row is not None and row.status == "completed"

    await eventually(is_completed)


async def create_job(folder: Path) -> UUID:
    """Create an evaluation on the command line, and return its id."""
    arguments = ("do", "create_evaluation", "program=qa", "dataset=questions")
    process = await asyncio.to_thread(run_dspex, folder, *arguments)
    assert process.returncode == 0, process.stderr
    return UUID(json.loads(process.stdout)["id"])


class Server(Child):
    """A server in a folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__([sys.executable, "-m", "dspex", "serve", "--port", "0"], cwd=folder)

    async def line(self, part: str) -> str:
        """Wait for a line that holds `part`."""
        return await asyncio.to_thread(self.wait_for_line, part)


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL])
async def test_the_embedded_server_runs_a_job_and_takes_its_worker_with_it(
    tmp_path: Path, ending: int
) -> None:
    async with open_store(tmp_path) as store:
        with Server(tmp_path) as server:
            await server.line("serving http")
            assert await workers(store, "alive") == []
            job = await create_job(tmp_path)
            await server.line("takes jobs from")
            await until_completed(store, job)
            (worker,) = await workers(store, "alive")
            os.kill(server.process.pid, ending)
            await asyncio.to_thread(server.process.wait, 60)
            await eventually(lambda: workers(store, "stopped"))
            await eventually(lambda: not is_alive(worker.pid))


async def test_the_server_replaces_a_worker_that_is_stuck(tmp_path: Path) -> None:
    """It was declared dead and does not come back; the next job finds another one."""
    async with open_store(tmp_path) as store:
        with Server(tmp_path) as server:
            await server.line("serving http")
            await create_job(tmp_path)
            await server.line("takes jobs from")
            (worker,) = await workers(store, "alive")
            members = process_tree(worker.pid)
            os.kill(worker.pid, signal.SIGSTOP)
            try:
                await eventually(lambda: workers(store, "dead"))
                job = await create_job(tmp_path)
                await server.line("shows no sign of life")
                await server.line("takes jobs from")
                await until_completed(store, job)
                await eventually(lambda: not any(is_alive(pid) for pid in members))
            finally:
                signal_process_tree(worker.pid, signal.SIGCONT)
