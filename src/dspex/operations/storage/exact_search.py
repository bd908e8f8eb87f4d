"""Exact search by vectors, which are compared in NumPy."""

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Final

from sqlalchemy.ext.asyncio import AsyncConnection

from dspex.operations.collections.collection_storage import ChunkQuery, Index
from dspex.operations.storage.chunk_search import (
    VISIBLE,
    DenseRanking,
    Ranking,
    Snapshot,
    bound,
)
from dspex.operations.storage.conditions import Compile, conditions_sql
from dspex.operations.storage.memory_cache import MemoryCache

if TYPE_CHECKING:  # they import numpy, which belongs to an extra
    from dspex.operations.storage.arrays import Mask
    from dspex.operations.storage.chunk_memory import Vectors
    from dspex.operations.storage.memory_loader import MemoryLoader
    from dspex.operations.storage.view import View

_PORTION: Final = 5_000


class ExactSearch:
    """Ranks all visible vectors of an index; those of small collections are kept in memory."""

    def __init__(
        self, cache: MemoryCache, compile_condition: Compile, *, list_function: str
    ) -> None:
        """Take the indexes in memory, and two things that each database writes in its way."""
        self._cache = cache
        self._compile = compile_condition
        self._list_function = list_function

    def loader(self, connection: AsyncConnection, index: Index) -> "MemoryLoader":
        """Return what reads an index into memory."""
        from dspex.operations.storage.memory_loader import MemoryLoader

        return MemoryLoader(self._cache, connection, index, list_function=self._list_function)

    async def dense(
        self, connection: AsyncConnection, query: ChunkQuery, snapshot: Snapshot
    ) -> DenseRanking:
        """Return the best chunks by their vectors; see `ChunkSearch.dense`."""
        from dspex.operations.storage.chunk_memory import best_vectors

        vector, dimensions = query.vector, query.index.dimensions
        if vector is None or dimensions is None or not snapshot.chunks:
            return DenseRanking(ranking=[], scanned=0)
        if not self._cache.fits(snapshot.chunks, dimensions):
            return await self._in_portions(connection, query, vector)
        loader = self.loader(connection, query.index)
        view = await loader.view(snapshot)
        vectors = await loader.vectors(view, dimensions)
        allowed = await self.allowed(loader, query, view)
        ranks = partial(best_vectors, view.ids, vectors, allowed=allowed, limit=query.limit)
        ranking, scanned = await asyncio.to_thread(ranks, vector)
        return DenseRanking(ranking=ranking, scanned=scanned)

    async def allowed(
        self, loader: "MemoryLoader", query: ChunkQuery, view: "View"
    ) -> "Mask | None":
        """Return which chunks of a view are visible and meet the conditions; None: all."""
        from dspex.operations.storage.arrays import both

        if not query.where:
            return view.visible
        metadata = await loader.metadata(view)
        if metadata is None:
            return await self._passing(loader.connection, query, view)
        passing = await asyncio.to_thread(metadata.passing, query.where, view.count)
        return both(view.visible, passing)

    async def _passing(
        self, connection: AsyncConnection, query: ChunkQuery, view: "View"
    ) -> "Mask":
        """Let the database compare metadata that is too large for the memory."""
        import numpy as np

        sql, values = conditions_sql(query.where, "c.metadata", self._compile)
        rows = await connection.execute(bound(f"SELECT c.id {VISIBLE}{sql}", query.index, values))
        mask = np.zeros(view.count, dtype=np.bool_)
        mask[view.positions(np.array(rows.scalars().all(), dtype=np.int64))] = True
        return mask

    async def _in_portions(
        self, connection: AsyncConnection, query: ChunkQuery, vector: "Vectors"
    ) -> DenseRanking:
        """Rank a collection that is too large for the memory, a portion at a time."""
        import numpy as np

        from dspex.operations.storage.arrays import best_of

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
            data = b"".join(row[1] for row in rows)
            scores = np.frombuffer(data, dtype="<f4").reshape(len(rows), len(vector)) @ vector
            ids = np.array([*(key for key, _ in best), *(row[0] for row in rows)], dtype=np.int64)
            best_scores = np.array([score for _, score in best], dtype=np.float32)
            best = best_of(ids, np.concatenate([best_scores, scores]), query.limit)
            after, scanned = rows[-1][0], scanned + len(rows)
