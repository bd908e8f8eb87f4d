"""What goes wrong around a database.

Each with a clear state, and nothing lost that was acknowledged.
"""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from dspex.bootstrap.ids import IdGenerator, ids_after
from dspex.errors import DspexError, StorageError
from dspex.operations.domain import DOMAIN
from dspex.operations.framework.store import Insert, Query, Update
from dspex.operations.storage import Database, SQLStore
from dspex.testing.postgres import PostgresServer, execute
from dspex.testing.store import event, new_id, signature
from tests.support.postgres import DATABASES, migrated
from tests.support.waiting import Child, eventually

ROOT = Path(__file__).parents[3]
SIGNATURE, EVENT = DOMAIN["signature"], DOMAIN["event"]


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[SQLStore]:
    database = Database(url)
    try:
        yield SQLStore(database, DOMAIN)
    finally:
        await database.aclose()


@pytest.fixture
def file_url(tmp_path: Path) -> str:
    url = f"sqlite+aiosqlite:///{tmp_path / 'db'}"
    migrated(url)
    return url


@pytest.fixture(params=DATABASES)
def url(request: pytest.FixtureRequest) -> str:
    return str(
        request.getfixturevalue("postgres_url" if request.param == "postgres" else "file_url")
    )


def writing(url: str, first: int, count: int, *limit: int) -> Child:
    script = ROOT / "tests" / "support" / "writing_rows.py"
    return Child([sys.executable, str(script), url, *map(str, (first, count, *limit))], cwd=ROOT)


def told(child: Child) -> set[int]:
    return {int(line) for line in child.seen if line.isdigit()}


async def versions(url: str) -> set[int]:
    async with opened(url) as store:
        return {row.version for row in await store.select(SIGNATURE, Query(limit=10_000))}


async def test_a_full_disk_refuses_the_write_and_keeps_the_rest(file_url: str) -> None:
    async with opened(file_url) as store:
        driver: Any = store._database.driver
        connection = driver._connection()
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count={pages + 5}")
        large = [Insert(signature(version=n, instructions="x" * 30_000)) for n in range(3)]
        outcomes = await asyncio.gather(*map(store.write, large), return_exceptions=True)
        refused = [outcome for outcome in outcomes if outcome is not None]
        assert refused
        for outcome in refused:
            assert isinstance(outcome, StorageError)
            assert "the disk is full" in outcome.message
            assert outcome.is_retryable
        assert await store.count(SIGNATURE, {}) == outcomes.count(None)
        connection.execute(f"PRAGMA max_page_count={pages + 1000}")
        await store.write(Insert(signature(version=9)))


@pytest.mark.bridge
async def test_a_file_that_may_not_grow_refuses_writes_and_keeps_what_it_acknowledged(
    file_url: str,
) -> None:
    with writing(file_url, 0, 10_000, 600_000) as child:
        child.wait_for_line("refused: cannot write the database")
    assert "the disk is full, or fails" in child.seen[-1]
    result = await versions(file_url)
    assert len(result) > 8
    assert told(child) <= result
    with writing(file_url, 20_000, 10) as child:
        child.wait_for_line("done")


@pytest.mark.bridge
async def test_rows_acknowledged_before_a_kill_are_there(url: str) -> None:
    with writing(url, 0, 100_000) as child:
        for _ in range(50):
            child.wait_for_line("")
        child.process.kill()
        with pytest.raises(AssertionError, match="the process ended"):
            child.wait_for_line("no such line: all that it still said is read")
    assert told(child) <= (await versions(url))


@pytest.mark.bridge
async def test_two_processes_write_into_one_file_and_neither_is_refused(file_url: str) -> None:
    with writing(file_url, 0, 400) as first, writing(file_url, 1000, 400) as second:
        first.wait_for_line("done")
        second.wait_for_line("done")
    assert (
        (await versions(file_url))
        == {*range(400), *range(1000, 1400)}
        == told(first) | told(second)
    )


async def test_a_file_moved_away_is_noticed_before_a_write_goes_nowhere(
    file_url: str, tmp_path: Path
) -> None:
    async with opened(file_url) as store:
        await store.write(Insert(signature(version=1)))
        (tmp_path / "db").rename(tmp_path / "elsewhere")
        for _ in range(2):
            with pytest.raises(StorageError, match="was moved or replaced while it was in use"):
                await store.write(Insert(signature(version=2)))
        (tmp_path / "elsewhere").rename(tmp_path / "db")
        await store.write(Insert(signature(version=3)))
    assert (await versions(file_url)) == {1, 3}


async def test_a_closed_database_opens_no_connection_that_nobody_would_close(url: str) -> None:
    async with opened(url) as store:
        await store.write(Insert(signature(version=1)))
        await store._database.aclose()
        with pytest.raises(StorageError, match="closed"):
            await store.select(SIGNATURE, Query())


async def test_a_check_keeps_the_locks_that_keep_other_processes_from_deleting_the_log(
    file_url: str, tmp_path: Path
) -> None:
    code = "import sqlite3; sqlite3.connect('db').execute('SELECT count(*) FROM signatures')"
    async with opened(file_url) as store:
        await store.write(Insert(signature(version=1)))
        await store._database.driver.check()
        subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
        assert (tmp_path / "db-wal").exists()
        await store.write(Insert(signature(version=2)))
    assert (await versions(file_url)) == {1, 2}


async def test_a_closed_database_takes_no_writes_and_keeps_those_it_took(url: str) -> None:
    async with opened(url) as store:
        waiting = [
            asyncio.create_task(store.write(Insert(signature(version=n)))) for n in range(40)
        ]
        await asyncio.sleep(0)
        await store._database.aclose()
        await asyncio.gather(*waiting)
        with pytest.raises(StorageError, match="closed"):
            await store.write(Insert(signature(version=99)))
    assert (await versions(url)) == set(range(40))


