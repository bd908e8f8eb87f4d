"""A server is not ready while its database cannot be used, and is ready again after.

Such a database takes no writes, or is gone or damaged.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from dspex.bootstrap import Services, open_services
from dspex.clock import Clock
from dspex.errors import StorageError
from dspex.operations.domain import DOMAIN
from dspex.operations.executions.actions import execute_program
from dspex.operations.executions.inputs import ExecuteProgram
from dspex.operations.framework.store import Query
from dspex.operations.programs.actions import create_program
from dspex.operations.programs.inputs import CreateProgram
from dspex.settings import Secret, Settings
from dspex.testing import FakeClock
from dspex.testing.postgres import execute

pytestmark = pytest.mark.full


@asynccontextmanager
async def opened(settings: Settings, clock: Clock | None = None) -> AsyncIterator[Services]:
    async with open_services(settings, clock=clock) as services:
        assert await services.examine() == []
        yield services


async def beats(services: Services) -> list[int]:
    rows = await services.operations.dependencies.store.select(DOMAIN["process"], Query(limit=10))
    return [row.beats for row in rows]


async def later(services: Services, clock: FakeClock) -> list[str]:
    await clock.advance(1.1)
    return await services.examine()


async def test_a_full_disk_is_a_reason_until_there_is_room(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened(Settings(state_dir=tmp_path), clock) as services:
        request = CreateProgram(name="n", signature="q -> n: int", backend="mock")
        await create_program(services.operations, request)
        connection = services.data.driver._connection()  # type: ignore[attr-defined]
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count={pages + 2}")
        with pytest.raises(StorageError):
            await execute_program(
                services.operations, ExecuteProgram(program="n", inputs={"q": "x" * 100_000})
            )
        [reason] = await services.examine()  # the last write failed
        assert "the disk is full" in reason
        assert str(tmp_path) not in reason
        connection.execute(f"PRAGMA max_page_count={pages + 10_000}")
        await execute_program(
            services.operations, ExecuteProgram(program="n", inputs={"q": "x" * 100_000})
        )
        assert await later(services, clock) == []


async def test_a_file_that_is_moved_away_is_a_reason(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened(Settings(state_dir=tmp_path), clock) as services:
        file = tmp_path / "dspex.sqlite3"
        file.rename(tmp_path / "elsewhere")
        [reason] = await later(services, clock)
        assert "cannot read the database now" in reason
        (tmp_path / "elsewhere").rename(file)
        assert await later(services, clock) == []


@pytest.mark.parametrize("place", ["beginning", "tables", "all"])
async def test_a_damaged_file_is_a_reason(tmp_path: Path, place: str) -> None:
    clock = FakeClock()
    async with opened(Settings(state_dir=tmp_path), clock) as services:
        file = tmp_path / "dspex.sqlite3"
        connection = services.data.driver._connection()  # type: ignore[attr-defined]
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        size = file.stat().st_size
        start, end = {"beginning": (0, 100), "tables": (4096, size), "all": (0, size)}[place]
        with file.open("r+b") as raw:
            raw.seek(start)
            raw.write(os.urandom(end - start))
        [reason] = await later(services, clock)
        assert "the file is damaged" in reason


async def test_a_server_that_takes_no_writes_is_a_reason(postgres_url: str) -> None:
    name = postgres_url.partition("?")[0].rpartition("/")[2]
    settings = Settings(database_url=Secret(postgres_url), secret_key=Secret("k" * 40))

    clock = FakeClock()
    async with opened(settings, clock) as services:
        for setting, is_ready in (("on", False), ("off", True)):
            alter = f'ALTER DATABASE "{name}" SET default_transaction_read_only = {setting}'
            await execute(postgres_url, f"BEGIN READ WRITE; {alter}; COMMIT")
            # as when the server changes
            services.data.driver._writer.terminate()  # type: ignore[attr-defined]
            reasons = await later(services, clock)
            assert (reasons == []) is is_ready, reasons
            assert is_ready or "takes no writes" in reasons[0]


async def test_all_who_ask_within_a_second_share_one_trial(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened(Settings(state_dir=tmp_path), clock) as services:
        before = await beats(services)
        await clock.advance(1.1)
        await asyncio.gather(*(services.examine() for _ in range(50)))
        assert await beats(services) == [count + 1 for count in before]
