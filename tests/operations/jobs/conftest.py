"""A database in a temporary folder, and machinery over it."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from dspex.bootstrap import new_id
from dspex.clock import SystemClock
from dspex.operations.domain import DOMAIN, QUEUES
from dspex.operations.framework.store import Store
from dspex.operations.jobs import Handler, JobPolicy, JobRows, JobRunner
from dspex.operations.storage import Database, SQLStore, migrate
from tests.support.inline_engine import InlineEngine

QUICK = JobPolicy(queues=QUEUES, attempts=3, backoff=0.01, poll=0.02, beat=0.02, dead_after=0.2)


def a_runner(
    store: Store, handlers: Mapping[str, Handler], *, policy: JobPolicy = QUICK
) -> JobRunner:
    """A runner on the machine's own clock."""
    rows = JobRows(store, policy=policy, clock=SystemClock(), new_id=new_id, worker="test")
    return JobRunner(rows, handlers=handlers, policy=policy)


Opened = Callable[[], AbstractAsyncContextManager[SQLStore]]


@pytest.fixture
def open_store(tmp_path: Path) -> Opened:
    """Opens the store of this test, as often as it is asked."""

    @asynccontextmanager
    async def open_store() -> AsyncIterator[SQLStore]:
        database = Database.embedded(tmp_path / "dspex.sqlite3")
        try:
            await migrate(database)
            yield SQLStore(database, DOMAIN)
        finally:
            await database.aclose()

    return open_store


@asynccontextmanager
async def inline(
    store: Store, handler: Handler, *, policy: JobPolicy = QUICK
) -> AsyncIterator[InlineEngine]:
    """An engine in this process with one handler for evaluations."""
    async with InlineEngine(
        store, a_runner(store, {"evaluation": handler}, policy=policy)
    ) as engine:
        yield engine
