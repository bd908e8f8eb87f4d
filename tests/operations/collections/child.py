"""Runs the ingestions of a database, and kills itself at a call of the storage.

Arguments: the folder of the state, a file for embedded texts, and the number of the call (0: none).
An odd number kills it before the call, an even one after it.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

from dspex.bootstrap import new_id, open_services
from dspex.clock import SystemClock
from dspex.operations.collections import index_writer, jobs
from dspex.operations.collections.collection_storage import CollectionStorage
from dspex.operations.collections.records import INGESTION
from dspex.operations.domain import QUEUES
from dspex.operations.framework.store import Query
from dspex.operations.jobs import JobPolicy, JobRows, JobRunner, OrphanSweeper
from dspex.settings import Secret, Settings
from tests.operations.collections.embedder import RecordingEmbedder


class KillingStorage:
    """A storage that ends this process at one of its calls."""

    def __init__(self, storage: Any, call: int) -> None:
        self._storage = storage
        self._call = call
        self._count = 0

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._storage, name)

        async def work(*args: Any, **options: Any) -> Any:
            self._count += 1
            if self._count == (self._call + 1) // 2 and self._call % 2:
                os.kill(os.getpid(), signal.SIGKILL)
            result = await method(*args, **options)
            if self._count == self._call // 2 and not self._call % 2:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return work


async def main() -> None:
    folder, log, call, *url = sys.argv[1:]
    settings = Settings(state_dir=Path(folder), database_url=Secret(url[0]) if url else None)
    jobs._DOCUMENTS, index_writer._CHUNKS = 3, 2  # type: ignore[misc]
    policy = JobPolicy(queues=QUEUES)
    async with open_services(settings) as services:
        dependencies, clock = services.operations.dependencies, SystemClock()
        store = dependencies.store
        others = services.operations.services
        embedders = _Recording(RecordingEmbedder(log=Path(log)))
        storage: Any = KillingStorage(others[CollectionStorage], int(call))
        handler = jobs.IngestionHandler(store, storage, embedders)
        rows = JobRows(store, policy=policy, clock=clock, new_id=new_id, worker="child")
        runner = JobRunner(rows, handlers={"ingestion": handler}, policy=policy)
        await OrphanSweeper(store, policy=policy, clock=clock, new_id=new_id).tick()
        queued = Query(where={"status": "queued"}, oldest_first=True)
        for job in await store.select(INGESTION, queued):
            await runner.run("ingestion", job.id, job.turn)


class _Recording:
    """Every name means one embedder."""

    default = "hash"

    def __init__(self, embedder: RecordingEmbedder) -> None:
        self._embedder = embedder

    async def embedder(self, workspace: str, name: str) -> RecordingEmbedder:
        return self._embedder


if __name__ == "__main__":
    asyncio.run(main())
