"""Searches in PostgreSQL: tsvector for words, and vectors in memory or by pgvector."""

from collections.abc import Sequence
from functools import partial
from typing import Final
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from dspex.errors import ConfigurationError
from dspex.execution.retrieval.words import words_of
from dspex.operations.collections.collection_storage import ChunkQuery, Index
from dspex.operations.storage.chunk_search import (
    DenseRanking,
    Ranking,
    RankVectors,
    Snapshot,
    bound,
)
from dspex.operations.storage.chunk_tables import CHUNKS, search_table
from dspex.operations.storage.conditions import conditions_sql, postgres_condition
from dspex.operations.storage.database import Database
from dspex.operations.storage.memory_cache import MemoryCache
from dspex.operations.storage.memory_search import MemorySearch
from dspex.operations.storage.postgres_vectors import PostgresVectors
from dspex.operations.storage.postgres_words import TSVectorWords, configuration, plain_text

REMEDIES: Final = (
    "Raise `search_memory_mib` so that they fit into memory; or a superuser of the database runs "
    "`CREATE EXTENSION vector`, and then `dspex collection rebuild` makes an index"
)
_MAX_EXACT: Final = 3_000  # chunks that pass a filter and are ranked exactly
_MAX_PORTIONS: Final = 500_000  # chunks of a collection whose vectors each search reads


class PostgresSearch:
    """A table for each index, with the words and the metadata of its chunks.

    Collections are searched in the memory of this process; `PostgresVectors` has vectors that do
    not fit into it.
    """

    def __init__(self, database: Database, cache: MemoryCache) -> None:
        """Take the database and the indexes in memory."""
        self._database = database
        self._vectors = PostgresVectors(database)
        self._memory = MemorySearch(
            cache, TSVectorWords(), postgres_condition, list_function="json_agg"
        )

    async def create(self, connection: AsyncConnection, index: Index) -> None:
        """Make the table; see `ChunkSearch.create`."""
        name = search_table(index.id)
        await connection.exec_driver_sql(
            f"CREATE TABLE IF NOT EXISTS {name} (chunk_id bigint PRIMARY KEY REFERENCES chunks "
            "ON DELETE CASCADE, version_id uuid NOT NULL, metadata jsonb NOT NULL, "
            "words tsvector NOT NULL)"
        )
        await connection.exec_driver_sql(
            f"CREATE INDEX IF NOT EXISTS {name}_words ON {name} USING gin (words)"
        )

    async def add(self, connection: AsyncConnection, index: Index, *, after: int) -> None:
        """Add new chunks; see `ChunkSearch.add`."""
        query = sa.select(CHUNKS.c.id, CHUNKS.c.text).where(
            CHUNKS.c.index_id == index.id, CHUNKS.c.id > after
        )
        rows = (await connection.execute(query)).all()
        sql = (
            f"INSERT INTO {search_table(index.id)} (chunk_id, version_id, metadata, words) "
            "SELECT c.id, c.version_id, c.metadata, "
            f"to_tsvector('{configuration(index)}', t.words) "
            "FROM unnest(CAST(:ids AS bigint[]), CAST(:texts AS text[])) AS t (id, words) "
            "JOIN chunks AS c ON c.id = t.id"
        )
        texts = [plain_text(index, row.text) for row in rows]
        await connection.execute(
            bound(sql, index, {"ids": [row.id for row in rows], "texts": texts})
        )
        await self._vectors.add(connection, index, after=after)

    async def remove(
        self, connection: AsyncConnection, index_id: UUID, version_ids: Sequence[UUID]
    ) -> None:
        """Do nothing: rows are deleted with their chunks."""

    async def drop(self, connection: AsyncConnection, index_id: UUID) -> None:
        """Drop the tables; see `ChunkSearch.drop`."""
        await self._vectors.drop(connection, index_id)
        await connection.exec_driver_sql(f"DROP TABLE IF EXISTS {search_table(index_id)}")

    async def finish(self, index: Index, *, has_removals: bool) -> None:
        """Merge the words that were added, and index vectors that do not fit into memory."""
        del has_removals  # autovacuum erases them
        name = search_table(index.id)
        async with self._database.autocommit() as connection:
            # each search would read what waits for that
            await connection.exec_driver_sql(f"SELECT gin_clean_pending_list('{name}_words')")
            await connection.exec_driver_sql(f"ANALYZE {name}, documents, chunks")
            rows = await connection.exec_driver_sql(f"SELECT count(*) FROM {name}")
            has_room = self._memory.has_room_for_vectors(rows.scalar_one(), index)
        if not has_room:
            await self._vectors.build(index)

    async def lexical(
        self, connection: AsyncConnection, query: ChunkQuery, snapshot: Snapshot
    ) -> Ranking:
        """Return the best chunks by their words; see `ChunkSearch.lexical`."""
        words = words_of(query.text or "")
        if not words:
            return []
        if self._memory.has_room_for_words(snapshot):
            return await self._memory.lexical(connection, query, snapshot, words=words)
        text = " | ".join(f"'{word}'" for word in plain_text(query.index, " ".join(words)).split())
        conditions, values = conditions_sql(query.where, "s.metadata", postgres_condition)
        terms = f"to_tsquery('{configuration(query.index)}', :words)"
        sql = (
            f"SELECT s.chunk_id, ts_rank_cd(s.words, {terms}, 2) AS rank "
            f"FROM {search_table(query.index.id)} AS s "
            "JOIN documents AS d ON d.version_id = s.version_id "
            f"WHERE s.words @@ {terms}{conditions} ORDER BY rank DESC, s.chunk_id LIMIT :most"
        )
        page = {**values, "words": text, "most": query.limit}
        rows = await connection.execute(bound(sql, query.index, page))
        return [(row[0], row[1]) for row in rows]

    async def dense(
        self, connection: AsyncConnection, query: ChunkQuery, snapshot: Snapshot
    ) -> RankVectors:
        """Return what ranks the best chunks by their vectors; see `ChunkSearch.dense`."""
        if query.vector is None or query.index.dimensions is None:
            return partial(DenseRanking, ranking=[], scanned=0)
        has_room = self._memory.has_room_for_vectors(snapshot.chunks, query.index)
        if has_room or not await self._vectors.has_index(connection, query.index):
            if not has_room and snapshot.chunks > _MAX_PORTIONS:
                raise ConfigurationError(
                    f"the vectors of {snapshot.chunks} chunks are too many for each search to "
                    f"read. {REMEDIES}"
                )
            return await self._memory.dense(connection, query, snapshot)
        ranking = await self._by_pgvector(connection, query, snapshot)
        return lambda: ranking

    async def _by_pgvector(
        self, connection: AsyncConnection, query: ChunkQuery, snapshot: Snapshot
    ) -> DenseRanking:
        """Let the database rank what the memory has no room for."""
        if query.where:
            ids = await self._memory.passing(connection, query, snapshot)
            if len(ids) <= _MAX_EXACT:
                return await self._vectors.rank(connection, query, ids=ids)
        ranking = await self._vectors.scan(connection, query)
        if len(ranking) < min(query.limit, snapshot.chunks):
            # the scan has ended early; an exact one finds what there is
            return await self._vectors.rank(connection, query, ids=None)
        return DenseRanking(ranking=ranking, scanned=None, exact=False)
