"""Jobs in separate processes.

Whatever their code does there, they end, and nobody else notices.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from dspex.bootstrap import new_id
from dspex.clock import SystemClock
from dspex.operations.domain import DOMAIN, QUEUES
from dspex.operations.framework.store import Store, Update
from dspex.operations.jobs import JobPolicy
from dspex.operations.jobs.job_process import JobProcess
from dspex.operations.jobs.job_processes import JobProcesses, supervision
from dspex.operations.jobs.job_rows import JobRows
from dspex.testing.processes import is_alive, wait_until_ended
from tests.conftest import ENVIRONMENT
from tests.operations.jobs.conftest import Opened
from tests.operations.jobs.rows import a_job, a_program
from tests.support.waiting import eventually

pytestmark = pytest.mark.bridge
EVALUATION = DOMAIN["evaluation"]
CHILD = Path(__file__).with_name("child.py")
POLICY = JobPolicy(queues=QUEUES, attempts=2, backoff=0.01, poll=0.02, stall=0.0, grace=0.3)


@dataclass
class Bench:
    store: Store
    processes: JobProcesses
    started: list[JobProcess]
    lines: list[str]

    async def job(self, act: str) -> Any:
        program = await a_program(self.store, name=f"qa-{new_id()}")
        return await a_job(self.store, program=program, metrics=[act])

    async def row(self, job: Any) -> Any:
        return await self.store.get(EVALUATION, id=job.id)

    async def run(self, job: Any) -> str:
        row = await self.row(job)
        return await self.processes.run("evaluation", job.id, row.turn)

    async def until_at_work(self, job: Any) -> int:
        """Wait until the job's code runs, and return the process it is in."""

        async def has_reported() -> bool:
            return "pid" in (await self.row(job)).progress

        await eventually(has_reported)
        return int((await self.row(job)).progress["pid"])


@asynccontextmanager
async def bench(
    open_store: Opened, folder: Path, policy: JobPolicy = POLICY
) -> AsyncIterator[Bench]:
    started: list[JobProcess] = []
    lines: list[str] = []

    async def start() -> JobProcess:
        command = [sys.executable, str(CHILD)]
        database = str(folder / "dspex.sqlite3")
        process = await JobProcess.start(
            lambda channel: [*command, str(channel), database], environment=ENVIRONMENT, mark="test"
        )
        started.append(process)
        return process

    async with open_store() as store:
        clock = SystemClock()
        rows = JobRows(store, policy=policy, clock=clock, new_id=new_id, worker="me")
        processes = JobProcesses(
            rows, start=start, policy=policy, clock=clock, worker="me", say=lines.append
        )
        try:
            async with supervision(processes):
                yield Bench(store, processes, started, lines)
        finally:
            await processes.abandon()
        assert not any(is_alive(process.pid) for process in started)


@pytest.mark.parametrize("act", ["compute", "spin"])
async def test_a_job_whose_code_gives_no_control_back_fails_and_holds_up_no_other(
    open_store: Opened, tmp_path: Path, act: str, capfd: pytest.CaptureFixture[str]
) -> None:
    async with bench(open_store, tmp_path, replace(POLICY, stall=3.0)) as at:
        stuck = await at.job(act)
        run = asyncio.create_task(at.run(stuck))
        await at.until_at_work(stuck)
        for _ in range(2):
            assert await at.run(await at.job("quick")) == "completed"
        assert len(at.started) == 2  # the second one of these took over the process of the first
        assert await run == "failed"
        error = (await at.row(stuck)).error
        assert error["code"] == "worker_stalled"
        assert "DSPEX_JOB_STALL_SECONDS" in error["message"]
    stderr = capfd.readouterr().err
    assert "Fatal Python error: Aborted" in stderr
    assert "in handle" in stderr


