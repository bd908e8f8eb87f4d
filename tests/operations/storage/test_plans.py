"""How PostgreSQL finds the rows that a write changes.

It does so also before it has gathered any statistics.
"""

import asyncio
from dataclasses import replace

import asyncpg
import pytest

from dspex.bootstrap import new_id
from dspex.operations.domain import DOMAIN
from dspex.operations.framework.store import Insert, Update
from dspex.operations.storage import Database, SQLStore
from tests.operations.jobs.rows import a_job

EVALUATION = DOMAIN["evaluation"]
pytestmark = pytest.mark.full


async def ways_to(url: str, table: str) -> set[str]:
    """Return by what the rows of a table were found so far."""
    connection = await asyncpg.connect(url)
    try:
        scanned = await connection.fetchval(
            "SELECT seq_scan FROM pg_stat_user_tables WHERE relname = $1", table
        )
        used = await connection.fetch(
            "SELECT indexrelname FROM pg_stat_user_indexes WHERE relname = $1 AND idx_scan > 0",
            table,
        )
    finally:
        await connection.close()
    return {f"scan {scanned}"} | {row[0] for row in used}


async def test_a_write_finds_its_rows_by_id_though_it_names_states_that_many_rows_have_had(
    postgres_url: str,
) -> None:
    database = Database(postgres_url)
    store = SQLStore(database, DOMAIN)
    job = await a_job(store)
    before = await ways_to(postgres_url, "evaluations")
    for _ in range(20):  # by then a plan is kept
        keys = [new_id() for _ in range(10)]
        await asyncio.gather(*(store.write(Insert(replace(job, id=key))) for key in keys))
        updates = [
            Update(
                resource=EVALUATION,
                id=key,
                values={"status": "cancelled"},
                statuses=("queued",),
            )
            for key in keys
        ]
        await asyncio.gather(*map(store.write, updates))
    await database.aclose()
    plans: set[str] = set()
    while "pk_evaluations" not in plans:  # a connection tells its counts when it ends
        plans = await ways_to(postgres_url, "evaluations")
    before, after = before, plans
    assert after - before == {"pk_evaluations"}
