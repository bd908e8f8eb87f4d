"""The contract of `Store`, on SQLite."""

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from dspex.bootstrap import new_id
from dspex.errors import ConflictError, NotFoundError, StorageError
from dspex.operations.resources import DOMAIN, Insert, Query, Update
from dspex.operations.resources.signature import SignatureRecord
from dspex.operations.storage import Database, SQLStore, migrate
from tests.support.waiting import finish

SIGNATURE = DOMAIN["signature"]
NOW = datetime(2026, 5, 4, 3, 2, 1, 987654, tzinfo=UTC)


@contextlib.asynccontextmanager
async def opened(file: Path) -> AsyncIterator[SQLStore]:
    database = Database.embedded(file)
    try:
        await migrate(database)
        yield SQLStore(database)
    finally:
        await database.aclose()


def signature(**values: Any) -> SignatureRecord:
    given = {
        "id": new_id(),
        "workspace": "default",
        "created_at": NOW,
        "updated_at": NOW,
        "name": "qa",
        "version": 1,
        "status": "active",
        "inputs": {"fields": []},
        "outputs": {"ä": [1, 2.5, None, {"b": True}]},
        "instructions": "",
        "content_hash": "h",
        "source": "string",
        "definition": {},
    }
    return SignatureRecord(**{**given, **values})


def test_a_row_comes_back_as_it_went_in(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path / "db") as store:
            row = signature()
            await store.write(Insert(row))
            assert await store.get(SIGNATURE, id=row.id) == row
            assert await store.get(SIGNATURE, workspace="default", name="qa", version=1) == row
            assert await store.get(SIGNATURE, id=new_id()) is None

    finish(work())


def test_rows_are_listed_newest_first_page_by_page(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path / "db") as store:
            rows = [signature(version=n) for n in range(5)]
            await store.write(*map(Insert, rows))
            newest = rows[::-1]
            assert await store.select(SIGNATURE, Query(limit=2)) == newest[:2]
            assert await store.select(SIGNATURE, Query(limit=9, after=newest[1].id)) == newest[2:]
            assert await store.select(SIGNATURE, Query(oldest_first=True, after=rows[2].id)) == rows[3:]
            assert await store.select(SIGNATURE, Query(where={"version": (1, 3)})) == [rows[3], rows[1]]
            assert await store.count(SIGNATURE, {}) == 5
            assert await store.count(SIGNATURE, {"version": 4}) == 1
            assert await store.count(SIGNATURE, {"name": "other"}) == 0

    finish(work())


def test_a_write_happens_whole_or_not_at_all(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path / "db") as store:
            await store.write(Insert(signature()))
            with pytest.raises(ConflictError):
                await store.write(Insert(signature(version=2)), Insert(signature(version=1)))
            assert await store.count(SIGNATURE, {}) == 1

    finish(work())


def test_an_update_needs_the_row_in_a_fitting_state(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path / "db") as store:
            row = signature()
            await store.write(Insert(row))
            change = Update(resource=SIGNATURE, id=row.id, values={"status": "deprecated"}, statuses=("active",))
            await store.write(change)
            with pytest.raises(ConflictError, match="is deprecated: this needs it to be active"):
                await store.write(Insert(signature(version=2)), change)
            assert await store.count(SIGNATURE, {}) == 1
            with pytest.raises(NotFoundError):
                await store.write(Update(resource=SIGNATURE, id=new_id(), values={"status": "draft"}))
            found = await store.get(SIGNATURE, id=row.id)
            assert found is not None
            assert (found.status, found.lock_version) == ("deprecated", 1)

    finish(work())


def test_concurrent_increments_lose_nothing(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path / "db") as store:
            row = signature()
            await store.write(Insert(row))
            change = Update(resource=SIGNATURE, id=row.id, increments={"version": 1})
            await asyncio.gather(*(store.write(change) for _ in range(40)))
            found = await store.get(SIGNATURE, id=row.id)
            assert found is not None
            assert found.version == 41

    finish(work())


def test_two_processes_worth_of_connections_share_one_file(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path / "db") as first, opened(tmp_path / "db") as second:
            rows = [signature(version=n) for n in range(30)]
            stores = [first, second]
            await asyncio.gather(*(stores[n % 2].write(Insert(row)) for n, row in enumerate(rows)))
            assert await first.count(SIGNATURE, {}) == await second.count(SIGNATURE, {}) == 30

    finish(work())


def test_a_naive_time_is_refused(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path / "db") as store:
            with pytest.raises(StorageError, match="without a zone"):
                await store.write(Insert(signature(created_at=NOW.replace(tzinfo=None))))

    finish(work())


def test_a_locked_database_is_a_storage_error_that_says_so(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path / "db") as store:
            with contextlib.closing(sqlite3.connect(tmp_path / "db")) as other:
                async with store._database.reading() as connection:  # give up at once instead of after 5 s
                    await connection.exec_driver_sql("PRAGMA busy_timeout=0")
                other.execute("BEGIN EXCLUSIVE")
                with pytest.raises(StorageError, match="another process holds it") as caught:
                    await store.write(Insert(signature()))
            assert caught.value.is_retryable
            await store.write(Insert(signature()))

    finish(work())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to read-only files")
def test_a_read_only_file_is_a_storage_error_that_says_so(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path / "db"):
            pass
        (tmp_path / "db").chmod(0o400)
        async with opened(tmp_path / "db") as store:
            with pytest.raises(StorageError, match="read-only"):
                await store.write(Insert(signature()))

    finish(work())


def test_a_read_only_connection_is_a_storage_error_that_says_so(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path / "db"):
            pass
        database = Database(f"sqlite+aiosqlite:///file:{tmp_path / 'db'}?mode=ro&uri=true")
        try:
            with pytest.raises(StorageError, match="make it writable"):
                await SQLStore(database).write(Insert(signature()))
        finally:
            await database.aclose()

    finish(work())


def test_a_file_that_is_no_database_is_a_storage_error_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "db").write_text("this is a text file, and a rather long one, so that SQLite looks at its head" * 20)

    async def work() -> None:
        with pytest.raises(StorageError, match="is no SQLite database"):
            async with opened(tmp_path / "db"):
                pass

    finish(work())