@pytest.mark.parametrize(
    ("act", "message"),
    [
        ("exit", "the process of this job ended by itself, with code 3"),
        ("killed", "the process of this job was ended by SIGKILL"),
        ("close", "the process of this job"),
    ],
)
async def test_a_job_that_ends_its_process_is_tried_again_and_fails_in_the_end(
    open_store: Opened, tmp_path: Path, act: str, message: str
) -> None:
    async with bench(open_store, tmp_path) as at:
        job = await at.job(act)
        assert await at.run(job) == "retried"
        name = f"evaluation {str(job.id)[-8:]}"
        assert at.lines[0] == f"{name} starts"
        assert at.lines[1].startswith(f"{name} waits again after ")
        row = await at.row(job)
        assert (row.status, row.attempts) == ("queued", 1)
        assert f"attempt 2 of 2: {message}" in row.waiting
        assert await at.run(job) == "failed"
        error = (await at.row(job)).error
        assert (error["code"], error["message"].startswith(message)) == ("worker_lost", True)


@pytest.mark.parametrize("act", ["compute", "deaf", "wait"])
@pytest.mark.parametrize("status", ["cancelled", "paused"])
async def test_a_job_that_is_stopped_leaves_within_its_grace_whatever_its_code_does(
    open_store: Opened, tmp_path: Path, act: str, status: str
) -> None:
    async with bench(open_store, tmp_path) as at:
        job = await at.job(act)
        run = asyncio.create_task(at.run(job))
        pid = await at.until_at_work(job)
        await at.store.write(Update(resource=EVALUATION, id=job.id, values={"status": status}))
        await at.processes.watch()
        async with asyncio.timeout(20):
            assert await run == "stopped"
        await wait_until_ended(pid, 20)
        assert (await at.row(job)).status == status


async def test_a_job_that_is_requeued_starts_again_after_its_last_turn_has_ended(
    open_store: Opened, tmp_path: Path
) -> None:
    async with bench(open_store, tmp_path) as at:
        job = await at.job("deaf")
        run = asyncio.create_task(at.run(job))
        await at.until_at_work(job)
        values = {"status": EVALUATION.step("requeue", "running"), "metrics": ["quick"]}
        change = Update(resource=EVALUATION, id=job.id, values=values, increments={"turn": 1})
        await at.store.write(change)
        assert await at.run(job) == "refused"  # the last turn still runs here
        assert (await at.row(job)).turn == 2
        await at.processes.watch()
        async with asyncio.timeout(20):
            assert await run == "stopped"
            assert await at.run(job) == "completed"


@pytest.mark.parametrize("act", ["compute", "deaf", "wait"])
async def test_a_worker_that_stops_hands_back_also_what_does_not_leave(
    open_store: Opened, tmp_path: Path, act: str
) -> None:
    async with bench(open_store, tmp_path) as at:
        job, later = await at.job(act), await at.job("quick")
        run = asyncio.create_task(at.run(job))
        await at.until_at_work(job)
        async with asyncio.timeout(20):
            await at.processes.hand_back()
        await run
        row = await at.row(job)
        assert (row.status, row.turn, row.attempts) == ("queued", 1, 0)
        assert row.waiting == "handed back by a worker that stopped"
        assert await at.run(later) == "refused"
        assert (await at.row(later)).turn == 1


async def test_a_job_that_runs_for_too_long_fails_with_the_setting_that_says_so(
    open_store: Opened, tmp_path: Path
) -> None:
    async with bench(open_store, tmp_path, replace(POLICY, longest_run=0.2)) as at:
        job = await at.job("wait")
        assert await at.run(job) == "failed"
        error = (await at.row(job)).error
        assert (error["code"], "DSPEX_JOB_SECONDS" in error["message"]) == ("deadline", True)


async def test_a_job_for_which_no_process_starts_waits_for_a_better_time(
    open_store: Opened, tmp_path: Path
) -> None:
    async with bench(open_store, tmp_path) as at:
        for start in (_refuse, _end_at_once):
            job = await at.job("quick")
            clock = SystemClock()
            rows = JobRows(at.store, policy=POLICY, clock=clock, new_id=new_id, worker="me")
            processes = JobProcesses(rows, start=start, policy=POLICY, clock=clock, worker="me")
            await processes.warm()
            assert await processes.run("evaluation", job.id, 0) == "refused"
            row = await at.row(job)
            assert (row.status, row.turn, row.attempts) == ("queued", 1, 0)
            assert row.retry_at is not None
            await processes.abandon()


async def _refuse() -> JobProcess:
    raise OSError("no process can be made")


async def _end_at_once() -> JobProcess:
    return await JobProcess.start(
        lambda _channel: [sys.executable, "-c", ""], environment=ENVIRONMENT, mark="test"
    )
