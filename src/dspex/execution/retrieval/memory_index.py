"""An index in memory: BM25 by FTS5 of SQLite, and exact dense search in NumPy."""

import sqlite3
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dspex.execution.retrieval.fusion import fuse
from dspex.execution.retrieval.retriever import SearchMode
from dspex.execution.retrieval.where import Where
from dspex.execution.retrieval.words import words_of
from dspex.language.records import Passage

if TYPE_CHECKING:  # numpy belongs to an extra
    import numpy
    from numpy.typing import NDArray

    Vectors = NDArray[numpy.float32]

Ranking = list[tuple[int, float]]
"""Positions of passages with their scores, best first."""


class MemoryIndex:
    """Ranks passages; immutable and safe to share between threads.

    `language` "en" stems words. Stored collections on SQLite use the same tokenizer and BM25.
    """

    def __init__(
        self, passages: Sequence[Passage], vectors: "Vectors | None", *, language: str | None = None
    ) -> None:
        """Take the passages, and their vectors unless the index is only lexical."""
        self.passages = passages
        self._vectors = vectors
        self._lock = threading.Lock()
        self._words = sqlite3.connect(":memory:", check_same_thread=False)
        stem = "porter " if language == "en" else ""
        self._words.execute(
            "CREATE VIRTUAL TABLE words USING fts5(text, content='', "
            f"tokenize='{stem}unicode61 remove_diacritics 2')"
        )
        texts = ((n, _encodable(passage.text)) for n, passage in enumerate(passages))
        self._words.executemany("INSERT INTO words (rowid, text) VALUES (?, ?)", texts)

    @property
    def dimensions(self) -> int | None:
        """Return the number of dimensions of the vectors, None without vectors."""
        return None if self._vectors is None else int(self._vectors.shape[1])

    def matching(self, where: Where) -> list[int] | None:
        """Return the positions of the passages that meet the conditions; None for all."""
        if not where:
            return None
        return [n for n, passage in enumerate(self.passages) if where.is_met_by(passage.metadata)]

    def lexical(self, query: str, limit: int, positions: Sequence[int] | None = None) -> Ranking:
        """Return the best passages by BM25 that have a word of the query."""
        words = " OR ".join(f'"{word}"' for word in words_of(_encodable(query)))
        if not words:
            return []
        condition = "" if positions is None else "AND rowid IN (SELECT value FROM json_each(?)) "
        values: list[Any] = [words] if positions is None else [words, str(list(positions))]
        with self._lock:
            return self._words.execute(
                f"SELECT rowid, -rank FROM words WHERE words MATCH ? {condition}"  # noqa: S608
                "ORDER BY rank, rowid LIMIT ?",
                [*values, limit],
            ).fetchall()

    def dense(
        self, vector: "NDArray[numpy.float32]", limit: int, positions: Sequence[int] | None = None
    ) -> Ranking:
        """Return the passages with the largest cosine to the vector of the query."""
        import numpy

        if self._vectors is None or not self.passages:
            return []
        rows = self._vectors if positions is None else self._vectors[list(positions)]
        scores = rows @ vector
        # a stable sort, so that equal scores have the order of the passages
        best = numpy.argsort(-scores, kind="stable")[:limit]
        return [
            (int(n) if positions is None else positions[n], float(scores[n])) for n in best.tolist()
        ]

    def search(
        self,
        query: str,
        vector: "NDArray[numpy.float32] | None",
        k: int,
        *,
        mode: SearchMode,
        weight: float,
        positions: Sequence[int] | None,
    ) -> Ranking:
        """Return the best `k` passages of a mode; `vector` is that of the query, if it has one."""
        if vector is None or mode == "lexical":
            return self.lexical(query, k, positions)
        if mode == "dense":
            return self.dense(vector, k, positions)
        depth = max(4 * k, 50)
        lexical = self.lexical(query, depth, positions)
        dense = self.dense(vector, depth, positions)
        return fuse([n for n, _ in lexical], [n for n, _ in dense], weight)[:k]


def _encodable(text: str) -> str:
    """Return a text that UTF-8 can encode: lone surrogates become question marks."""
    return text.encode(errors="replace").decode()
