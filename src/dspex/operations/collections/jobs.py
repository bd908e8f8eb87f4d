"""Ingestion and rebuilding as jobs; a job that is interrupted keeps what it has stored."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from dspex.error_text import quantity
from dspex.errors import ConflictError, DefinitionError, NotFoundError
from dspex.execution.clients.embedder import Embedder
from dspex.execution.retrieval.chunkers import parse_chunker
from dspex.operations.collections.collection_storage import (
    CollectionStorage,
    Fence,
    Index,
    IndexMovedError,
)
from dspex.operations.collections.embedders import CollectionEmbedders
from dspex.operations.collections.index_writer import IndexWriter, embed_documents
from dspex.operations.collections.records import (
    COLLECTION,
    DOCUMENT,
    DOCUMENT_VERSION,
    INGESTION,
    CollectionRecord,
    DocumentVersionRecord,
    IngestionRecord,
)
from dspex.operations.collections.stored_retriever import check_embedder
from dspex.operations.framework.store import Query, Store, Update
from dspex.operations.jobs import Done, JobRun

_DOCUMENTS: Final = 100  # prepared and published together
_BYTES: Final = 4 * 1024 * 1024  # of their texts
_LARGE: Final = 16


class IngestionHandler:
    """Adds the documents of a request to a collection, or rebuilds its index.

    A batch of chunks is stored with its vectors in one transaction, and a document becomes visible
    in another when all its chunks are stored. So a run that is killed has lost one batch at most.
    """

    def __init__(
        self,
        store: Store,
        storage: CollectionStorage,
        embedders: CollectionEmbedders,
    ) -> None:
        """Take the collaborators, which other handlers may share."""
        self._store = store
        self._storage = storage
        self._embedders = embedders

    async def __call__(self, run: JobRun, /) -> Done:
        """Do what the job asks for."""
        job = run.job
        if not isinstance(job, IngestionRecord):
            raise DefinitionError("this job is not an ingestion")
        if job.operation == "rebuild":
            return await self._rebuild(run, job)
        return await self._add(run, job)

    async def _collection(self, job: IngestionRecord) -> CollectionRecord:
        row = await self._store.get(COLLECTION, id=job.collection_id)
        if row is None or row.status != "ready":
            raise NotFoundError("the collection of this job was deleted")
        return row

    async def _add(self, run: JobRun, job: IngestionRecord) -> Done:
        fence, replaced = Fence(job.id, job.turn), 0
        await self._discard_cancelled(job)
        writer = IndexWriter(self._storage, run, fence)
        waiting = {"ingestion_id": job.id, "status": "pending"}
        query = Query(where=waiting, limit=_DOCUMENTS, oldest_first=True)
        while True:
            page = await self._store.page(DOCUMENT_VERSION, query, most=_BYTES)
            if not page.rows:
                break
            collection = await self._collection(job)
            embedder = await self._embedder(job, collection.embedder)
            index = await self._index(collection, embedder)
            writer.use(index, embedder, parse_chunker(collection.chunking), sources=[index.id])
            await writer.write(await self._changed(collection, page.rows))
            try:
                published = await self._storage.publish(fence, index, page.rows)
            except IndexMovedError:
                continue  # it was rebuilt: these documents are divided and embedded for that
            replaced += published.replaced
            writer.count_documents(published)
            left = await self._store.count(DOCUMENT_VERSION, waiting)
            writer.report(
                f"{job.documents - left} of {quantity(job.documents, 'document')}",
                total=job.documents,
            )
        collection = await self._collection(job)
        if collection.dimensions is not None or collection.embedder is None:
            await self._storage.finish_index(Index.of(collection), has_removals=replaced > 0)
        return Done(values=writer.values(), message=writer.summary(job.documents))

    async def _discard_cancelled(self, job: IngestionRecord) -> None:
        where = {"collection_id": job.collection_id, "status": "cancelled"}
        cancelled = await self._store.select(INGESTION, Query(where=where, limit=1000))
        await self._storage.discard_pending(job.collection_id, [row.id for row in cancelled])

    async def _changed(
        self, collection: CollectionRecord, versions: Sequence[DocumentVersionRecord]
    ) -> list[DocumentVersionRecord]:
        """Return the versions whose content differs from the current one."""
        keys = tuple(version.key for version in versions)
        where = {"collection_id": collection.id, "key": keys}
        rows = await self._store.select(DOCUMENT, Query(where=where, limit=len(keys)))
        hashes = {row.key: row.content_hash for row in rows}
        return [version for version in versions if hashes.get(version.key) != version.content_hash]

    async def _embedder(self, job: IngestionRecord, name: str | None) -> Embedder | None:
        return None if name is None else await self._embedders.embedder(job.workspace, name)

    async def _index(self, collection: CollectionRecord, embedder: Embedder | None) -> Index:
        """Return the index to write to; the first job of a collection learns the dimensions."""
        if embedder is not None:
            fingerprint, dimensions = embedder.fingerprint, await dimensions_of(embedder)
            if collection.dimensions is None:
                collection = await self._with_dimensions(collection, fingerprint, dimensions)
            check_embedder(collection, fingerprint, dimensions)
        index = Index.of(collection)
        await self._storage.create_index(index)
        return index

    async def _with_dimensions(
        self, collection: CollectionRecord, fingerprint: str, dimensions: int
    ) -> CollectionRecord:
        values = {"fingerprint": fingerprint, "dimensions": dimensions}
        expected = {"dimensions": None}
        change = Update(resource=COLLECTION, id=collection.id, values=values, expected=expected)
        try:
            await self._store.write(change)
        except ConflictError:  # another job was faster
            return await self._store.get(COLLECTION, id=collection.id) or collection
        return replace(collection, fingerprint=fingerprint, dimensions=dimensions)

    async def _rebuild(self, run: JobRun, job: IngestionRecord) -> Done:
        fence = Fence(job.id, job.turn)
        writer = IndexWriter(self._storage, run, fence)
        collection = await self._collection(job)
        settings = job.configuration
        if collection.index_id != job.id:
            embedder = await self._embedder(job, settings["embedder"])
            index = Index(
                id=job.id,
                collection_id=collection.id,
                language=collection.language,
                fingerprint=None if embedder is None else embedder.fingerprint,
                dimensions=None if embedder is None else await dimensions_of(embedder),
            )
            await self._storage.create_index(index)
            sources = [index.id]
            if index.fingerprint == collection.fingerprint:
                sources.append(collection.index_id)
            writer.use(index, embedder, parse_chunker(settings["chunking"]), sources=sources)
            await self._fill(writer, fence, index=index, settings=settings)
        before = [] if collection.index_id == job.id else [collection.index_id]
        await self._storage.drop_indexes(collection.id, keep=[job.id], empty=before)
        return Done(values=writer.values(), message=writer.summary(collection.documents))

    async def _fill(
        self, writer: IndexWriter, fence: Fence, *, index: Index, settings: dict[str, Any]
    ) -> None:
        """Write all documents to an index, until searches use it."""
        values = {
            "embedder": settings["embedder"],
            "chunking": settings["chunking"],
            "fingerprint": index.fingerprint,
            "dimensions": index.dimensions,
        }
        while True:
            after = None
            while versions := await self._storage.incomplete_versions(
                index, after=after, limit=_LARGE
            ):
                await writer.write(versions)
                after = versions[-1].id
                writer.documents += len(versions)
                writer.report(f"{quantity(writer.documents, 'document')} rebuilt")
            await self._storage.finish_index(index, has_removals=False)
            # documents that came meanwhile are written in another round
            if await self._storage.adopt_index(fence, index, values) is not None:
                return


async def dimensions_of(embedder: Embedder) -> int:
    """Return the number of dimensions; a server is asked for a vector if it is unknown."""
    if embedder.dimensions is not None:
        return embedder.dimensions
    embeddings = await embed_documents(embedder, ["dimensions"])
    return int(embeddings.vectors.shape[1])
