"""The retriever of a stored collection keeps the contract, and programs find it by name."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from dspex import Retrieve
from dspex.bootstrap import Services, open_services
from dspex.bootstrap.local_jobs import run_here
from dspex.errors import DefinitionError, NotFoundError
from dspex.execution.context import RunContext
from dspex.execution.retrieval import SearchResult, Where
from dspex.operations.collections.actions import add_documents, create_collection
from dspex.operations.collections.inputs import AddDocuments, CreateCollection
from dspex.operations.collections.records import INGESTION
from dspex.operations.executions.executor import Executor
from dspex.settings import Settings
from dspex.testing.retrievers import DOCUMENTS, RetrieverContract


async def fill(settings: Settings) -> None:
    async with open_services(settings) as services:
        request = CreateCollection(name="handbook", embedder="hash/256", language="en")
        await services.operations.perform(create_collection, request)
        documents = [
            {"key": key, "text": text, "metadata": dict(metadata)}
            for key, (text, metadata) in DOCUMENTS.items()
        ]
        adding = AddDocuments(collection="handbook", documents=documents)
        job = await services.operations.perform(add_documents, adding)
        assert (await run_here(services, INGESTION, job.id)).status == "completed"


async def context_of(services: Services, workspace: str = "default") -> RunContext:
    provide = services.operations.services[Executor].context_provider
    return await provide(workspace, services.context)


@dataclass
class ReopenedRetriever:
    """Opens the database for each search, because each has an event loop of its own."""

    settings: Settings
    name: str = "handbook"

    async def search(
        self, query: str, k: int = 5, where: Where | Mapping[str, Any] | None = None
    ) -> SearchResult:
        async with open_services(self.settings) as services:
            context = await context_of(services)
            retriever = context.collection_for(self.name).retriever()
            result = await retriever.search(query, k, where)
            assert isinstance(result, SearchResult)
            return result


class TestStoredRetriever(RetrieverContract):
    @pytest.fixture(autouse=True)
    def _stored(self, on_each_database: Settings) -> None:
        asyncio.run(fill(on_each_database))
        self.settings = on_each_database

    def make(self) -> ReopenedRetriever:
        return ReopenedRetriever(self.settings)


async def test_programs_find_the_collections_of_their_workspace(on_each_database: Settings) -> None:
    await fill(on_each_database)
    async with open_services(on_each_database) as services:
        context = await context_of(services)
        prediction = await Retrieve("handbook", k=1).acall(context, query="Can I return a lamp?")
        assert [passage.document for passage in prediction.passages] == ["lamps"]
        collection = context.collection_for("handbook")
        with pytest.raises(DefinitionError, match="dspex collection rebuild handbook"):
            collection.retriever(chunking={"method": "sentences"})
        stranger = await context_of(services, "another")
        with pytest.raises(NotFoundError):
            await stranger.collection_for("handbook").retriever(mode="lexical").search("lamp")
