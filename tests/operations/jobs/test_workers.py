"""Real worker processes on real databases.

Killed, stopped and continued, full, and asked to leave.
"""

import asyncio
import dataclasses
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa

from dspex.bootstrap import Services, open_services
from dspex.clock import SystemClock
from dspex.execution.clients import Request, Response
from dspex.execution.modules import CodeRoot
from dspex.operations.domain import DOMAIN, QUEUES
from dspex.operations.evaluations.inputs import CreateEvaluation
from dspex.operations.framework.store import Query
from dspex.operations.jobs import JobPolicy
from dspex.operations.jobs.inputs import JobRef
from dspex.operations.jobs.policy import channel_of
from dspex.operations.jobs.tickets import Tickets, make_engine
from dspex.operations.storage import SQLJournal
from dspex.settings import Secret, Settings
from dspex.testing import SimulatedModel
from dspex.testing.model_server import ModelServer
from dspex.testing.postgres import PostgresServer
from dspex.testing.processes import process_tree, signal_process_tree
from tests.operations.jobs.rows import a_dataset, a_program
from tests.support.postgres import migrated
from tests.support.waiting import Child, eventually

pytestmark = pytest.mark.full
ROWS = [{"question": f"question {n}", "answer": f"answer {n}"} for n in range(20)]


class Slow(SimulatedModel):
    """Answers after a while, while `gate` is open, and counts who asked what, how many at once."""

    def __init__(self, seconds: float = 0.05) -> None:
        super().__init__()
        self.seconds = seconds
        self.asked: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.open = self.most = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def complete(self, request: Request) -> Response:
        question = request.messages[-1].text
        self.asked[question] += 1
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            await self.gate.wait()
            await SystemClock().sleep(self.seconds)
            answer = await super().complete(request)
        finally:
            self.open -= 1
        self.answered[question] += 1
        return answer


@dataclasses.dataclass
class World:
    services: Services
    model: Slow
    folder: Path
    settings: Settings

    @property
    def store(self) -> Any:
        return self.services.operations.dependencies.store

    async def act(self, name: str, request: Any) -> Any:
        action = next(action for action in DOMAIN.actions if action.name == name)
        return await self.services.operations.perform(action, request)

    async def job(self, *, concurrency: int = 1, metric: str = "exact_match") -> Any:
        configuration = {"concurrency": concurrency}
        input = CreateEvaluation(
            program="qa", dataset="questions", metrics=[metric], configuration=configuration
        )
        return await self.act("create_evaluation", input)

    async def row(self, job: Any) -> Any:
        return await self.store.get(DOMAIN["evaluation"], id=job.id)

    async def until_status(self, job: Any, *statuses: str) -> Any:
        async def reached() -> Any:
            row = await self.row(job)
            return row if row.status in statuses else None

        try:
            return await eventually(reached)
        except TimeoutError:
            row = await self.row(job)
            raise AssertionError(
                f"the job is {row.status} (turn {row.turn}, attempts {row.attempts}, waiting: "
                f"{row.waiting}, worker {row.worker}), its events: {await self.statuses(job)}, "
                f"alive: {await self.workers()}, {sum(self.model.answered.values())} answers"
            ) from None

    async def workers(self, status: str = "alive") -> list[Any]:
        return list(await self.store.select(DOMAIN["job_worker"], Query(where={"status": status})))

    async def until_workers(self, count: int) -> None:
        async def are() -> bool:
            return len(await self.workers()) == count

        await eventually(are)

    async def holder(self, job: Any) -> Any:
        """The worker row that has the job."""
        row = await self.row(job)
        return next(worker for worker in await self.workers() if str(worker.id) == row.worker)

    async def statuses(self, job: Any) -> list[str]:
        query = Query(where={"subject_id": job.id}, oldest_first=True, limit=500)
        values = [
            event.payload["status"] for event in await self.store.select(DOMAIN["event"], query)
        ]
        return [
            status
            for number, status in enumerate(values)
            if number == 0 or values[number - 1] != status
        ]

    @contextmanager
    def worker(self, **extra: str) -> Iterator[Child]:
        env = {
            name: value for name, value in os.environ.items() if not name.startswith("DSPEX_")
        } | extra
        if self.settings.database_url is not None:
            env["DSPEX_DATABASE_URL"] = self.settings.database_url.reveal()
        command = [
            sys.executable,
            "-m",
            "dspex",
            "worker",
            "start",
            "--state-dir",
            str(self.settings.state_dir),
        ]
        with Child(command, cwd=self.folder, env=env) as child:
            yield child


