"""What ended jobs have left goes after a while; what is unfinished keeps everything."""

import dataclasses
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dspex.bootstrap import new_id
from dspex.operations.domain import DOMAIN, QUEUES
from dspex.operations.framework.store import Update
from dspex.operations.jobs.inputs import JobRef
from dspex.operations.jobs.leftovers import EVERY, LeftoverCleaner
from dspex.operations.storage import SQLJournal
from dspex.settings import Settings
from dspex.testing import FakeClock
from tests.operations.jobs.test_workers import World, journal, world
from tests.support.waiting import eventually

pytestmark = pytest.mark.full
LONG_AGO = datetime.now(UTC) - timedelta(days=40)
ENTRY: Any = {"kind": "answer", "key": "a", "answer": {"text": "kept"}}


async def noted(at: World, **values: Any) -> Any:
    """A job with a journal, whose row is then as it is given."""
    job = await at.job()
    await SQLJournal(at.services.data, job.id).append(ENTRY)
    await at.store.write(Update(resource=DOMAIN["evaluation"], id=job.id, values=values))
    return job


def tickets(at: World) -> str:
    return "workflow_status" if at.services.data.is_sqlite else "dbos.workflow_status"


async def aged(at: World, *jobs: Any) -> None:
    """Make these jobs, all workers that are gone and all tickets 40 days old."""
    changes = [
        Update(resource=DOMAIN["evaluation"], id=job.id, values={"finished_at": LONG_AGO})
        for job in jobs
    ]
    workers = await at.workers("stopped")
    changes += [
        Update(resource=DOMAIN["job_worker"], id=row.id, values={"updated_at": LONG_AGO})
        for row in workers
    ]
    await at.store.write(*changes)
    async with at.services.data.writing() as connection:
        moment = int(LONG_AGO.timestamp() * 1000)
        await connection.execute(sa.text(f"UPDATE {tickets(at)} SET created_at = {moment}"))  # noqa: S608


async def count(at: World) -> int:
    async with at.services.data.reading() as connection:
        return int(
            (await connection.execute(sa.text(f"SELECT count(*) FROM {tickets(at)}"))).scalar() or 0  # noqa: S608
        )


async def test_a_worker_deletes_what_old_jobs_left_and_nothing_of_unfinished_ones(
    on_each_database: Settings, tmp_path: Path
) -> None:
    async with world(on_each_database, tmp_path, seconds=0.0) as at:
        paused = await noted(at, status="paused")
        failed = await noted(at, status="failed", finished_at=datetime.now(UTC))
        old = await noted(at, status="failed")
        removed = dataclasses.replace(old, id=new_id())
        # of a job whose row was deleted
        await SQLJournal(at.services.data, removed.id).append(ENTRY)
        completed = await at.job()
        with at.worker() as worker:
            await at.until_status(completed, "completed")
            assert worker.stop() == 0
        assert len(await journal(at, completed)) >= 20
        await aged(at, old, completed)
        assert await count(at) == 1
        with at.worker(DSPEX_KEEP_JOB_DAYS="30"):

            async def is_clean() -> bool:
                rows = [
                    *await journal(at, old),
                    *await journal(at, completed),
                    *await at.workers("stopped"),
                ]
                rows += [
                    *await at.statuses(old),
                    *await at.statuses(completed),
                    *await journal(at, removed),
                ]
                return not rows and not await count(at)

            await eventually(is_clean)
            assert [await journal(at, job) for job in (paused, failed)] == [[ENTRY], [ENTRY]]
            assert [await at.statuses(job) for job in (paused, failed)] == [
                ["queued"],
                ["queued"],
            ]
            row = await at.row(completed)
            assert (row.status, len(row.rows)) == ("completed", 20)
            await at.act("resume_evaluation", JobRef(id=paused.id))
            await at.until_status(paused, "completed")
            assert (await journal(at, paused))[0] == ENTRY


class Counted:
    """Leftovers that count how often they are asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, datetime]] = []

    async def forget_journals(self, resource: Any, *, before: datetime) -> int:
        self.asked.append((resource.name, before))
        return 1

    async def forget_lost_journals(self) -> int:
        return 1

    async def forget_events(self, resource: Any, topic: str, *, before: datetime) -> int:
        self.asked.append((topic, before))
        return 1

    async def forget_workers(self, *, before: datetime) -> int:
        self.asked.append(("worker", before))
        return 1

    async def spent(self, before: datetime) -> int:
        self.asked.append(("ticket", before))
        return 1


async def test_it_is_looked_for_once_an_hour_and_never_with_nought_days() -> None:
    clock, counted = FakeClock(), Counted()
    off = LeftoverCleaner(counted, queues=QUEUES, clock=clock, days=0, forget_tickets=counted.spent)
    on = LeftoverCleaner(counted, queues=QUEUES, clock=clock, days=30, forget_tickets=counted.spent)
    assert (await off.tick(), counted.asked) == (0, [])
    total = 3 + 2 * len(QUEUES)  # tickets, workers, lost journals; journals and events of each kind
    assert (await on.tick(), await on.tick()) == (total, 0)
    assert {before for _, before in counted.asked} == {clock.now() - timedelta(days=30)}
    names = [name for name, _ in counted.asked]
    assert names[:2] == ["ticket", "worker"]
    jobs = {*QUEUES, *(resource.name for resource in QUEUES.values())}
    assert set(names[2:]) == jobs, names
    await clock.advance(EVERY)
    assert await on.tick() == total
