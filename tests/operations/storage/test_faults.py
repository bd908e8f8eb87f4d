"""A PostgreSQL that fails under load.

Nothing acknowledged is lost, what is refused says so, and all goes on after.
"""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from dspex.clock import SystemClock
from dspex.errors import DspexError, StorageError
from dspex.operations.domain import DOMAIN
from dspex.operations.framework.store import Insert, Query
from dspex.operations.storage import Database, SQLStore
from dspex.testing.postgres import PostgresServer, execute
from dspex.testing.store import signature
from tests.support.postgres import migrated

pytestmark = pytest.mark.full
SIGNATURE = DOMAIN["signature"]
WRITERS = 8
ROLE = "app"  # the owner of the server may do what others may not


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What is done to a database, and how it is cured; `refuses`.

    Writes fail meanwhile, with this in their message.
    """

    begin: tuple[str, ...]
    end: tuple[str, ...] = ()
    refuses: str = ""


def raising(code: str) -> tuple[str, ...]:
    """Statements that let each insert fail with an error code of PostgreSQL."""
    return (
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION 'made up' USING ERRCODE = '{code}'; END $$",
        "CREATE TRIGGER fail BEFORE INSERT ON signatures FOR EACH ROW EXECUTE FUNCTION fail()",
    )


UNRAISED = ("DROP FUNCTION fail() CASCADE",)
KILL = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'"
FAULTS = {
    "sessions are ended": Fault(begin=(KILL,) * 5),
    "no writes are taken": Fault(
        begin=("ALTER ROLE app SET default_transaction_read_only = on", KILL),
        end=("ALTER ROLE app SET default_transaction_read_only = off", KILL),
        refuses="name the primary one",
    ),
    "statements are given too little time": Fault(
        begin=(
            "ALTER ROLE app SET statement_timeout = '100ms'",
            KILL,
            "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN PERFORM pg_sleep(5); RETURN NEW; END $$",
            "CREATE TRIGGER fail BEFORE INSERT ON signatures FOR EACH ROW EXECUTE FUNCTION fail()",
        ),
        end=(*UNRAISED, "ALTER ROLE app RESET statement_timeout", KILL),
        refuses="statement timeout",
    ),
    "there are too many connections": Fault(
        begin=("ALTER ROLE app CONNECTION LIMIT 0", KILL),
        end=("ALTER ROLE app CONNECTION LIMIT -1",),
        refuses="run fewer servers",
    ),
    "nobody is let in": Fault(
        begin=("ALTER ROLE app NOLOGIN", KILL),
        end=("ALTER ROLE app LOGIN",),
        refuses="correct the user",
    ),
    "the disk is full": Fault(
        begin=raising("53100"), end=UNRAISED, refuses="make room and try again"
    ),
    "the disk fails": Fault(begin=raising("58030"), end=UNRAISED, refuses="IOError"),
    "memory runs out": Fault(begin=raising("53200"), end=UNRAISED, refuses="OutOfMemory"),
    "transactions are in each other's way": Fault(
        begin=raising("40001"), end=UNRAISED, refuses="Serialization"
    ),
    "they wait for each other": Fault(begin=raising("40P01"), end=UNRAISED, refuses="Deadlock"),
}


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with PostgresServer() as postgres:
        # a server of tests keeps no commit through a crash, unless a role asks for it
        asyncio.run(
            execute(
                postgres.url(),
                f"CREATE ROLE {ROLE} LOGIN",
                f"ALTER ROLE {ROLE} SET synchronous_commit = on",
            )
        )
        yield postgres


@pytest.fixture
def database(server: PostgresServer) -> Iterator[str]:
    """The name of a fresh migrated database that the role may use."""
    name = server.make()
    migrated(server.url(name))
    asyncio.run(execute(server.url(name), f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {ROLE}"))
    yield name
    server.drop(name)


class Load:
    """Writers that go on whatever happens, and what became of each of their rows."""

    def __init__(self, store: SQLStore) -> None:
        self.store = store
        self.acknowledged: set[int] = set()
        self.refused: list[BaseException] = []
        self.moved = asyncio.Event()
        self._numbers = iter(range(1_000_000))

    async def write(self) -> None:
        while True:
            number = next(self._numbers)
            try:
                await self.store.write(Insert(signature(version=number)))
                await self.store.get(SIGNATURE, workspace="default", name="qa", version=number)
            except DspexError as error:
                self.refused.append(error)
                await SystemClock().sleep(0.01)  # as a caller would, who tries again
            else:
                self.acknowledged.add(number)
            self.moved.set()

    async def until(self, holds: Callable[[], Any]) -> None:
        while not holds():
            self.moved.clear()
            await self.moved.wait()

    async def until_more(self, count: int = 50) -> None:
        aim = len(self.acknowledged) + count
        await self.until(lambda: len(self.acknowledged) >= aim)


@asynccontextmanager
async def load(url: str) -> Any:
    database = Database(url)
    try:
        at = Load(SQLStore(database, DOMAIN))
        tasks = [asyncio.create_task(at.write()) for _ in range(WRITERS)]
        try:
            yield at
        finally:
            for task in tasks:
                task.cancel()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)
    finally:
        await database.aclose()


async def through(
    server: PostgresServer, name: str, act: Callable[[Load], Awaitable[None]]
) -> Load:
    """Let `act` do something to a database under load.

    Check what holds whatever that was, and return the load.
    """
    async with load(server.url(name).replace("postgres@", f"{ROLE}@")) as at:
        await at.until_more()
        await act(at)
        await at.until_more()
    database = Database(server.url(name))
    try:
        rows = await SQLStore(database, DOMAIN).select(SIGNATURE, Query(limit=100_000))
    finally:
        await database.aclose()
    versions = [row.version for row in rows]
    assert len(versions) == len(set(versions))
    assert at.acknowledged <= set(versions)
    for error in at.refused:
        assert isinstance(error, StorageError)
        assert error.is_retryable
    return at


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
async def test_a_fault_of_the_server_loses_nothing_and_passes(
    server: PostgresServer, database: str, fault: Fault
) -> None:
    async def act(at: Load) -> None:
        await execute(server.url(database), *fault.begin)
        if fault.refuses:
            await at.until(lambda: any(fault.refuses in str(error) for error in at.refused))
        await execute(server.url(database), *fault.end)

    await through(server, database, act)


async def test_a_process_of_the_server_that_is_killed_takes_nothing_with_it(
    server: PostgresServer, database: str
) -> None:
    """The server ends all its sessions then, and recovers."""

    async def act(at: Load) -> None:
        import asyncpg

        connection = await asyncpg.connect(server.url(database))
        pid = await connection.fetchval(
            "SELECT pid FROM pg_stat_activity WHERE usename = 'app' LIMIT 1"
        )
        os.kill(pid, signal.SIGKILL)
        await at.until(lambda: at.refused)
        connection.terminate()

    await through(server, database, act)


@pytest.mark.slow
@pytest.mark.parametrize("pause", [0.0, 0.003, 0.01, 0.03, 0.1, 0.3])
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
async def test_faults_that_come_and_go_lose_nothing(
    server: PostgresServer, database: str, fault: Fault, pause: float
) -> None:
    async def act(at: Load) -> None:
        for _ in range(10):
            await execute(server.url(database), *fault.begin)
            await SystemClock().sleep(pause)
            await execute(server.url(database), *fault.end)
            await at.until_more(10)

    await through(server, database, act)
