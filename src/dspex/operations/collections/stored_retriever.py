"""The retriever of a stored collection."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from dspex.errors import ConfigurationError, DefinitionError, InputError
from dspex.execution.clients.embedder import Embedder
from dspex.execution.retrieval.retriever import SearchMode, SearchResult, check_query
from dspex.execution.retrieval.where import Where
from dspex.language.records import Usage
from dspex.operations.collections.collection_storage import (
    ChunkQuery,
    CollectionStorage,
    Index,
    IndexMovedError,
)
from dspex.operations.collections.embedders import CollectionEmbedders
from dspex.operations.collections.records import CollectionRecord
from dspex.operations.collections.stored_collections import find_collection
from dspex.operations.framework.store import Store

if TYPE_CHECKING:  # numpy belongs to an extra
    import numpy
    from numpy.typing import NDArray

MAX_QUERY: Final = 20_000  # characters
_WHOLE_LIMIT: Final = 32_000  # characters of a collection that may be returned as a whole
_TRIES: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRetriever:
    """Searches the collection `name` of a workspace; see `Retriever`.

    `row` is the collection as the caller has just read it, if so.
    """

    store: Store
    storage: CollectionStorage
    embedders: CollectionEmbedders
    workspace: str
    name: str
    mode: SearchMode = "hybrid"
    weight: float = 0.5
    row: CollectionRecord | None = None

    async def search(
        self, query: str, k: int = 5, where: Where | Mapping[str, Any] | None = None
    ) -> SearchResult:
        """Return at most `k` passages, best first; see `Retriever.search`.

        Raises:
            NotFoundError: the workspace has no such collection.
            ConfigurationError: the embedder has changed since the documents were embedded, or is
                not available.
        """
        conditions = Where.parse(where)
        check_query(query, k, mode=self.mode, weight=self.weight)
        if len(query) > MAX_QUERY:
            raise InputError(
                f"query: it has {len(query)} characters, more than the {MAX_QUERY} allowed"
            )
        collection = self.row
        for is_last in (*[False] * _TRIES, True):
            if collection is None:
                collection = await find_collection(
                    self.store, self.workspace, collection_id=None, name=self.name
                )
            try:
                return await self._search(collection, query, k=k, where=conditions)
            except IndexMovedError:
                if is_last:
                    raise
                collection = None
        raise AssertionError  # the last try returns or raises

    async def _search(
        self, collection: CollectionRecord, query: str, *, k: int, where: Where
    ) -> SearchResult:
        index, mode = Index.of(collection), self.mode
        if mode == "whole":
            passages = await self.storage.texts(index, limit=_WHOLE_LIMIT)
            if passages is not None:
                passing = tuple(
                    passage for passage in passages if where.is_met_by(passage.metadata)
                )
                return SearchResult(passages=passing, scanned=len(passages))
            mode = "hybrid"
        vector, usage = None, Usage()
        if mode != "lexical" and collection.dimensions is not None:
            vector, usage = await self._embed(collection, query)
        elif mode == "dense" and collection.embedder is None:
            raise ConfigurationError(
                f"the collection {self.name!r} has no embedder: search it with the mode lexical, "
                "or rebuild it with an embedder"
            )
        matches = await self.storage.search(
            ChunkQuery(
                index=index,
                k=k,
                text=query if mode != "dense" else None,
                vector=vector,
                weight=self.weight,
                where=where,
            )
        )
        return SearchResult(
            passages=tuple(matches.passages),
            exact=matches.exact,
            scanned=matches.scanned,
            usage=usage,
        )

    async def _embed(
        self, collection: CollectionRecord, query: str
    ) -> "tuple[NDArray[numpy.float32], Usage]":
        embedder = await self.embedders.embedder(self.workspace, collection.embedder or "")
        embeddings = await embedder.embed([query], kind="query")
        check_embedder(collection, embedder.fingerprint, embeddings.vectors.shape[1])
        return embeddings.vectors[0], embeddings.usage


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredCollection:
    """The collection `name` of a workspace, as programs search it; see `Searchable`."""

    store: Store
    storage: CollectionStorage
    embedders: CollectionEmbedders
    workspace: str
    name: str

    @property
    def embedder(self) -> None:
        """Return None: the retriever resolves the embedder of the collection itself."""
        return

    def retriever(
        self,
        *,
        mode: SearchMode = "hybrid",
        weight: float = 0.5,
        chunking: Mapping[str, Any] | None = None,
        embedder: Embedder | None = None,
    ) -> StoredRetriever:
        """Return a retriever; see `Searchable.retriever`."""
        if chunking is not None or embedder is not None:
            raise DefinitionError(
                f"the collection {self.name!r} is stored with its own chunks and vectors; change "
                f"them with `dspex collection rebuild {self.name}`"
            )
        return StoredRetriever(
            store=self.store,
            storage=self.storage,
            embedders=self.embedders,
            workspace=self.workspace,
            name=self.name,
            mode=mode,
            weight=weight,
        )


def check_embedder(collection: CollectionRecord, fingerprint: str, dimensions: int) -> None:
    """Raise if vectors of an embedder cannot be compared with those of a collection.

    Raises:
        ConfigurationError: it is another one than before; the message says what to do.
    """
    stored = (collection.fingerprint, collection.dimensions)
    if stored != (fingerprint, dimensions):
        raise ConfigurationError(
            f"the embedder {collection.embedder!r} of the collection {collection.name!r} has "
            f"changed: its documents have {stored[1]} dimensions and the fingerprint "
            f"{stored[0]!r}, it now has {dimensions} and {fingerprint!r}. Embed them again with "
            f"`dspex collection rebuild {collection.name}`"
        )
