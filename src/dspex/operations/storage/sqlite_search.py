"""Searches in SQLite: FTS5 for words, and vectors in NumPy; no extension has to be loaded."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from dspex.execution.retrieval.words import words_of
from dspex.operations.collections.collection_storage import ChunkQuery, Index
from dspex.operations.storage.chunk_search import (
    VISIBLE,
    Ranking,
    RankVectors,
    Snapshot,
    bound,
)
from dspex.operations.storage.chunk_tables import CHUNKS, search_table
from dspex.operations.storage.conditions import conditions_sql, sqlite_condition
from dspex.operations.storage.database import Database
from dspex.operations.storage.memory_cache import MemoryCache
from dspex.operations.storage.memory_search import MemorySearch
from dspex.operations.storage.sqlite_words import FTS5Words
from dspex.operations.storage.tokenizer import tokenizer

MATCHED: Final = 2_000
"""FTS5 ranks the words of an index of so many chunks; those of a larger one are in memory."""


class SQLiteSearch:
    """A table of FTS5 for each index, whose texts are those of `chunks`.

    It also has the chunks that no document points to; searches leave those out.
    """

    def __init__(self, database: Database, cache: MemoryCache) -> None:
        """Take the database and the indexes in memory."""
        self._database = database
        self._memory = MemorySearch(
            cache, FTS5Words(), sqlite_condition, list_function="json_group_array"
        )

    async def create(self, connection: AsyncConnection, index: Index) -> None:
        """Make the table; see `ChunkSearch.create`."""
        await connection.exec_driver_sql(
            f"CREATE VIRTUAL TABLE IF NOT EXISTS {search_table(index.id)} USING fts5("
            f"text, content='chunks', content_rowid='id', "
            f"tokenize='{tokenizer(index.language)}')"
        )

    async def add(self, connection: AsyncConnection, index: Index, *, after: int) -> None:
        """Add new chunks; see `ChunkSearch.add`."""
        sql = (
            f"INSERT INTO {search_table(index.id)} (rowid, text) "
            "SELECT id, text FROM chunks WHERE index_id = :index_id AND id > :after"
        )
        await connection.execute(bound(sql, index, {"after": after}))

    async def remove(
        self, connection: AsyncConnection, index_id: UUID, version_ids: Sequence[UUID]
    ) -> None:
        """Remove chunks; see `ChunkSearch.remove`. FTS5 asks for the texts that it has."""
        rows = sa.select(sa.literal("delete"), CHUNKS.c.id, CHUNKS.c.text).where(
            CHUNKS.c.index_id == index_id, CHUNKS.c.version_id.in_(version_ids)
        )
        name = search_table(index_id)
        table = sa.table(name, *(sa.column(column) for column in (name, "rowid", "text")))
        await connection.execute(sa.insert(table).from_select([name, "rowid", "text"], rows))

    async def drop(self, connection: AsyncConnection, index_id: UUID) -> None:
        """Drop the table; see `ChunkSearch.drop`."""
        await connection.exec_driver_sql(f"DROP TABLE IF EXISTS {search_table(index_id)}")

    async def finish(self, index: Index, *, has_removals: bool) -> None:
        """Merge what was added and removed, so that no removed word is left in the table."""
        if not has_removals:
            return
        name = search_table(index.id)
        async with self._database.writing() as connection:
            await connection.exec_driver_sql(f"INSERT INTO {name} ({name}) VALUES ('optimize')")

    async def lexical(
        self, connection: AsyncConnection, query: ChunkQuery, snapshot: Snapshot
    ) -> Ranking:
        """Return the best chunks by BM25; see `ChunkSearch.lexical`."""
        words = words_of(query.text or "")
        if not words:
            return []
        # FTS5 would read the row of each chunk that has any of the words
        if snapshot.chunks > MATCHED and self._memory.has_room_for_words(snapshot):
            return await self._memory.lexical(connection, query, snapshot, words=words)
        return await self._matched(connection, query, words)

    async def _matched(
        self, connection: AsyncConnection, query: ChunkQuery, words: Sequence[str]
    ) -> Ranking:
        """Let FTS5 rank."""
        name = search_table(query.index.id)
        text = " OR ".join(f'"{word}"' for word in words)
        sql, values = conditions_sql(query.where, "c.metadata", sqlite_condition)
        statement = (
            f"SELECT rowid, rank FROM {name} WHERE {name} MATCH :words "
            f"AND +rowid IN (SELECT c.id {VISIBLE}{sql}) ORDER BY rank, rowid LIMIT :most"
        )
        page = {**values, "words": text, "most": query.limit}
        rows = await connection.execute(bound(statement, query.index, page))
        return [(row[0], -row[1]) for row in rows]

    async def dense(
        self, connection: AsyncConnection, query: ChunkQuery, snapshot: Snapshot
    ) -> RankVectors:
        """Return what ranks the best chunks by their vectors; see `ChunkSearch.dense`."""
        return await self._memory.dense(connection, query, snapshot)
