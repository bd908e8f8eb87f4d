"""Reads the chunks of an index into memory, and later only what is new."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import numpy as np
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from dspex.operations.collections.collection_storage import Index
from dspex.operations.storage.arrays import Ids
from dspex.operations.storage.chunk_search import VISIBLE, Snapshot, StaleViewError, bound
from dspex.operations.storage.chunk_tables import CHUNKS
from dspex.operations.storage.memory_cache import MemoryCache
from dspex.operations.storage.metadata_memory import MetadataMemory
from dspex.operations.storage.vector_memory import VectorMemory, VectorQuery, Vectors
from dspex.operations.storage.view import View
from dspex.operations.storage.word_memory import WordMemory, WordQuery
from dspex.operations.storage.word_table import WordTable

_AT_ONCE: Final = 2_000
_COMMON: Final = 500_000  # postings of common terms that are read at first: less than a second
_decode = msgspec.json.Decoder(list[int]).decode


class MemoryLoader:
    """Reads what one search needs of an index, in the transaction of that search.

    Everything is read at the revision that the memory shows. A search whose transaction began
    earlier would miss what came since, and fill its place with nothing: it begins again.
    """

    def __init__(
        self,
        cache: MemoryCache,
        connection: AsyncConnection,
        index: Index,
        *,
        table: WordTable,
        list_function: str,
    ) -> None:
        """Take the indexes in memory, the table of words, and what makes a JSON list of rows."""
        self._cache = cache
        self._memory = cache.memory(index.id)
        self.connection = connection
        self._index = index
        self._table = table
        self._list = list_function

    async def view(self, snapshot: Snapshot) -> View:
        """Return what searches of the index see.

        Raises:
            StaleViewError: another search has seen a later revision.
        """
        memory = self._memory
        async with memory.lock:
            view = memory.view
            if view is not None and view.revision > snapshot.revision:
                raise StaleViewError
            if view is None or view.revision < snapshot.revision:
                view = memory.see(snapshot.revision, await self._visible())
        if memory.is_mostly_hidden:
            self._cache.forget(self._index.id, memory)
        return view

    async def _visible(self) -> Ids:
        sql = f"SELECT CAST({self._list}(c.id) AS text) {VISIBLE}"
        text = (await self.connection.execute(bound(sql, self._index, {}))).scalar_one()
        return np.sort(np.array(_decode(text or "[]"), dtype=np.int64))

    async def vectors(self, view: View, vector: Vectors) -> VectorQuery:
        """Return a query of the chunks of a view; the vectors of deleted ones are zeros."""
        async with self._memory.lock:
            self._check(view)
            vectors = self._memory.vectors or VectorMemory(len(vector))
            self._memory.vectors = vectors
            if vectors.count < view.count:
                await self._load_vectors(view, vectors, size=len(vector))
            query = vectors.query(view, vector)
        self._cache.trim()
        return query

    async def _load_vectors(self, view: View, vectors: VectorMemory, *, size: int) -> None:
        zeros = bytes(4 * size)
        while vectors.count < view.count:
            rows = await self._rows(view, vectors.count, column=CHUNKS.c.vector)
            data = b"".join(zeros if row is None else row for row in rows)
            vectors.append(np.frombuffer(data, dtype="<f4").reshape(len(rows), size))
        await asyncio.to_thread(vectors.outline)

    async def metadata(self, view: View) -> MetadataMemory | None:
        """Return the metadata of the chunks of a view; None if it is too large for the memory."""
        async with self._memory.lock:
            self._check(view)
            metadata = self._memory.metadata or MetadataMemory()
            self._memory.metadata = metadata
            column = sa.cast(CHUNKS.c.metadata, sa.Text)
            while metadata.count < view.count and metadata.nbytes <= self._cache.part:
                rows = await self._rows(view, metadata.count, column=column)
                metadata.append("{}" if row is None else row for row in rows)
            is_complete = metadata.count >= view.count
        self._cache.trim()
        return metadata if is_complete else None

    async def _rows(self, view: View, first: int, *, column: Any) -> Sequence[Any]:
        """Return a column of the next chunks of a view; None for one that was deleted."""
        ids = view.ids[first : first + _AT_ONCE].tolist()
        query = sa.select(CHUNKS.c.id, column).where(CHUNKS.c.id.in_(ids))
        values = {row[0]: row[1] for row in await self.connection.execute(query)}
        return [values.get(key) for key in ids]

    async def words(self, view: View, terms: Counter[str]) -> WordQuery:
        """Return a query of the chunks of a view, after reading from the table what it needs."""
        async with self._memory.lock:
            self._check(view)
            words = self._memory.words
            common: Sequence[str] = ()
            if words is None:
                self._memory.words = words = WordMemory(self._cache.part)
                most = min(_COMMON, self._cache.part // 24)  # half of the room
                common = await self._table.common_terms(self.connection, self._index, most=most)
            if words.lengths.count < view.count:
                await self._load_lengths(view, words)
            if missing := words.missing({*terms, *common}, view.count):
                await self._load_terms(view, words, missing)
            query = words.query(view, terms)
        self._cache.trim()
        return query

    async def _load_lengths(self, view: View, words: WordMemory) -> None:
        ids = view.ids[words.lengths.count :]
        first = int(ids.min())
        values = await self._table.lengths(self.connection, self._index, first=first)
        lengths = [values.get(key, 0) for key in ids.tolist()]
        words.lengths.append(np.array(lengths, dtype=np.int32))

    async def _load_terms(self, view: View, words: WordMemory, missing: dict[str, int]) -> None:
        firsts = {term: int(view.ids[complete:].min()) for term, complete in missing.items()}
        postings = await self._table.postings(self.connection, self._index, firsts)
        for (term, complete), (ids, counts) in zip(missing.items(), postings, strict=True):
            positions, present = view.places(ids)
            is_new = positions >= complete
            words.add(term, positions[is_new], counts[present][is_new], complete=view.count)

    def _check(self, view: View) -> None:
        if self._memory.view is not view:
            raise StaleViewError