@asynccontextmanager
async def world(settings: Settings, folder: Path, *, seconds: float = 0.05) -> AsyncIterator[World]:
    model = Slow(seconds)
    async with (
        ModelServer({"m": model}) as server,
        open_services(settings, code=CodeRoot(folder)) as services,
    ):
        store = services.operations.dependencies.store
        await a_program(store, backend="native", model=f"{server.url}#m")
        await a_dataset(store, ROWS)
        yield World(services, model, folder, settings)


async def journal(at: World, job: Any) -> list[Any]:
    return list(await SQLJournal(at.services.data, job.id).entries())


async def test_survivors_take_the_jobs_of_the_dead_and_of_the_stopped(
    on_each_database: Settings, tmp_path: Path
) -> None:
    """A killed worker, then one that is stopped and goes on later.

    Each answer is requested and stored once.
    """

    async with world(on_each_database, tmp_path) as at:
        with ExitStack() as stack:
            children = [stack.enter_context(at.worker()) for _ in range(3)]
            await at.until_workers(3)
            job = await at.job()

            async def has_begun() -> bool:
                return len(at.model.answered) >= 5

            await eventually(has_begun)
            os.kill((await at.holder(job)).pid, signal.SIGKILL)
            killed = len(at.model.answered)

            async def goes_on() -> bool:
                return len(at.model.answered) >= killed + 4

            await eventually(goes_on)
            stopped = await at.holder(job)
            signal_process_tree(stopped.pid, signal.SIGSTOP)
            # a process that is stopped while it holds SQLite's lock lets nobody write before it
            # goes on
            asyncio.get_running_loop().call_later(
                6.0, signal_process_tree, stopped.pid, signal.SIGCONT
            )
            row = await at.until_status(job, "completed")

            async def lives_anew() -> bool:
                return any(worker.pid == stopped.pid for worker in await at.workers())

            await eventually(lives_anew)
            assert row.attempts == 3
            assert len(row.rows) == 20
            assert await at.statuses(job) == [
                "queued",
                "running",
                "queued",
                "running",
                "queued",
                "running",
                "completed",
            ]
            entries = await journal(at, job)
            assert sorted(entry["index"] for entry in entries if entry["kind"] == "row") == list(
                range(20)
            )
            assert len({entry["key"] for entry in entries if entry["kind"] == "answer"}) == 20
            assert sum(entry["kind"] == "answer" for entry in entries) == 20
            # what was under way at the kill and at the stop
            assert sum(at.model.asked.values()) <= 22
            dead = await at.workers("dead")
            assert {worker.pid for worker in dead} == {
                child.process.pid for child in children if child.process.poll() is not None
            } | {stopped.pid}


async def test_a_job_is_paused_resumed_handed_back_and_cancelled_from_another_process(
    on_each_database: Settings, tmp_path: Path
) -> None:
    async with world(on_each_database, tmp_path, seconds=0.1) as at:
        job = await at.job()
        assert (
            await at.row(job)
        ).waiting == "no worker is running; start one with `dspex worker start`"
        with at.worker() as first:
            await at.until_status(job, "running")

            async def asks() -> bool:
                return at.model.open > 0

            async def is_silent() -> bool:
                return at.model.open == 0

            await eventually(asks)
            await at.act("pause_evaluation", JobRef(id=job.id))
            await eventually(is_silent, within=1.0)
            paused = sum(at.model.asked.values())
            await at.act("resume_evaluation", JobRef(id=job.id))
            await at.until_status(job, "running")
            await eventually(asks)
            requeued = await at.act("requeue_evaluation", JobRef(id=job.id))
            assert (requeued.status, requeued.attempts) == ("queued", 0)
            await at.until_status(job, "running")
            await eventually(asks)
            assert first.stop(within=15) == 0
            row = await at.row(job)
            assert (row.status, row.waiting) == (
                "queued",
                "handed back by a worker that stopped",
            )
            assert [worker.status for worker in await at.workers("stopped")] == ["stopped"]
        with at.worker():
            row = await at.until_status(job, "completed")
            assert len(row.rows) == 20
            assert sum(at.model.asked.values()) <= 23  # the pause, the requeue and the stop
            assert paused < 20
            second = await at.job()
            at.model.seconds = 60.0
            await at.until_status(second, "running")
            await eventually(asks)
            await at.act("cancel_evaluation", JobRef(id=second.id))
            await eventually(is_silent, within=1.0)
            assert (await at.row(second)).status == "cancelled"


