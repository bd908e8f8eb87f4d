"""The embedders of stored collections, and the collections of running programs."""

import msgspec

from dspex.execution.clients.embedder import Embedder
from dspex.execution.context import DEFAULT_EMBEDDER, RunContext
from dspex.operations.collections.collection_storage import CollectionStorage
from dspex.operations.collections.stored_retriever import StoredCollection
from dspex.operations.executions.executor import ContextProvider, Executor
from dspex.operations.framework.dependencies import ServiceRegistry
from dspex.operations.framework.store import Store


class WorkspaceEmbedders:
    """Resolves embedder strings with the keys of a workspace; see `CollectionEmbedders`."""

    def __init__(self, provider: ContextProvider, context: RunContext) -> None:
        """Take the context of this process, and what makes it that of a workspace."""
        self._provider = provider
        self._context = context

    @property
    def default(self) -> str:
        """The embedder of the settings, or the offline one."""
        embedder = self._context.embedder
        return embedder if isinstance(embedder, str) else DEFAULT_EMBEDDER

    async def embedder(self, workspace: str, name: str) -> Embedder:
        """Return the embedder of a workspace; see `CollectionEmbedders.embedder`."""
        context = await self._provider(workspace, self._context)
        return context.embedder_for(name)


def connect_collections(
    executor: Executor, services: ServiceRegistry, *, store: Store, context: RunContext
) -> WorkspaceEmbedders:
    """Let `Retrieve("name")` find stored collections in what an executor runs."""
    provider = executor.context_provider
    embedders = WorkspaceEmbedders(provider, context)

    async def context_for(workspace: str, context: RunContext) -> RunContext:
        context = await provider(workspace, context)

        def find(name: str) -> StoredCollection:
            return StoredCollection(
                store=store,
                storage=services[CollectionStorage],
                embedders=embedders,
                workspace=workspace,
                name=name,
            )

        return msgspec.structs.replace(context, collections=find)

    executor.context_provider = context_for
    return embedders
