"""Searches of one index in one database: by words, and by vectors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from dspex.operations.collections.collection_storage import ChunkQuery, Index
from dspex.operations.storage.conditions import Compile, conditions_sql
from dspex.operations.storage.vector_cache import (
    Matrix,
    VectorCache,
    best_of,
    missing_ids,
    updated,
    vectors_of,
)

if TYPE_CHECKING:  # numpy belongs to an extra
    from dspex.operations.storage.vector_cache import Ids, Vectors

Ranking = list[tuple[int, float]]
_PORTION: Final = 5_000
_IDS_AT_ONCE: Final = 500
VISIBLE: Final = (
    "FROM documents AS d JOIN chunks AS c ON c.version_id = d.version_id "
    "AND c.index_id = :index_id WHERE d.collection_id = :collection_id"
)
"""The chunks that searches of an index see."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What a search knows of its collection: one moment, in one transaction."""

    revision: int
    chunks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DenseRanking:
    """The best chunks by their vectors; see `SearchResult` for the figures."""

    ranking: Ranking
    scanned: int | None
    exact: bool = True


class ChunkSearch(Protocol):
    """The tables in which an index is searched. Each method is part of a transaction."""

    async def create(self, connection: AsyncConnection, index: Index) -> None:
        """Make the table, unless it is there."""
        ...

    async def add(self, connection: AsyncConnection, index: Index, *, after: int) -> None:
        """Add the chunks of an index whose ids are greater than `after`."""
        ...

    async def remove(
        self, connection: AsyncConnection, index_id: UUID, version_ids: Sequence[UUID]
    ) -> None:
        """Remove the chunks of versions, which are deleted next."""
        ...

    async def drop(self, connection: AsyncConnection, index_id: UUID) -> None:
        """Drop the table of an index."""
        ...

    async def finish(self, index: Index, *, has_removals: bool) -> None:
        """Make searches fast, and erase what was removed; in transactions of its own."""
        ...

    async def lexical(
        self, connection: AsyncConnection, query: ChunkQuery, snapshot: Snapshot
    ) -> Ranking:
        """Return the best chunks by their words."""
        ...

    async def dense(
        self, connection: AsyncConnection, query: ChunkQuery, snapshot: Snapshot
    ) -> DenseRanking:
        """Return the best chunks by their vectors."""
        ...


def bound(sql: str, index: Index, values: Mapping[str, Any]) -> sa.TextClause:
    """Return a statement with the ids of an index and other values."""
    ids = {"index_id": index.id, "collection_id": index.collection_id}
    typed = [sa.bindparam(name, value, sa.Uuid()) for name, value in ids.items() if name in sql]
    return sa.text(sql).bindparams(*typed, **values)


class ExactSearch:
    """Ranks all visible vectors of an index with NumPy; small collections are kept in memory."""

    def __init__(self, cache: VectorCache, compile_condition: Compile) -> None:
        """Take the matrices in memory, and how conditions are written in the database."""
        self._cache = cache
        self._compile = compile_condition

    async def dense(
        self, connection: AsyncConnection, query: ChunkQuery, snapshot: Snapshot
    ) -> DenseRanking:
        """Return the best chunks by their vectors; see `ChunkSearch.dense`."""
        import asyncio

        vector, dimensions = query.vector, query.index.dimensions
        if vector is None or dimensions is None or not snapshot.chunks:
            return DenseRanking(ranking=[], scanned=0)
        if not self._cache.fits(snapshot.chunks, dimensions):
            return await self._in_portions(connection, query, vector)
        allowed = await self._ids(connection, query) if query.where else None
        matrix = await self._matrix(connection, query.index, snapshot, dimensions=dimensions)
        ranking, scanned = await asyncio.to_thread(matrix.best, vector, query.limit, allowed)
        return DenseRanking(ranking=ranking, scanned=scanned)

    async def _ids(self, connection: AsyncConnection, query: ChunkQuery) -> "Ids":
        import numpy as np

        sql, values = conditions_sql(query.where, "c.metadata", self._compile)
        rows = await connection.execute(bound(f"SELECT c.id {VISIBLE}{sql}", query.index, values))
        return np.sort(np.array(rows.scalars().all(), dtype=np.int64))

    async def _matrix(
        self, connection: AsyncConnection, index: Index, snapshot: Snapshot, *, dimensions: int
    ) -> Matrix:
        entry = self._cache.get(index.id)
        if entry is not None and entry[0] == snapshot.revision:
            return entry[1]
        before = None if entry is None or entry[0] > snapshot.revision else entry[1]
        visible = await self._ids(connection, ChunkQuery(index=index, limit=1))
        missing = missing_ids(before, visible)
        if before is None or missing is None:
            rows = await self._rows(connection, index, f"SELECT c.id, c.vector {VISIBLE}")
            matrix = Matrix(*vectors_of(sorted(rows), dimensions))
        else:
            rows = []
            for start in range(0, len(missing), _IDS_AT_ONCE):
                ids = ", ".join(
                    str(int(number)) for number in missing[start : start + _IDS_AT_ONCE]
                )
                sql = f"SELECT c.id, c.vector FROM chunks AS c WHERE c.id IN ({ids})"
                rows += await self._rows(connection, index, sql)
            matrix = updated(before, visible, rows)
        self._cache.put(index.id, snapshot.revision, matrix)
        return matrix

    async def _rows(
        self, connection: AsyncConnection, index: Index, sql: str
    ) -> list[tuple[int, bytes]]:
        rows = await connection.execute(bound(sql, index, {}))
        return [(row[0], row[1]) for row in rows]

    async def _in_portions(
        self, connection: AsyncConnection, query: ChunkQuery, vector: "Vectors"
    ) -> DenseRanking:
        """Rank a collection that is too large for the memory, a portion at a time."""
        import numpy as np

        sql, values = conditions_sql(query.where, "c.metadata", self._compile)
        statement = (
            f"SELECT c.id, c.vector {VISIBLE}{sql} AND c.id > :after ORDER BY c.id LIMIT :portion"
        )
        best: Ranking = []
        after = scanned = 0
        while True:
            page = {**values, "after": after, "portion": _PORTION}
            rows = (await connection.execute(bound(statement, query.index, page))).all()
            if not rows:
                return DenseRanking(ranking=best, scanned=scanned)
            ids, vectors = vectors_of([(row[0], row[1]) for row in rows], len(vector))
            after, scanned = int(ids[-1]), scanned + len(ids)
            ids = np.concatenate([np.array([key for key, _ in best], dtype=np.int64), ids])
            scores = np.array([score for _, score in best], dtype=np.float32)
            best = best_of(ids, np.concatenate([scores, vectors @ vector]), query.limit)