def test_ids_keep_their_order_where_the_clock_is_set_back() -> None:
    times = iter([UUID(int=5 << 80), UUID(int=3 << 80), UUID(int=3 << 80), UUID(int=6 << 80)])
    ids = IdGenerator(source=lambda: next(times))
    identifiers = [ids() for _ in range(4)]
    assert identifiers == sorted(set(identifiers))
    assert identifiers[-1] == UUID(int=6 << 80)


async def test_ids_go_on_behind_rows_of_a_clock_that_was_ahead(url: str) -> None:
    ahead = UUID(int=new_id().int + (3_600_000 << 80))  # an hour

    async with opened(url) as store:
        await store.write(Insert(event(id=ahead)))
        ids = await ids_after(store)
        rows = [event(id=ids()) for _ in range(3)]
        await store.write(*map(Insert, rows))
        assert await store.select(EVENT, Query(after=ahead, oldest_first=True)) == rows
        assert [row.id.version for row in rows] == [7, 7, 7]


@pytest.mark.full
async def test_a_server_that_is_not_there_or_does_not_let_us_in_is_said_without_the_password(
    postgres_url: str, tmp_path: Path
) -> None:
    with_password = postgres_url.replace("postgres@", "postgres:geheim@")
    cases = {
        f"postgresql://postgres:geheim@/db?host={tmp_path}": (
            "no server answers there; start it, or correct"
        ),
        _other_name(with_password): "make the database",
        with_password.replace(
            "postgres:geheim", "nobody_known:geheim"
        ): "correct the user and password|nobody_known",
    }

    async def work(url: str, message: str) -> None:
        async with opened(url) as store:
            with pytest.raises(StorageError, match=message) as caught:
                await store.count(SIGNATURE, {})
            assert caught.value.is_retryable
            assert "geheim" not in str(caught.value)
            with pytest.raises(StorageError) as refused:
                await store.write(Insert(signature()))
            assert "not known" not in str(refused.value)  # nothing was sent

    for url, message in cases.items():
        await work(url, message)


def _other_name(url: str) -> str:
    head, _, tail = url.partition("?")
    return f"{head}_that_is_not_there?{tail}"


@pytest.mark.full
async def test_a_server_that_takes_no_writes_is_said_to_be_none_for_this(postgres_url: str) -> None:
    name = postgres_url.partition("?")[0].rpartition("/")[2]
    await execute(postgres_url, f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')

    async with opened(postgres_url) as store:
        assert await store.count(SIGNATURE, {}) == 0
        with pytest.raises(StorageError, match="name the primary one"):
            await store.write(Insert(signature()))


@pytest.mark.full
@pytest.mark.parametrize("ending", ["INT", "QUIT"])
async def test_a_database_restarted_under_load_is_found_again_and_holds_all_that_was_acknowledged(
    ending: str,
) -> None:
    with PostgresServer(is_durable=True) as server:
        migrated(server.url())
        acknowledged, refused = await _through_a_restart(server, ending)
        result = await versions(server.url())
    assert refused
    assert not [
        error for error in refused if not (isinstance(error, StorageError) and error.is_retryable)
    ]
    assert acknowledged <= result


async def _through_a_restart(
    server: PostgresServer, ending: str
) -> tuple[set[int], list[DspexError]]:
    acknowledged: set[int] = set()
    refused: list[DspexError] = []
    numbers = iter(range(1_000_000))
    is_back, is_over = asyncio.Event(), asyncio.Event()

    async def write(store: SQLStore) -> None:
        while not is_over.is_set():
            number = next(numbers)
            try:
                await store.write(Insert(signature(version=number)))
                await store.get(SIGNATURE, workspace="default", name="qa", version=number)
            except DspexError as error:
                refused.append(error)
                await is_back.wait()
            else:
                acknowledged.add(number)

    async with opened(server.url()) as store, asyncio.TaskGroup() as group:
        for _ in range(16):
            group.create_task(write(store))
        await eventually(lambda: len(acknowledged) >= 50)
        await asyncio.to_thread(server.stop, ending)
        await eventually(lambda: refused)
        await asyncio.to_thread(server.start)
        is_back.set()
        aim = len(acknowledged) + 100
        await eventually(lambda: len(acknowledged) >= aim)
        is_over.set()
    return acknowledged, refused


@pytest.mark.full
async def test_idle_connections_that_the_server_ended_are_replaced_without_an_error(
    postgres_url: str,
) -> None:
    name = postgres_url.partition("?")[0].rpartition("/")[2]
    ending = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND "
        "datname = "
    )

    async with opened(postgres_url) as store:
        for number in range(5):
            await store.write(Insert(signature(version=number)))
            assert await store.count(SIGNATURE, {}) == number + 1
            await execute(postgres_url, f"{ending}'{name}'")


@pytest.mark.full
async def test_two_servers_that_move_the_same_counters_never_fail(postgres_url: str) -> None:
    async with opened(postgres_url) as first, opened(postgres_url) as second:
        rows = [signature(version=1000 * n, name=str(n)) for n in range(6)]
        await first.write(*map(Insert, rows))

        async def count(store: SQLStore, order: int) -> None:
            for row in rows[::order] * 10:
                await store.write(
                    Update(resource=SIGNATURE, id=row.id, increments={"version": 1}),
                    Insert(event()),
                )

        await asyncio.gather(
            *(count(store, order) for store in (first, second) for order in (1, -1) * 4)
        )
        result = await first.select(SIGNATURE, Query(oldest_first=True))
        assert [row.version - 1000 * n for n, row in enumerate(result)] == [160] * 6
