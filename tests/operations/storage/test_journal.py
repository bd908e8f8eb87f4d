"""The journal of a job in the database fulfils the contract of journals.

It also refuses entries from an outdated turn of the job.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import pytest

from dspex.bootstrap import database_of
from dspex.errors import ConflictError
from dspex.learning.optimizers import Journal
from dspex.operations.domain import DOMAIN, QUEUES
from dspex.operations.framework.store import Update
from dspex.operations.storage import Database, SQLJournal, SQLStore, migrate
from dspex.settings import Settings
from dspex.testing.journals import JournalContract
from tests.operations.jobs.rows import a_job

JOB = UUID(int=7)


class TestSQLJournal(JournalContract):
    @pytest.fixture(autouse=True)
    def _file(self, tmp_path: Path) -> None:
        self.file = tmp_path / "dspex.sqlite3"

    @asynccontextmanager
    async def open_journal(self) -> AsyncIterator[Journal]:
        database = Database.embedded(self.file)
        try:
            await migrate(database)
            yield SQLJournal(database, JOB)
        finally:
            await database.aclose()


async def test_an_outdated_turn_of_a_job_adds_nothing(on_each_database: Settings) -> None:
    database = database_of(on_each_database)
    await migrate(database)
    store = SQLStore(database, DOMAIN)
    job = await a_job(store)
    first = SQLJournal(database, job.id, resource=QUEUES["evaluation"], turn=0)
    await first.append({"number": 0})
    await store.write(Update(resource=DOMAIN["evaluation"], id=job.id, increments={"turn": 1}))
    second = SQLJournal(database, job.id, resource=QUEUES["evaluation"], turn=1)
    await second.append({"number": 1})
    with pytest.raises(ConflictError, match="goes on elsewhere"):
        await first.append({"number": 2})
    await second.append({"number": 3})
    assert [entry["number"] for entry in await second.entries()] == [0, 1, 3]
    await database.aclose()


@pytest.mark.full
class TestSQLJournalOnPostgres(JournalContract):
    @pytest.fixture(autouse=True)
    def _url(self, postgres_url: str) -> None:
        self.url = postgres_url

    @asynccontextmanager
    async def open_journal(self) -> AsyncIterator[Journal]:
        database = Database(self.url)
        try:
            yield SQLJournal(database, JOB)
        finally:
            await database.aclose()
