"""`dspex serve` on SQLite runs jobs too: a worker process begins with the first job and ends with the server."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dspex.bootstrap import open_services
from dspex.operations.resources import DOMAIN, Query
from dspex.settings import Settings
from dspex.testing.processes import is_alive
from tests.operations.jobs.rows import a_dataset, a_program
from tests.support.waiting import Child, finish

pytestmark = pytest.mark.full


def until(holds: Callable[[], Any], *, within: float = 60.0) -> None:
    end = time.monotonic() + within
    while not holds():
        assert time.monotonic() < end


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL])
def test_the_embedded_server_runs_a_job_and_takes_its_worker_with_it(tmp_path: Path, ending: int) -> None:
    settings = Settings(state_dir=tmp_path / ".dspex")

    async def prepare() -> None:
        async with open_services(settings) as services:
            await a_program(services.operations.floor.store)
            await a_dataset(services.operations.floor.store)

    async def workers(status: str) -> list[Any]:
        async with open_services(settings) as services:
            wanted = Query(where={"status": status})
            return list(await services.operations.floor.store.select(DOMAIN["job_worker"], wanted))

    def dspex(*arguments: str) -> Any:
        command = [sys.executable, "-m", "dspex", *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60)
        return json.loads(done.stdout)

    finish(prepare())
    with Child([sys.executable, "-m", "dspex", "serve", "--port", "0"], cwd=tmp_path) as server:
        server.wait_for_line("serving http")
        assert finish(workers("alive")) == []
        job = dspex("do", "create_evaluation", "program=qa", "dataset=questions")
        server.wait_for_line("takes jobs from")
        until(lambda: dspex("job", job["id"], "--json")["status"] == "completed")
        (worker,) = finish(workers("alive"))
        os.kill(server.process.pid, ending)
        server.process.wait(60)
        until(lambda: finish(workers("stopped")))
        until(lambda: not is_alive(worker.pid))
