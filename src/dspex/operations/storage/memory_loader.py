"""Reads the chunks of an index into memory, and later only what is new."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import numpy as np
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from dspex.operations.collections.collection_storage import Index
from dspex.operations.storage.arrays import GrowingArray, Ids
from dspex.operations.storage.chunk_memory import Vectors
from dspex.operations.storage.chunk_search import VISIBLE, Snapshot, StaleViewError, bound
from dspex.operations.storage.chunk_tables import CHUNKS, search_table
from dspex.operations.storage.memory_cache import MemoryCache
from dspex.operations.storage.metadata_memory import MetadataMemory
from dspex.operations.storage.view import View
from dspex.operations.storage.word_memory import WordMemory, WordQuery

_AT_ONCE: Final = 2_000
_decode = msgspec.json.Decoder(list[int]).decode


class MemoryLoader:
    """Reads what one search needs of an index, in the transaction of that search.

    Everything is read at the revision that the memory shows. A search whose transaction began
    earlier would miss what came since, and fill its place with nothing: it begins again.
    """

    def __init__(
        self, cache: MemoryCache, connection: AsyncConnection, index: Index, *, list_function: str
    ) -> None:
        """Take the indexes in memory, and the function that makes a JSON list of rows."""
        self._cache = cache
        self._memory = cache.memory(index.id)
        self.connection = connection
        self._index = index
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

    async def vectors(self, view: View, dimensions: int) -> Vectors:
        """Return the vectors of the chunks of a view; zeros for deleted ones."""
        async with self._memory.lock:
            self._check(view)
            vectors = self._memory.vectors or GrowingArray(np.float32, dimensions)
            self._memory.vectors = vectors
            zeros = bytes(4 * dimensions)
            while vectors.count < view.count:
                rows = await self._rows(view, vectors.count, column=CHUNKS.c.vector)
                data = b"".join(zeros if row is None else row for row in rows)
                vectors.append(np.frombuffer(data, dtype="<f4").reshape(len(rows), dimensions))
        self._cache.trim()
        return vectors.rows[: view.count]

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
        """Return a query of the chunks of a view, after reading from FTS5 what it needs."""
        async with self._memory.lock:
            self._check(view)
            words = self._memory.words or WordMemory(self._cache.part)
            self._memory.words = words
            if words.lengths.count < view.count:
                await self._load_lengths(view, words)
            if missing := words.missing(terms, view.count):
                await self._load_terms(view, words, missing)
            query = words.query(view, terms)
        self._cache.trim()
        return query

    async def _load_lengths(self, view: View, words: WordMemory) -> None:
        ids = view.ids[words.lengths.count :]
        sql = f"SELECT id, sz FROM {search_table(self._index.id)}_docsize WHERE id >= :first"
        rows = await self.connection.execute(sa.text(sql).bindparams(first=int(ids.min())))
        values = {row[0]: token_count(row[1]) for row in rows}
        lengths = [values.get(key, 0) for key in ids.tolist()]
        words.lengths.append(np.array(lengths, dtype=np.int32))

    async def _load_terms(self, view: View, words: WordMemory, missing: dict[str, int]) -> None:
        table = f"temp.terms_{self._index.id.hex}"
        await self.connection.exec_driver_sql(
            f"CREATE VIRTUAL TABLE {table} "
            f"USING fts5vocab('main', '{search_table(self._index.id)}', 'instance')"
        )
        values: dict[str, Any] = {}
        parts: list[str] = []
        for number, (term, complete) in enumerate(missing.items()):
            values |= {f"t{number}": term, f"f{number}": int(view.ids[complete:].min())}
            rule = f"term = :t{number} AND doc >= :f{number}"
            parts.append(f"SELECT json_group_array(doc) FROM {table} WHERE {rule}")
        # one statement: each one costs a turn of the thread of the connection
        sql = sa.text(" UNION ALL ".join(parts)).bindparams(**values)
        lists = (await self.connection.execute(sql)).scalars().all()
        for (term, complete), ids in zip(missing.items(), lists, strict=True):
            positions = view.positions(np.array(_decode(ids), dtype=np.int64))
            words.add(term, positions[positions >= complete], view.count)
        await self.connection.exec_driver_sql(f"DROP TABLE {table}")

    def _check(self, view: View) -> None:
        if self._memory.view is not view:
            raise StaleViewError


def token_count(data: bytes) -> int:
    """Return the length of a text from its form in FTS5: seven bits a byte, the last below 128."""
    value = 0
    for byte in data:
        value = value << 7 | byte & 0x7F
    return value
