"""Collections on each database, with jobs that run at once in this process."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from dspex.bootstrap import Services, new_id, open_services
from dspex.clock import SystemClock
from dspex.execution.clients.embedder import Embedder
from dspex.operations.collections.collection_storage import CollectionStorage
from dspex.operations.collections.embedders import CollectionEmbedders
from dspex.operations.collections.jobs import IngestionHandler
from dspex.operations.collections.records import IngestionRecord
from dspex.operations.domain import QUEUES
from dspex.operations.framework.operations import Operations
from dspex.operations.jobs import JobPolicy, JobRows, JobRunner
from dspex.operations.jobs.job_engine import JobEngine
from dspex.settings import Settings
from tests.operations.collections.embedder import RecordingEmbedder
from tests.support.inline_engine import InlineEngine

QUICK = JobPolicy(queues=QUEUES, attempts=2, backoff=0.01, poll=0.02)


class Desk:
    """The operations of a workspace, and what its jobs are run by."""

    def __init__(
        self,
        services: Services,
        operations: Operations,
        *,
        engine: InlineEngine,
        embedder: RecordingEmbedder,
    ) -> None:
        self.services = services
        self.operations = operations
        self.engine = engine
        self.embedder = embedder

    def of(self, workspace: str) -> "Desk":
        """Return the desk of another workspace."""
        actor = replace(self.operations.actor, workspace=workspace)
        operations = self.operations.as_actor(actor)
        return Desk(self.services, operations, engine=self.engine, embedder=self.embedder)

    async def perform(self, action_name: str, /, **values: Any) -> Any:
        """Perform an action and wait for its job, if it is one."""
        from dspex.operations.domain import DOMAIN

        action = next(each for each in DOMAIN.actions if each.name == action_name)
        result = await self.operations.perform(action, action.input(**values))
        if isinstance(result, IngestionRecord):
            await self.engine.finished(result.id)
            return await self.operations.row(action.resource, result.id)
        return result

    async def keys(self, collection: str, query: str, **values: Any) -> list[str]:
        """Return the keys of the documents that a search finds."""
        result = await self.perform(
            "search_collection", collection=collection, query=query, **values
        )
        return [passage["document"] for passage in result.passages]


class NamedEmbedders:
    """The embedders of a process, and one that is called "recording"."""

    default = "hash"

    def __init__(self, others: CollectionEmbedders, recording: RecordingEmbedder) -> None:
        self._others = others
        self._recording = recording

    async def embedder(self, workspace: str, name: str) -> Embedder:
        if name == "recording":
            return self._recording
        return await self._others.embedder(workspace, name)


OpenDesk = Callable[[], AbstractAsyncContextManager[Desk]]


@pytest.fixture
def open_desk(on_each_database: Settings) -> OpenDesk:
    """Opens the database of this test, as often as it is asked."""

    @asynccontextmanager
    async def desk() -> AsyncIterator[Desk]:
        async with open_services(on_each_database) as services:
            dependencies = services.operations.dependencies
            rows = JobRows(
                dependencies.store,
                policy=QUICK,
                clock=SystemClock(),
                new_id=new_id,
                worker="test",
            )
            embedder = RecordingEmbedder()
            embedders = services.operations.services[CollectionEmbedders]
            embedders = NamedEmbedders(embedders, embedder)
            storage = services.operations.services[CollectionStorage]
            handler = IngestionHandler(dependencies.store, storage, embedders)
            runner = JobRunner(rows, handlers={"ingestion": handler}, policy=QUICK)
            async with InlineEngine(dependencies.store, runner) as engine:
                operations = Operations(
                    dependencies.with_services({JobEngine: engine, CollectionEmbedders: embedders})
                )
                yield Desk(services, operations, engine=engine, embedder=embedder)

    return desk


def documents(**texts: str) -> list[dict[str, Any]]:
    """Return documents by key."""
    return [{"key": key, "text": text} for key, text in texts.items()]
