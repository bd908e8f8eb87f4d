"""A pooler before PostgreSQL.

One that keeps sessions apart serves, one that shares them is refused with a sentence.
"""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from dspex.bootstrap import open_services
from dspex.errors import ConfigurationError
from dspex.operations.domain import DOMAIN
from dspex.operations.framework.store import Insert
from dspex.operations.storage import Database, SQLStore
from dspex.settings import Secret, Settings
from dspex.testing.store import signature
from tests.conftest import ENVIRONMENT
from tests.operations.jobs.rows import a_dataset, a_job, a_program
from tests.support.pgbouncer import needs_pgbouncer, pooled

pytestmark = [pytest.mark.full, needs_pgbouncer]


def dspex(folder: Path, url: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    env = {name: value for name, value in ENVIRONMENT.items() if not name.startswith("DSPEX_")}
    command = [sys.executable, "-m", "dspex", *arguments]
    env["DSPEX_DATABASE_URL"] = url
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("mode", ["transaction", "statement"])
async def test_a_pooler_that_shares_sessions_is_refused(
    postgres_url: str, tmp_path: Path, mode: str
) -> None:
    with pooled(postgres_url, mode=mode) as url:
        database = Database(url)
        try:
            store = SQLStore(database, DOMAIN)
            for attempt in (
                store.count(DOMAIN["signature"], {}),
                store.write(Insert(signature())),
            ):
                with pytest.raises(ConfigurationError, match="pool_mode=session"):
                    await attempt
            with pytest.raises(ConfigurationError, match="pool_mode=session"):
                async with database.reading():
                    pass
        finally:
            await database.aclose()
        for command in (["serve"], ["worker", "start"], ["db", "migrate"]):
            result = dspex(tmp_path, url, *command)
            assert result.returncode == 1
            assert result.stderr.startswith("error: a pooler")
            assert "Traceback" not in result.stderr


async def test_a_pooler_that_keeps_sessions_apart_serves_stores_and_jobs(
    postgres_url: str, tmp_path: Path
) -> None:
    with pooled(postgres_url, mode="session") as url:
        settings = Settings(state_dir=tmp_path / "state", database_url=Secret(url))
        async with open_services(settings) as services:
            store = services.operations.dependencies.store
            rows = [signature(version=number) for number in range(50)]
            await asyncio.gather(*(store.write(Insert(row)) for row in rows))
            assert await store.count(DOMAIN["signature"], {"name": "qa"}) == 50
            job = await a_job(store, program=await a_program(store, name="pooled"))
            await a_dataset(store)
            result = await asyncio.to_thread(dspex, tmp_path, url, "worker", "--until-idle")
            assert result.returncode == 0, result.stderr
            row = await store.get(DOMAIN["evaluation"], id=job.id)
            assert row is not None
            assert row.status == "completed"
