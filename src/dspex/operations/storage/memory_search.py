"""Searches of chunks in memory: by words and by vectors, on each database alike."""

import asyncio
from collections.abc import Sequence
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from sqlalchemy.ext.asyncio import AsyncConnection

from dspex.operations.collections.collection_storage import ChunkQuery, Index
from dspex.operations.storage.chunk_search import (
    VISIBLE,
    DenseRanking,
    Ranking,
    RankVectors,
    Snapshot,
    bound,
)
from dspex.operations.storage.conditions import Compile, conditions_sql
from dspex.operations.storage.memory_cache import MemoryCache
from dspex.operations.storage.word_table import WordTable

if TYPE_CHECKING:  # they import numpy, which belongs to an extra
    from dspex.operations.storage.arrays import Mask
    from dspex.operations.storage.memory_loader import MemoryLoader
    from dspex.operations.storage.vector_memory import Vectors
    from dspex.operations.storage.view import View

_PORTION: Final = 5_000


class MemorySearch:
    """Ranks the visible chunks of an index exactly, in NumPy.

    What a search needs is read into memory once; vectors that do not fit are read by each search.
    """

    def __init__(
        self,
        cache: MemoryCache,
        words: WordTable,
        compile_condition: Compile,
        *,
        list_function: str,
    ) -> None:
        """Take the indexes in memory, and the parts that differ between databases."""
        self._cache = cache
        self._words = words
        self._compile = compile_condition
        self._list_function = list_function

    def has_room_for_words(self, snapshot: Snapshot) -> bool:
        """Return whether the words of a collection can be ranked here."""
        return self._cache.fits(snapshot.chunks, 0) and find_spec("numpy") is not None

    def has_room_for_vectors(self, chunks: int, index: Index) -> bool:
        """Return whether the vectors of a collection can be kept in memory."""
        return self._cache.fits(chunks, index.dimensions or 0)

    def loader(self, connection: AsyncConnection, index: Index) -> "MemoryLoader":
        """Return what reads an index into memory."""
        from dspex.operations.storage.memory_loader import MemoryLoader

        return MemoryLoader(
            self._cache,
            connection,
            index,
            table=self._words,
            list_function=self._list_function,
        )

    async def lexical(
        self,
        connection: AsyncConnection,
        query: ChunkQuery,
        snapshot: Snapshot,
        *,
        words: Sequence[str],
    ) -> Ranking:
        """Return the best chunks by BM25."""
        from dspex.operations.storage.word_memory import best_words

        loader = self.loader(connection, query.index)
        view = await loader.view(snapshot)
        terms = await self._words.terms(connection, query.index, words)
        if not terms or not view.count:
            return []
        word_query = await loader.words(view, terms)
        mask = await self.mask(loader, query, view) if query.where else None
        return await asyncio.to_thread(best_words, word_query, query.limit, mask)

    async def dense(
        self, connection: AsyncConnection, query: ChunkQuery, snapshot: Snapshot
    ) -> RankVectors:
        """Return what ranks the best chunks by their vectors; see `ChunkSearch.dense`."""
        vector = query.vector
        if vector is None or query.index.dimensions is None or not snapshot.chunks:
            return partial(DenseRanking, ranking=[], scanned=0)
        if not self.has_room_for_vectors(snapshot.chunks, query.index):
            ranking, scanned = await self._in_portions(connection, query, vector)
            return partial(DenseRanking, ranking=ranking, scanned=scanned)
        loader = self.loader(connection, query.index)
        view = await loader.view(snapshot)
        vectors = await loader.vectors(view, vector)
        mask = await self.mask(loader, query, view)

        def rank() -> DenseRanking:
            ranking, scanned = vectors.best(query.limit, mask)
            return DenseRanking(ranking=ranking, scanned=scanned)

        return rank

    async def passing(
        self, connection: AsyncConnection, query: ChunkQuery, snapshot: Snapshot
    ) -> Sequence[int]:
        """Return the ids of all visible chunks that meet the conditions."""
        loader = self.loader(connection, query.index)
        view = await loader.view(snapshot)
        mask = await self.mask(loader, query, view)
        ids: list[int] = (view.ids if mask is None else view.ids[mask]).tolist()
        return ids

    async def mask(self, loader: "MemoryLoader", query: ChunkQuery, view: "View") -> "Mask | None":
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
    ) -> tuple[Ranking, int]:
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
                return best, scanned
            data = b"".join(row[1] for row in rows)
            scores = np.frombuffer(data, dtype="<f4").reshape(len(rows), len(vector)) @ vector
            ids = np.array([*(key for key, _ in best), *(row[0] for row in rows)], dtype=np.int64)
            best_scores = np.array([score for _, score in best], dtype=np.float32)
            best = best_of(ids, np.concatenate([best_scores, scores]), query.limit)
            after, scanned = rows[-1][0], scanned + len(rows)
