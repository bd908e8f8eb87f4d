"""`dspex serve` on SQLite runs jobs too.

A worker process begins with the first job and ends with the server.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dspex.bootstrap import open_services
from dspex.operations.domain import DOMAIN
from dspex.operations.framework.store import Query
from dspex.settings import Settings
from dspex.testing.processes import is_alive, process_tree, signal_process_tree
from tests.operations.jobs.rows import a_dataset, a_program
from tests.support.waiting import Child, finish

pytestmark = pytest.mark.full


def until(holds: Callable[[], Any], *, within: float = 60.0) -> None:
    end = time.monotonic() + within
    while not holds():
        assert time.monotonic() < end


def prepare(settings: Settings) -> None:
    """Store a program and a data set."""

    async def work() -> None:
        async with open_services(settings) as services:
            await a_program(services.operations.dependencies.store)
            await a_dataset(services.operations.dependencies.store)

    finish(work())


def workers(settings: Settings, status: str) -> list[Any]:
    """The rows of workers in this state."""

    async def work() -> list[Any]:
        async with open_services(settings) as services:
            query = Query(where={"status": status})
            return list(
                await services.operations.dependencies.store.select(DOMAIN["job_worker"], query)
            )

    return finish(work())


def dspex(folder: Path, *arguments: str) -> Any:
    """Run a command of dspex in a folder, and return its JSON."""
    command = [sys.executable, "-m", "dspex", *arguments]
    result = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=True, timeout=60
    )
    return json.loads(result.stdout)


@contextmanager
def serve(folder: Path) -> Iterator[Child]:
    """A server in a folder."""
    with Child([sys.executable, "-m", "dspex", "serve", "--port", "0"], cwd=folder) as server:
        server.wait_for_line("serving http")
        yield server


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL])
def test_the_embedded_server_runs_a_job_and_takes_its_worker_with_it(
    tmp_path: Path, ending: int
) -> None:
    settings = Settings(state_dir=tmp_path / ".dspex")
    prepare(settings)
    with serve(tmp_path) as server:
        assert workers(settings, "alive") == []
        job = dspex(tmp_path, "do", "create_evaluation", "program=qa", "dataset=questions")
        server.wait_for_line("takes jobs from")
        until(lambda: dspex(tmp_path, "job", "show", job["id"], "--json")["status"] == "completed")
        (worker,) = workers(settings, "alive")
        os.kill(server.process.pid, ending)
        server.process.wait(60)
        until(lambda: workers(settings, "stopped"))
        until(lambda: not is_alive(worker.pid))


def test_the_server_replaces_a_worker_that_is_stuck(tmp_path: Path) -> None:
    """It was declared dead and does not come back; the next job finds another one."""
    settings = Settings(state_dir=tmp_path / ".dspex")
    prepare(settings)
    with serve(tmp_path) as server:
        dspex(tmp_path, "do", "create_evaluation", "program=qa", "dataset=questions")
        server.wait_for_line("takes jobs from")
        (worker,) = workers(settings, "alive")
        members = process_tree(worker.pid)
        os.kill(worker.pid, signal.SIGSTOP)
        try:
            until(lambda: workers(settings, "dead"))
            job = dspex(tmp_path, "do", "create_evaluation", "program=qa", "dataset=questions")
            server.wait_for_line("shows no sign of life")
            server.wait_for_line("takes jobs from")
            until(
                lambda: dspex(tmp_path, "job", "show", job["id"], "--json")["status"] == "completed"
            )
            until(lambda: not any(is_alive(pid) for pid in members))
        finally:
            signal_process_tree(worker.pid, signal.SIGCONT)
