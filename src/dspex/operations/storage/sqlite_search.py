"""Searches in SQLite: FTS5 for words, and vectors in NumPy; no extension has to be loaded."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from dspex.execution.retrieval.words import words_of
from dspex.operations.collections.collection_storage import ChunkQuery, Index
from dspex.operations.storage.chunk_search import (
    VISIBLE,
    DenseRanking,
    ExactSearch,
    Ranking,
    Snapshot,
    bound,
)
from dspex.operations.storage.chunk_tables import CHUNKS, search_table
from dspex.operations.storage.conditions import conditions_sql, sqlite_condition
from dspex.operations.storage.database import Database
from dspex.operations.storage.vector_cache import VectorCache

_SPARE: Final = 20
_MAX_WORDS_CACHED: Final = 10_000


class SQLiteSearch:
    """A table of FTS5 for each index, whose texts are those of `chunks`.

    It also has the chunks that no document points to; searches leave those out.
    """

    def __init__(self, database: Database, cache: VectorCache) -> None:
        """Take the database and the vectors in memory."""
        self._database = database
        self._exact = ExactSearch(cache, sqlite_condition)
        self._common: OrderedDict[tuple[UUID, int, str], bool] = OrderedDict()

    async def create(self, connection: AsyncConnection, index: Index) -> None:
        """Make the table; see `ChunkSearch.create`."""
        stem = "porter " if index.language == "en" else ""
        await connection.exec_driver_sql(
            f"CREATE VIRTUAL TABLE IF NOT EXISTS {search_table(index.id)} USING fts5("
            f"text, content='chunks', content_rowid='id', "
            f"tokenize='{stem}unicode61 remove_diacritics 2')"
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
        rare = [
            word for word in words if not await self._is_common(connection, query, snapshot, word)
        ]
        ranking = await self._match(connection, query, rare)
        if len(ranking) < query.limit and len(rare) < len(words):
            return await self._match(connection, query, words)
        return ranking

    async def _match(
        self, connection: AsyncConnection, query: ChunkQuery, words: Sequence[str]
    ) -> Ranking:
        if not words:
            return []
        name = search_table(query.index.id)
        text = " OR ".join(f'"{word}"' for word in words)
        sql, values = conditions_sql(query.where, "c.metadata", sqlite_condition)
        if query.where:
            statement = (
                f"SELECT rowid, rank, 1 FROM {name} WHERE {name} MATCH :words "
                f"AND +rowid IN (SELECT c.id {VISIBLE}{sql}) ORDER BY rank, rowid LIMIT :most"
            )
        else:
            seen = f"SELECT 1 {VISIBLE} AND c.id = f.rowid"
            statement = (
                f"SELECT f.rowid, f.rank, EXISTS ({seen}) FROM (SELECT rowid, rank FROM {name} "
                f"WHERE {name} MATCH :words ORDER BY rank, rowid LIMIT :most) AS f"
            )
        most = query.limit + _SPARE
        while True:  # most rows that FTS5 finds are visible; rarely many are not
            page = {**values, "words": text, "most": most}
            rows = (await connection.execute(bound(statement, query.index, page))).all()
            ranking = [(row[0], -row[1]) for row in rows if row[2]][: query.limit]
            if len(ranking) == query.limit or len(rows) < most:
                return ranking
            most *= 8

    async def _is_common(  # noqa: PLR0917
        self, connection: AsyncConnection, query: ChunkQuery, snapshot: Snapshot, word: str
    ) -> bool:
        """Return whether more than half of the chunks have a word: BM25 gives it no weight."""
        key = (query.index.id, snapshot.revision, word)
        if key not in self._common:
            name = search_table(query.index.id)
            half = snapshot.chunks // 2 + 1
            sql = (
                f"SELECT count(*) FROM (SELECT 1 FROM {name} WHERE {name} MATCH :word LIMIT :half)"
            )
            values = {"word": f'"{word}"', "half": half}
            count = (await connection.execute(sa.text(sql).bindparams(**values))).scalar_one()
            self._common[key] = count >= half and snapshot.chunks > _SPARE
            while len(self._common) > _MAX_WORDS_CACHED:
                self._common.popitem(last=False)
        return self._common[key]

    async def dense(
        self, connection: AsyncConnection, query: ChunkQuery, snapshot: Snapshot
    ) -> DenseRanking:
        """Return the best chunks by their vectors; see `ChunkSearch.dense`."""
        return await self._exact.dense(connection, query, snapshot)
