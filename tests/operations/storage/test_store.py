"""The contract of `Store` on both databases, and what only one of them does."""

import asyncio
import contextlib
import os
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from dspex.errors import StorageError
from dspex.operations.domain import DOMAIN
from dspex.operations.framework.store import Insert, Query, Store
from dspex.operations.storage import Database, SQLStore, migrate
from dspex.testing.store import StoreContract, signature

SIGNATURE = DOMAIN["signature"]


@contextlib.asynccontextmanager
async def opened(file: Path) -> AsyncIterator[SQLStore]:
    database = Database.embedded(file)
    try:
        await migrate(database)
        yield SQLStore(database, DOMAIN)
    finally:
        await database.aclose()


@asynccontextmanager
async def two_stores(url: str) -> AsyncIterator[tuple[Store, Store]]:
    databases = Database(url), Database(url)
    try:
        await migrate(databases[0])
        yield SQLStore(databases[0], DOMAIN), SQLStore(databases[1], DOMAIN)
    finally:
        for database in databases:
            await database.aclose()


class TestSQLite(StoreContract):
    @pytest.fixture(autouse=True)
    def _url(self, tmp_path: Path) -> None:
        self.url = f"sqlite+aiosqlite:///{tmp_path / 'db'}"

    def make(self) -> AbstractAsyncContextManager[tuple[Store, Store]]:
        return two_stores(self.url)


@pytest.mark.full
class TestPostgreSQL(TestSQLite):
    @pytest.fixture(autouse=True)
    def _url(self, postgres_url: str) -> None:
        self.url = postgres_url


async def test_a_locked_database_is_a_storage_error_that_says_so(tmp_path: Path) -> None:
    async with opened(tmp_path / "db") as store:
        driver: Any = store._database.driver
        driver._busy_seconds = 0.0
        with contextlib.closing(sqlite3.connect(tmp_path / "db")) as connection:
            connection.execute("BEGIN EXCLUSIVE")
            with pytest.raises(StorageError, match="another process holds it") as caught:
                await store.write(Insert(signature()))
            assert await store.count(SIGNATURE, {}) == 0
        assert caught.value.is_retryable
        await store.write(Insert(signature()))


async def test_a_writer_waits_for_another_process_without_holding_up_its_own_loop(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path / "db") as store:
        with contextlib.closing(
            sqlite3.connect(tmp_path / "db", isolation_level=None)
        ) as connection:
            connection.execute("BEGIN IMMEDIATE")
            writing = asyncio.create_task(store.write(Insert(signature())))
            for _ in range(20):
                assert await store.count(SIGNATURE, {}) == 0
                await asyncio.sleep(0)
            assert not writing.done()
            connection.execute("COMMIT")
            await writing


async def test_a_long_read_gives_the_loop_back(tmp_path: Path) -> None:
    async with opened(tmp_path / "db") as store:
        rows = [signature(version=n, instructions="x" * 200) for n in range(3000)]
        await store.write(*map(Insert, rows))
        driver: Any = store._database.driver
        threads: list[int] = []
        driver._read_seconds = -1.0  # no time at all
        reading = driver._long_read

        def long_read(question: Any) -> Any:
            threads.append(threading.get_ident())
            return reading(question)

        driver._long_read = long_read
        assert await store.count(SIGNATURE, {"instructions": "y"}) == 0
        assert len(threads) == 1
        assert threads[0] != threading.get_ident()
        result = await store.select(SIGNATURE, Query(limit=3000, oldest_first=True))
        assert list(result) == rows


async def test_the_log_begins_anew_under_writes_that_never_stop(tmp_path: Path) -> None:
    async with opened(tmp_path / "db") as store:
        driver: Any = store._database.driver
        driver._log_pages = 1000
        numbers = iter(range(8_000))

        async def write() -> None:
            for number in numbers:
                await store.write(Insert(signature(version=number, instructions="x" * 3000)))

        await asyncio.gather(*(write() for _ in range(16)))
        assert await store.count(SIGNATURE, {}) == 8_000
        assert (tmp_path / "db-wal").stat().st_size < 24 << 20


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to read-only files")
async def test_a_read_only_file_is_a_storage_error_that_says_so(tmp_path: Path) -> None:
    async with opened(tmp_path / "db"):
        pass
    (tmp_path / "db").chmod(0o400)
    async with opened(tmp_path / "db") as store:
        with pytest.raises(StorageError, match="read-only"):
            await store.write(Insert(signature()))


async def test_a_read_only_connection_is_a_storage_error_that_says_so(tmp_path: Path) -> None:
    async with opened(tmp_path / "db"):
        pass
    database = Database(f"sqlite+aiosqlite:///file:{tmp_path / 'db'}?mode=ro&uri=true")
    try:
        with pytest.raises(StorageError, match="make it writable"):
            await SQLStore(database, DOMAIN).write(Insert(signature()))
    finally:
        await database.aclose()


async def test_a_file_that_is_no_database_is_a_storage_error_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "db").write_text(
        "this is a text file, and a rather long one, so that SQLite looks at its head" * 20
    )

    with pytest.raises(StorageError, match="is not a SQLite database"):
        async with opened(tmp_path / "db"):
            pass