async def test_a_job_runs_whose_ticket_was_with_a_worker_that_a_server_declared_dead(
    on_each_database: Settings, tmp_path: Path
) -> None:
    """It died before the job began, and whoever declares it dead has no tickets to discard."""

    async def run(_queue: str, _job_id: UUID, _turn: int) -> str:
        return "completed"

    async with world(on_each_database, tmp_path, seconds=0) as at:
        job = await at.row(await at.job(concurrency=4))
        url, channel = at.services.data.url, channel_of("evaluation", job.needs)
        policy = JobPolicy(queues=QUEUES)
        loop = asyncio.get_running_loop()
        tickets = Tickets(url, executor="other", run=run, loop=loop, policy=policy)
        await asyncio.to_thread(tickets.start, [(channel, "evaluation")])
        await asyncio.to_thread(tickets.add, channel, job.id, job.turn)
        assert await asyncio.to_thread(tickets.find_holders) == set()
        engine = make_engine(url)
        table = "workflow_status" if engine.name == "sqlite" else "dbos.workflow_status"
        with engine.begin() as connection:
            connection.execute(
                sa.text(f"UPDATE {table} SET status = 'PENDING', executor_id = 'dead'")  # noqa: S608
            )
        engine.dispose()
        assert await asyncio.to_thread(tickets.find_holders) == {"dead"}
        await asyncio.to_thread(tickets.stop)
        with at.worker():
            await at.until_status(job, "completed")


IDLE = """import asyncio
import sys
from pathlib import Path

from dspex.bootstrap import jobs
from dspex.operations.domain import QUEUES
from dspex.operations.jobs import JobPolicy
from dspex.settings import read_settings


class ReportingWorker(jobs.JobWorker):
    async def _heal(self, life):
        await super()._heal(life)
        print("looked for lost tickets", flush=True)


jobs.JobWorker = ReportingWorker
jobs.job_policy = lambda _settings: JobPolicy(queues=QUEUES, poll=0.01)
settings = read_settings(flags={"state_dir": Path(sys.argv[1])})


async def main():
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(15, stopping.set)
    await jobs.run_worker(settings, code=None, stopping=stopping, say=print)


asyncio.run(main())
"""


async def test_a_worker_with_nothing_to_do_lives_on_beyond_its_looks_for_lost_tickets(
    on_each_database: Settings, tmp_path: Path
) -> None:
    """Before its first job, and behind one whose ticket is spent."""
    (tmp_path / "idle.py").write_text(IDLE)

    async with world(on_each_database, tmp_path, seconds=0) as at:
        env = {name: value for name, value in os.environ.items() if not name.startswith("DSPEX_")}
        if at.settings.database_url is not None:
            env["DSPEX_DATABASE_URL"] = at.settings.database_url.reveal()
        command = [sys.executable, "idle.py", str(at.settings.state_dir)]
        with Child(command, cwd=tmp_path, env=env) as child:
            for _ in range(2):
                for _ in range(2):
                    await asyncio.to_thread(child.wait_for_line, "looked for lost tickets")
                job = await at.job(concurrency=4)
                await at.until_status(job, "completed")
            assert await asyncio.to_thread(child.stop) == 0
            assert not any("Traceback" in line for line in child.seen)


METRICS = """import re


def stuck(example, prediction):
    print("computing", flush=True)
    re.match("(a|aa)+$", "a" * 60 + "b")  # lets nothing else of its process run


def better(example, prediction):
    return 1.0
"""


@pytest.mark.parametrize("end", ["stall", "cancel", "stop"])
async def test_a_job_whose_metric_blocks_is_ended_and_keeps_no_other_from_running(
    on_each_database: Settings, tmp_path: Path, end: str
) -> None:
    """By the worker itself, by a cancellation, by the end of the worker.

    Meanwhile it takes another job.
    """
    (tmp_path / "scores.py").write_text(METRICS)

    async with world(on_each_database, tmp_path, seconds=0) as at:
        extra = {"DSPEX_JOB_STALL_SECONDS": "12" if end == "stall" else "0"}
        with at.worker(**extra) as worker:
            stuck = await at.job(metric="scores:stuck")
            await asyncio.to_thread(worker.wait_for_line, "computing")
            await at.until_status(await at.job(), "completed")
            (row,) = await at.workers()
            if end == "stall":
                row = await at.until_status(stuck, "failed")
                assert row.error["code"] == "worker_stalled"
                await asyncio.to_thread(worker.wait_for_line, "scores.py")  # where it stood
            elif end == "cancel":
                await at.act("cancel_evaluation", JobRef(id=stuck.id))

                async def is_quiet() -> bool:
                    # the watchdog, and one process that waits for a job
                    return len(process_tree(row.pid)) <= 3

                await eventually(is_quiet, within=20)
            else:
                assert await asyncio.to_thread(worker.stop, within=40) == 0
                row = await at.row(stuck)
                assert (row.status, row.waiting) == (
                    "queued",
                    "handed back by a worker that stopped",
                )
                return
            await at.until_status(await at.job(), "completed")
            assert len(await at.workers()) == 1
            assert await asyncio.to_thread(worker.stop) == 0


