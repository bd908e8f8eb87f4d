"""Kills of workers and of the processes of their jobs.

Each job ends once, and every answer is kept once.
"""

import os
import random
import signal
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dspex.clock import SystemClock
from dspex.settings import Settings
from dspex.testing.processes import process_tree
from tests.operations.jobs.test_workers import ROWS, World, journal, world
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from tests.support.waiting import Child

WORKERS = 2


async def is_whole(at: World, job: Any) -> None:
    """Check that a job has ended once with all its rows.

    Its journal holds each answer and each row once.
    """
    row = await at.until_status(job, "completed", "failed", "cancelled")
    assert row.status == "completed", row.error
    assert len(row.rows) == len(ROWS)
    assert (await at.statuses(job)).count("completed") == 1
    entries = await journal(at, job)
    for kind, name in (("answer", "key"), ("row", "index")):
        counts = Counter(entry[name] for entry in entries if entry["kind"] == kind)
        assert len(counts) == len(ROWS)
        assert set(counts.values()) == {1}


def job_process_of(worker: int) -> int | None:
    """The youngest process of a worker, not counting the watchdog."""
    members = [
        pid
        for pid in process_tree(worker)[1:]
        if b"--channel" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    return members[-1] if members else None


@pytest.mark.full
async def test_the_process_of_a_job_is_killed_and_its_worker_goes_on_with_the_job(
    on_each_database: Settings, tmp_path: Path
) -> None:
    async with world(on_each_database, tmp_path, seconds=0.05) as at:
        with at.worker() as worker:
            job = await at.job()

            async def has_begun() -> bool:
                return len(at.model.answered) >= 5

            await eventually(has_begun)
            pid = job_process_of(worker.process.pid)
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            await is_whole(at, job)
            row = await at.row(job)
            assert row.turn == 1
            assert sum(at.model.asked.values()) <= len(ROWS) + 1
            assert len(await at.workers()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
async def test_workers_and_processes_of_jobs_are_killed_at_any_moment(
    on_each_database: Settings, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)

    async with world(on_each_database, tmp_path, seconds=0.05) as at:
        with ExitStack() as stack:
            workers: list[Child] = [stack.enter_context(at.worker()) for _ in range(WORKERS)]
            jobs = [await at.job() for _ in range(3)]
            for _ in range(4):
                await SystemClock().sleep(chance.uniform(0.5, 3.0))
                at_risk = chance.choice(workers)
                pid = (
                    at_risk.process.pid
                    if chance.random() < 0.5
                    else job_process_of(at_risk.process.pid)
                )
                if pid is None:
                    continue
                os.kill(pid, signal.SIGKILL)
                if pid == at_risk.process.pid:
                    workers.remove(at_risk)
                    workers.append(stack.enter_context(at.worker()))
            for job in jobs:
                await is_whole(at, job)
