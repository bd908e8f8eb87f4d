"""Who counts as dead, and what becomes of the jobs of those who do."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from dspex.bootstrap import new_id
from dspex.clock import SystemClock
from dspex.errors import StorageError
from dspex.operations.domain import DOMAIN, QUEUES
from dspex.operations.framework.store import Insert, Store, Update
from dspex.operations.jobs import (
    JobPolicy,
    OrphanSweeper,
    QueuedJobs,
    WorkerRegistry,
    orphan_sweeper,
)
from dspex.operations.jobs.job import JobRecord
from dspex.operations.jobs.worker_registry import new_worker_row
from dspex.testing import FakeClock
from tests.operations.jobs.conftest import Opened
from tests.operations.jobs.rows import a_job

EVALUATION, WORKER = DOMAIN["evaluation"], DOMAIN["job_worker"]
POLICY = JobPolicy(queues=QUEUES, deaths=2)


async def a_worker(store: Store, code: tuple[str, str] = ("", "")) -> Any:
    row = new_worker_row(
        new_id(), clock=SystemClock(), host="here", pid=1, queues=["evaluation"], code=lambda: code
    )
    await store.write(Insert(row))
    return row


async def status(store: Store, worker: Any) -> str:
    row = await store.get(WORKER, id=worker.id)
    assert row is not None
    return row.status


async def test_a_worker_that_stands_still_for_two_seconds_of_watching_is_dead(
    open_store: Opened,
) -> None:
    async with open_store() as store:
        silent, lively, me = [await a_worker(store) for _ in range(3)]
        clock = FakeClock()
        mine = WorkerRegistry(store, policy=POLICY, clock=clock, me=me.id)
        registry = WorkerRegistry(store, policy=POLICY, clock=SystemClock(), me=lively.id)
        for _ in range(4):
            assert await mine.tick()
            assert await registry.tick()
            await clock.advance(0.5)
            assert await status(store, silent) == "alive"
        await mine.tick()
        assert [await status(store, worker) for worker in (silent, lively, me)] == [
            "dead",
            "alive",
            "alive",
        ]
        await mine.tick()
        assert silent.id not in mine.alive
        assert not await WorkerRegistry(store, policy=POLICY, clock=clock, me=silent.id).tick()


async def test_time_in_which_nobody_could_look_does_not_count(open_store: Opened) -> None:
    async with open_store() as store:
        silent = await a_worker(store)
        clock = FakeClock()
        registry = WorkerRegistry(store, policy=POLICY, clock=clock)
        await registry.tick()
        await clock.advance(3600)  # this process was stopped, or the database was away
        await registry.tick()
        assert await status(store, silent) == "alive"


@pytest.mark.parametrize(
    ("wait", "is_due"), [(-1, True), (0, True), (5, False), (60, False), (3600, True)]
)
async def test_a_job_waits_for_its_retry_but_not_for_a_clock_that_was_ahead(
    open_store: Opened, wait: float, *, is_due: bool
) -> None:
    noted: list[object] = []

    async def note(_channel: str, job: JobRecord) -> None:
        noted.append(job.id)

    async with open_store() as store:
        clock = FakeClock()
        job = await a_job(store, retry_at=clock.now() + timedelta(seconds=wait))
        assert await OrphanSweeper(
            store, policy=POLICY, clock=clock, new_id=new_id, add_ticket=note
        ).tick()
        assert noted == ([job.id] if is_due else [])


async def test_jobs_that_nobody_can_run_keep_no_later_one_waiting(
    open_store: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orphan_sweeper, "_AT_ONCE", 2)

    noted: list[object] = []

    async def note(_channel: str, job: JobRecord) -> None:
        noted.append(job.id)

    async with open_store() as store:
        first = await a_job(store, needs={"code": "elsewhere", "revision": "1"})
        program = await store.get(DOMAIN["program"], id=first.program_id)
        for _ in range(3):
            await a_job(store, program=program, needs=first.needs)
        last = await a_job(store, program=program)
        sweeping = OrphanSweeper(
            store, policy=POLICY, clock=SystemClock(), new_id=new_id, add_ticket=note
        )
        assert await sweeping.tick()
        assert noted == [last.id]


async def test_jobs_of_the_dead_are_queued_again_until_they_look_like_murderers(
    open_store: Opened,
) -> None:
    async with open_store() as store:
        worker = await a_worker(store)
        noted: list[tuple[str, int]] = []

        async def note(channel: str, job: Any) -> None:
            noted.append((channel, job.turn))

        sweeper = OrphanSweeper(
            store, policy=POLICY, clock=SystemClock(), new_id=new_id, add_ticket=note
        )
        job = await a_job(store)
        running = {"status": "running", "worker": str(worker.id), "attempts": 1}
        await store.write(Update(resource=EVALUATION, id=job.id, values=running))
        assert await sweeper.tick()
        row = await store.get(EVALUATION, id=job.id)
        assert row is not None
        assert (row.status, row.turn) == ("running", 0)
        await store.write(Update(resource=WORKER, id=worker.id, values={"status": "dead"}))
        await asyncio.gather(sweeper.tick(), sweeper.tick())  # two survivors at once
        row = await store.get(EVALUATION, id=job.id)
        assert row is not None
        assert (row.status, row.turn, row.waiting) == (
            "queued",
            1,
            "its worker is gone; it goes on where it was",
        )
        await sweeper.tick()
        assert noted[-1] == ("evaluation", 1)
        await store.write(Update(resource=EVALUATION, id=job.id, values={**running, "attempts": 2}))
        await sweeper.tick()
        row = await store.get(EVALUATION, id=job.id)
        assert row is not None
        assert row.status == "failed"
        assert row.error is not None
        assert "2 workers died" in row.error["message"]
        assert not await sweeper.tick()


async def test_what_waits_says_for_whom(open_store: Opened) -> None:
    async with open_store() as store:
        engine = QueuedJobs(store, policy=POLICY, clock=SystemClock(), new_id=new_id)

        async def waiting(needs: dict[str, Any]) -> str | None:
            job = await a_job(store, needs=needs)
            await engine.enqueue(EVALUATION, job.id)
            row = await store.get(EVALUATION, id=job.id)
            assert row is not None
            return row.waiting

        coded = {"code": "default", "revision": "abc"}
        assert await waiting({}) == "no worker is running; start one with `dspex worker start`"
        engine.starts_worker = True  # the reason stays true in the row when the server has stopped
        of_server = (
            "waiting for the server's worker; without a server, start one with `dspex worker start`"
        )
        assert await waiting({}) == of_server
        assert await waiting(coded) == of_server
        engine.starts_worker = False
        await a_worker(store, ("default", "xyz"))
        assert await waiting({}) is None
        assert await waiting(coded) == "no worker with default@abc"
        await a_worker(store, ("default", "abc"))
        assert await waiting(coded) is None


async def test_a_job_that_waits_for_its_next_attempt_is_not_handed_out(open_store: Opened) -> None:
    async with open_store() as store:
        noted: list[int] = []

        async def note(_channel: str, job: Any) -> None:
            noted.append(job.turn)

        await a_worker(store)
        now = SystemClock().now()
        job = await a_job(store, retry_at=now + timedelta(minutes=1), waiting="retry in a minute")
        sweeper = OrphanSweeper(
            store, policy=POLICY, clock=SystemClock(), new_id=new_id, add_ticket=note
        )
        await sweeper.tick()
        assert noted == []
        await store.write(Update(resource=EVALUATION, id=job.id, values={"retry_at": now}))
        await sweeper.tick()
        assert noted == [0]


async def test_a_survey_without_a_database_decides_nothing(open_store: Opened) -> None:
    class Away:
        def __init__(self, store: Any) -> None:
            self.store, self.is_away = store, False

        def __getattr__(self, name: str) -> Any:
            if self.is_away:
                raise StorageError("away")
            return getattr(self.store, name)

    async with open_store() as store:
        silent, clock, between = await a_worker(store), FakeClock(), Away(store)
        registry = WorkerRegistry(between, policy=POLICY, clock=clock)
        for away in (False, True, True, False):
            between.is_away = away
            await clock.advance(10)
            try:
                await registry.tick()
            except StorageError:
                assert away
        assert await status(store, silent) == "alive"
