"""What ended jobs leave in the database: the protocol `Leftovers`."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from dspex.operations.events.records import EVENT
from dspex.operations.framework.domain import Domain
from dspex.operations.framework.resource import Resource
from dspex.operations.jobs.job import JobResource
from dspex.operations.jobs.records import JOB_WORKER
from dspex.operations.storage.database import Database
from dspex.operations.storage.tables import ENTRIES, tables_of
from dspex.sync import unbroken

PORTION = 200
_ENDED = ("completed", "failed", "cancelled")
_GONE = ("stopped", "dead")


class SQLLeftovers:
    """Deletes in portions, between which others can write; see `Leftovers`."""

    def __init__(self, database: Database, domain: Domain) -> None:
        """Take the database, which its owner closes, and its domain."""
        self._database = database
        self._tables = tables_of(domain)
        self._kinds = [kind for kind in domain.values() if isinstance(kind, JobResource)]

    async def forget_journals(self, resource: Resource[Any], *, before: datetime) -> int:
        """Delete journals, with the rows of the jobs locked: nobody can resume one meanwhile."""
        jobs = self._tables[resource.name]
        has_journal = sa.exists().where(ENTRIES.c.job_id == jobs.c.id)
        old = sa.select(jobs.c.id).where(
            jobs.c.status.in_(_ENDED), jobs.c.finished_at < before, has_journal
        )
        return await self._portions(old.limit(PORTION).with_for_update(), ENTRIES.c.job_id)

    async def forget_lost_journals(self) -> int:
        """Delete journals; a new job is safe, because its row is written before its journal."""
        tables = [self._tables[kind.name] for kind in self._kinds]
        without_job = [~sa.exists().where(table.c.id == ENTRIES.c.job_id) for table in tables]
        return await self._portions(
            sa.select(ENTRIES.c.job_id).distinct().where(*without_job).limit(PORTION),
            ENTRIES.c.job_id,
        )

    async def forget_events(self, resource: Resource[Any], topic: str, *, before: datetime) -> int:
        """Delete events, with the rows of the jobs locked, as for journals."""
        jobs, events = self._tables[resource.name], self._tables[EVENT.name]
        has_events = sa.exists().where(events.c.subject_id == jobs.c.id, events.c.topic == topic)
        old = sa.select(jobs.c.id).where(
            jobs.c.status.in_(_ENDED), jobs.c.finished_at < before, has_events
        )
        return await self._portions(old.limit(PORTION).with_for_update(), events.c.subject_id)

    async def forget_workers(self, *, before: datetime) -> int:
        """Delete rows of workers."""
        workers = self._tables[JOB_WORKER.name]
        old = sa.select(workers.c.id).where(
            workers.c.status.in_(_GONE), workers.c.updated_at < before
        )
        return await self._portions(old.limit(PORTION).with_for_update(), workers.c.id)

    async def _portions(self, old: sa.Select[Any], key: sa.Column[Any]) -> int:
        total = 0
        while True:
            deleted = await unbroken(self._portion(old, key))
            total += deleted
            if deleted < PORTION:
                return total

    async def _portion(self, old: sa.Select[Any], key: sa.Column[Any]) -> int:
        async with self._database.writing() as connection:
            keys = (await connection.execute(old)).scalars().all()
            if keys:
                await connection.execute(key.table.delete().where(key.in_(keys)))
        return len(keys)
