"""The port `CollectionStorage`: chunks of collections in SQLite or PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import fields
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from dspex.clock import Clock
from dspex.errors import ConflictError, NotFoundError
from dspex.execution.retrieval.fusion import fuse
from dspex.language.records import Passage
from dspex.operations.collections.collection_storage import (
    ChunkMatches,
    ChunkQuery,
    Fence,
    Index,
    IndexMovedError,
    NewChunk,
    Published,
    Spent,
)
from dspex.operations.collections.records import (
    COLLECTION,
    DOCUMENT,
    DOCUMENT_VERSION,
    INGESTION,
    CollectionRecord,
    DocumentVersionRecord,
)
from dspex.operations.framework.audit import AUDIT_ENTRY, AuditEntry
from dspex.operations.framework.domain import Domain
from dspex.operations.storage.chunk_search import (
    ChunkSearch,
    DenseRanking,
    Ranking,
    Snapshot,
    StaleViewError,
)
from dspex.operations.storage.chunk_tables import CHUNKS
from dspex.operations.storage.database import Database
from dspex.operations.storage.document_rows import DocumentRows, Growth
from dspex.operations.storage.memory_cache import MemoryCache
from dspex.operations.storage.postgres_search import PostgresSearch
from dspex.operations.storage.sqlite_search import SQLiteSearch
from dspex.operations.storage.tables import tables_of
from dspex.sync import unbroken

_AT_ONCE: Final = 500
_TRIES: Final = 10


class SQLCollections:
    """Chunks in tables; see `CollectionStorage` for the promises."""

    def __init__(
        self,
        database: Database,
        domain: Domain,
        *,
        clock: Clock,
        new_id: Callable[[], UUID],
        cache: MemoryCache | None = None,
    ) -> None:
        """Take the database, which its owner closes, and its domain."""
        tables = tables_of(domain)
        self._database = database
        self._collections = tables[COLLECTION.name]
        search = SQLiteSearch if database.is_sqlite else PostgresSearch
        self._cache = cache or MemoryCache()
        self._search: ChunkSearch = search(database, self._cache)
        self._rows = DocumentRows(tables, self._search, clock=clock, new_id=new_id)
        self._documents = tables[DOCUMENT.name]
        self._versions = tables[DOCUMENT_VERSION.name]
        self._ingestions = tables[INGESTION.name]
        self._entries = tables[AUDIT_ENTRY.name]

    async def create_index(self, index: Index) -> None:
        """Make the table of searches; see `CollectionStorage.create_index`."""

        async def work() -> None:
            async with self._database.writing() as connection:
                await self._search.create(connection, index)

        await unbroken(work())

    async def vectors(
        self, index_ids: Sequence[UUID], hashes: Sequence[bytes]
    ) -> Mapping[bytes, bytes]:
        """Return stored vectors; see `CollectionStorage.vectors`."""
        query = sa.select(CHUNKS.c.text_hash, CHUNKS.c.vector)
        vectors: dict[bytes, bytes] = {}
        async with self._database.reading() as connection:
            for start in range(0, len(hashes), _AT_ONCE):
                rows = await connection.execute(
                    query.where(
                        CHUNKS.c.index_id.in_(index_ids),
                        CHUNKS.c.text_hash.in_(hashes[start : start + _AT_ONCE]),
                        CHUNKS.c.vector.is_not(None),
                    )
                )
                vectors |= {row[0]: row[1] for row in rows}
        return vectors

    async def next_positions(
        self, index_id: UUID, version_ids: Sequence[UUID]
    ) -> Mapping[UUID, int | None]:
        """Return first missing positions; see `CollectionStorage.next_positions`."""
        query = (
            sa.select(
                CHUNKS.c.version_id,
                sa.func.max(CHUNKS.c.position),
                sa.func.max(sa.cast(CHUNKS.c.is_last, sa.Integer)),
            )
            .where(CHUNKS.c.index_id == index_id, CHUNKS.c.version_id.in_(version_ids))
            .group_by(CHUNKS.c.version_id)
        )
        async with self._database.reading() as connection:
            rows = (await connection.execute(query)).all()
        positions: dict[UUID, int | None] = dict.fromkeys(version_ids, 0)
        return positions | {row[0]: None if row[2] else row[1] + 1 for row in rows}

    async def add_chunks(
        self, fence: Fence, index: Index, chunks: Sequence[NewChunk], *, spent: Spent
    ) -> None:
        """Store chunks; see `CollectionStorage.add_chunks`."""
        await unbroken(self._add_chunks(fence, index, chunks, spent=spent))

    async def _add_chunks(
        self, fence: Fence, index: Index, chunks: Sequence[NewChunk], *, spent: Spent
    ) -> None:
        async with self._fenced(fence) as connection:
            version_ids = {chunk.version_id for chunk in chunks}
            existing = sa.select(self._versions.c.id).where(self._versions.c.id.in_(version_ids))
            present = set((await connection.execute(existing.with_for_update())).scalars())
            newest = await connection.execute(sa.select(sa.func.max(CHUNKS.c.id)))
            rows = [_row(index, chunk) for chunk in chunks if chunk.version_id in present]
            if rows:
                await connection.execute(CHUNKS.insert(), rows)
                await self._search.add(connection, index, after=newest.scalar_one() or 0)
            figures = self._collections.c
            values = {"embedded_tokens": figures.embedded_tokens + spent.tokens}
            cost = None if spent.cost_usd is None else figures.cost_usd + spent.cost_usd
            if spent.tokens or spent.cost_usd is None:
                update = self._collections.update().where(figures.id == index.collection_id)
                await connection.execute(update.values(**values, cost_usd=cost))

    async def publish(
        self, fence: Fence, index: Index, versions: Sequence[DocumentVersionRecord]
    ) -> Published:
        """Let documents point to versions; see `CollectionStorage.publish`."""
        return await unbroken(self._publish(fence, index, versions))

    async def _publish(
        self, fence: Fence, index: Index, versions: Sequence[DocumentVersionRecord]
    ) -> Published:
        async with self._fenced(fence) as connection:
            collection = await self._rows.lock(connection, index.collection_id)
            if collection.index_id != index.id:
                raise IndexMovedError("the collection was rebuilt meanwhile")
            published, obsolete, growth = await self._point(connection, index, versions)
            await self._rows.delete_versions(connection, obsolete)
            if published.visible:
                await self._rows.grow(connection, collection, growth)
        return published

    async def _point(
        self,
        connection: AsyncConnection,
        index: Index,
        versions: Sequence[DocumentVersionRecord],
    ) -> tuple[Published, list[UUID], Growth]:
        """Let documents point to complete versions; return what is to be deleted, and the growth.

        An incomplete version stays as it is, to be written.
        """
        counts = await self._rows.chunk_counts(connection, index, versions)
        documents = await self._rows.documents(connection, index.collection_id, versions)
        obsolete: list[UUID] = []
        visible: list[DocumentVersionRecord] = []
        unchanged = replaced = 0
        for version in versions:
            document = documents.get(version.key)
            is_unchanged = document and document.content_hash == version.content_hash
            if document is not None and (is_unchanged or document.version_id > version.id):
                obsolete.append(version.id)
                unchanged += bool(is_unchanged)
            elif version.id in counts:
                visible.append(version)
                if document is not None:
                    obsolete.append(document.version_id)
                    replaced += 1
        growth = Growth()
        if visible:
            growth = await self._rows.point(connection, documents, versions=visible, counts=counts)
        published = Published(visible=len(visible), unchanged=unchanged, replaced=replaced)
        return published, obsolete, growth

    async def incomplete_versions(
        self, index: Index, *, after: UUID | None, limit: int
    ) -> Sequence[DocumentVersionRecord]:
        """Return what an index lacks; see `CollectionStorage.incomplete_versions`."""
        key = self._versions.c.id
        query = self._incomplete(index).order_by(key).limit(limit)
        if after is not None:  # a search from the beginning would read what is complete every time
            query = query.where(key > after)
        async with self._database.reading() as connection:
            rows = (await connection.execute(query)).mappings().all()
        return [DocumentVersionRecord(**row) for row in rows]

    def _incomplete(self, index: Index) -> sa.Select[Any]:
        complete = sa.exists().where(
            CHUNKS.c.version_id == self._versions.c.id,
            CHUNKS.c.index_id == index.id,
            CHUNKS.c.is_last,
        )
        return (
            sa.select(self._versions)
            .join(self._documents, self._documents.c.version_id == self._versions.c.id)
            .where(self._documents.c.collection_id == index.collection_id, ~complete)
        )

    async def adopt_index(
        self, fence: Fence, index: Index, values: Mapping[str, Any]
    ) -> UUID | None:
        """Let searches use an index; see `CollectionStorage.adopt_index`."""
        return await unbroken(self._adopt_index(fence, index, values))

    async def _adopt_index(
        self, fence: Fence, index: Index, values: Mapping[str, Any]
    ) -> UUID | None:
        async with self._fenced(fence) as connection:
            collection = await self._rows.lock(connection, index.collection_id)
            incomplete = await connection.execute(self._incomplete(index).limit(1))
            if incomplete.first() is not None:
                return None
            rule = self._collections.c.id == index.collection_id
            await connection.execute(
                self._collections.update().where(rule).values(index_id=index.id, **values)
            )
            await self._rows.recount(connection, collection, index)
        before: UUID = collection.index_id
        return before

    async def finish_index(self, index: Index, *, has_removals: bool) -> None:
        """Make searches fast; see `CollectionStorage.finish_index`."""
        await unbroken(self._search.finish(index, has_removals=has_removals))

    async def drop_indexes(
        self, collection_id: UUID, *, keep: Sequence[UUID], empty: Sequence[UUID] = ()
    ) -> None:
        """Delete indexes; see `CollectionStorage.drop_indexes`."""
        await unbroken(self._drop_indexes(collection_id, keep, empty))

    async def _drop_indexes(
        self, collection_id: UUID, keep: Sequence[UUID], empty: Sequence[UUID]
    ) -> None:
        async with self._database.writing() as connection:
            versions = sa.select(self._versions.c.id).where(
                self._versions.c.collection_id == collection_id
            )
            rule = CHUNKS.c.version_id.in_(versions), CHUNKS.c.index_id.not_in(keep)
            indexes = await connection.execute(sa.select(CHUNKS.c.index_id).where(*rule).distinct())
            index_ids = {*indexes.scalars(), *empty}
            await connection.execute(CHUNKS.delete().where(*rule))
            for index_id in index_ids:
                await self._search.drop(connection, index_id)
                self._cache.forget(index_id)

    async def discard_pending(self, collection_id: UUID, ingestion_ids: Sequence[UUID]) -> None:
        """Delete pending versions; see `CollectionStorage.discard_pending`."""
        await unbroken(self._discard_pending(collection_id, ingestion_ids))

    async def _discard_pending(self, collection_id: UUID, ingestion_ids: Sequence[UUID]) -> None:
        pending = sa.select(self._versions.c.id).where(
            self._versions.c.collection_id == collection_id,
            self._versions.c.status == "pending",
            self._versions.c.ingestion_id.in_(ingestion_ids),
        )
        while True:
            async with self._database.writing() as connection:
                ids = (await connection.execute(pending.limit(_AT_ONCE))).scalars().all()
                await self._rows.delete_versions(connection, ids)
            if len(ids) < _AT_ONCE:
                return

    async def delete_documents(
        self, collection: CollectionRecord, keys: Sequence[str], entry: AuditEntry
    ) -> list[str]:
        """Delete documents; see `CollectionStorage.delete_documents`."""
        return await unbroken(self._delete_documents(collection, keys, entry))

    async def _delete_documents(
        self, collection: CollectionRecord, keys: Sequence[str], entry: AuditEntry
    ) -> list[str]:
        async with self._database.writing() as connection:
            row = await self._rows.lock(connection, collection.id)
            versions = self._versions.c
            deleted, growth = await self._rows.delete_documents(connection, collection.id, keys)
            ids = sa.select(versions.id).where(
                versions.collection_id == collection.id, versions.key.in_(keys)
            )
            await self._rows.delete_versions(
                connection, (await connection.execute(ids)).scalars().all()
            )
            if deleted:
                await self._rows.grow(connection, row, growth)
            values = {part.name: getattr(entry, part.name) for part in fields(entry)}
            await connection.execute(self._entries.insert().values(**values))
            return deleted

    async def search(self, query: ChunkQuery) -> ChunkMatches:
        """Return the best chunks; see `CollectionStorage.search`."""
        return await unbroken(self._matches(query))

    async def _matches(self, query: ChunkQuery) -> ChunkMatches:
        tries = 0
        while True:
            try:
                async with self._snapshot(query.index) as (connection, snapshot):
                    return await self._matches_now(connection, query, snapshot)
            except StaleViewError:  # another search has seen a later revision
                tries += 1
                if tries % _TRIES == 0:  # which is gone: a backup was restored
                    self._cache.forget(query.index.id)

    async def _matches_now(
        self, connection: AsyncConnection, query: ChunkQuery, snapshot: Snapshot
    ) -> ChunkMatches:
        lexical, dense = await self._rankings(connection, query, snapshot)
        ranking = lexical or dense.ranking
        if lexical and dense.ranking:
            keys = [[key for key, _ in each] for each in (lexical, dense.ranking)]
            ranking = fuse(keys[0], keys[1], query.weight)
        return ChunkMatches(
            passages=await self._passages(connection, ranking[: query.k]),
            scanned=dense.scanned,
            exact=dense.exact,
        )

    async def _rankings(
        self, connection: AsyncConnection, query: ChunkQuery, snapshot: Snapshot
    ) -> tuple[Ranking, DenseRanking]:
        """Rank by words and by vectors, these in a thread while words are read."""
        if query.vector is None:
            lexical = await self._search.lexical(connection, query, snapshot)
            return lexical, DenseRanking(ranking=[], scanned=None)
        rank = await self._search.dense(connection, query, snapshot)
        if query.text is None:
            return [], await asyncio.to_thread(rank)
        dense = asyncio.create_task(asyncio.to_thread(rank))
        try:
            lexical = await self._search.lexical(connection, query, snapshot)
        finally:
            await dense
        return lexical, dense.result()

    async def texts(self, index: Index, *, limit: int) -> Sequence[Passage] | None:
        """Return all documents; see `CollectionStorage.texts`."""
        return await unbroken(self._texts(index, limit))

    async def _texts(self, index: Index, limit: int) -> Sequence[Passage] | None:
        documents, versions = self._documents.c, self._versions.c
        rule = documents.collection_id == index.collection_id
        async with self._snapshot(index) as (connection, _):
            total = sa.select(sa.func.coalesce(sa.func.sum(documents.characters), 0)).where(rule)
            if (await connection.execute(total)).scalar_one() > limit:
                return None
            query = (
                sa.select(documents.key, documents.version, versions.text, versions.metadata)
                .join(self._versions, versions.id == documents.version_id)
                .where(rule)
                .order_by(documents.key)
            )
            rows = (await connection.execute(query)).all()
        return [
            Passage(
                id=row.key,
                text=row.text,
                metadata=row.metadata,
                document=row.key,
                version=row.version,
                start=0,
                end=len(row.text),
            )
            for row in rows
        ]

    @asynccontextmanager
    async def _fenced(self, fence: Fence) -> AsyncIterator[AsyncConnection]:
        """Give a transaction that holds the row of a job at its turn."""
        row = self._ingestions.c
        query = sa.select(row.id).where(
            row.id == fence.job_id, row.turn == fence.turn, row.status == "running"
        )
        async with self._database.writing() as connection:
            if (await connection.execute(query.with_for_update())).first() is None:
                raise ConflictError(
                    f"the job {str(fence.job_id)!r} goes on elsewhere, or was stopped"
                )
            yield connection

    @asynccontextmanager
    async def _snapshot(self, index: Index) -> AsyncIterator[tuple[AsyncConnection, Snapshot]]:
        """Give a connection that sees the collection as it is now, until the end of the block."""
        row = self._collections.c
        query = sa.select(row.index_id, row.revision, row.chunks, row.status).where(
            row.id == index.collection_id
        )
        async with self._database.reading() as connection:
            if not self._database.is_sqlite:
                await connection.execution_options(isolation_level="REPEATABLE READ")
            collection = (await connection.execute(query)).first()
            if collection is None or collection.status != "ready":
                raise NotFoundError("the collection was deleted")
            if collection.index_id != index.id:
                raise IndexMovedError("the collection was rebuilt meanwhile")
            yield connection, Snapshot(revision=collection.revision, chunks=collection.chunks)

    async def _passages(self, connection: AsyncConnection, ranking: Ranking) -> Sequence[Passage]:
        documents, chunks = self._documents.c, CHUNKS.c
        query = (
            sa.select(
                *(chunks.id, chunks.position, chunks.text, chunks.metadata),
                *(chunks.start_offset, chunks.end_offset, documents.key, documents.version),
            )
            .join(self._documents, documents.version_id == chunks.version_id)
            .where(chunks.id.in_([key for key, _ in ranking]))
        )
        rows = {row.id: row for row in await connection.execute(query)}
        return [_passage(rows[key], score) for key, score in ranking]


def _passage(row: Any, score: float) -> Passage:
    return Passage(
        id=f"{row.key}#{row.position}",
        text=row.text,
        score=score,
        metadata=row.metadata,
        document=row.key,
        version=row.version,
        start=row.start_offset,
        end=row.end_offset,
    )


def _row(index: Index, chunk: NewChunk) -> dict[str, Any]:
    return {
        "index_id": index.id,
        "version_id": chunk.version_id,
        "position": chunk.position,
        "is_last": chunk.is_last,
        "start_offset": chunk.start,
        "end_offset": chunk.end,
        "text_hash": chunk.text_hash,
        "metadata": dict(chunk.metadata),
        "text": chunk.text,
        "vector": chunk.vector,
    }