async def test_a_worker_whose_code_changes_begins_anew_with_the_new_code(tmp_path: Path) -> None:
    (tmp_path / "scores.py").write_text(METRICS)

    async with world(Settings(state_dir=tmp_path / "state"), tmp_path, seconds=0) as at:
        with at.worker() as worker:
            first = await at.job(metric="scores:better")
            assert (await at.until_status(first, "completed")).mean == 1.0
            (tmp_path / "scores.py").write_text(METRICS.replace("1.0", "0.5"))
            old = await at.job(metric="scores:better")
            assert old.needs != first.needs
            assert (await at.until_status(old, "completed")).mean == 0.5
            assert await asyncio.to_thread(worker.stop) == 0


async def test_limits_hold_and_what_waits_says_why(
    on_each_database: Settings, tmp_path: Path
) -> None:
    async with world(on_each_database, tmp_path, seconds=0.1) as at:
        extra = {"DSPEX_JOB_CONCURRENCY": "2", "DSPEX_EVALUATION_LIMIT": "3"}
        jobs = [await at.job() for _ in range(9)]
        stranger = await at.job()
        needs = {"code": "default", "revision": "not-here"}
        await at.store.write(_needing(stranger, needs))
        reasons: set[str] = set()
        running: list[int] = []
        with at.worker(**extra), at.worker(**extra):

            async def all_done() -> bool:
                query = Query(where={"id": tuple(job.id for job in jobs)})
                rows = await at.store.select(DOMAIN["evaluation"], query)
                reasons.update(str(row.waiting) for row in rows if row.status == "queued")
                running.append(sum(row.status == "running" for row in rows))
                return all(row.status == "completed" for row in rows)

            await eventually(all_done, within=60)
            assert max(running) == 3
            assert at.model.most <= 3
            assert "queue 'evaluation' is full: 3 of 3 run" in reasons
            row = await at.row(stranger)
            assert (row.status, row.waiting) == ("queued", "no worker with default@not-here")


def _needing(job: Any, needs: dict[str, str]) -> Any:
    from dspex.operations.framework.store import Update

    return Update(resource=DOMAIN["evaluation"], id=job.id, values={"needs": needs})


def test_a_worker_is_stopped_also_while_its_database_is_away(tmp_path: Path) -> None:
    with PostgresServer() as server:
        url = server.url(server.make())
        migrated(url)
        env = {name: value for name, value in os.environ.items() if not name.startswith("DSPEX_")}
        command = [
            sys.executable,
            "-m",
            "dspex",
            "worker",
            "start",
            "--state-dir",
            str(tmp_path / "state"),
        ]
        with Child(command, cwd=tmp_path, env=env | {"DSPEX_DATABASE_URL": url}) as worker:
            worker.wait_for_line("takes jobs")
            server.stop()
            worker.wait_for_line("no server answers there")
            assert worker.stop(within=40) == 0
        server.start()


async def test_a_worker_is_stopped_with_a_job_while_its_database_is_away_and_another_goes_on(
    tmp_path: Path,
) -> None:
    with PostgresServer() as server:
        url = server.url(server.make())
        migrated(url)

        settings = Settings(state_dir=tmp_path / "state", database_url=Secret(url))
        async with world(settings, tmp_path, seconds=0.05) as at:
            job = await at.job()
            with at.worker() as worker:
                await at.until_status(job, "running")
                await asyncio.to_thread(server.stop)
                await asyncio.to_thread(worker.wait_for_line, "no server answers there")
                assert await asyncio.to_thread(worker.stop, within=40) == 0
            await asyncio.to_thread(server.start)
            with at.worker():
                row = await at.until_status(job, "completed")
            assert len(row.rows) == 20
            entries = [entry["index"] for entry in await journal(at, job) if entry["kind"] == "row"]
            assert sorted(entries) == list(range(20))
