"""Words of chunks in memory, ranked by BM25 with the formula of FTS5, without reading rows."""

from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dspex.operations.storage.arrays import GrowingArray, Mask, best_of

if TYPE_CHECKING:
    from dspex.operations.storage.view import View

_K1, _B = 1.2, 0.75  # those of FTS5
_LEAST_WEIGHT: Final = 1e-6  # of a word that more than half of the chunks have; also as in FTS5


@dataclass(slots=True, eq=False)
class _Postings:
    """The chunks that have a term, among the first `complete` ones of an index."""

    complete: int = 0
    positions: GrowingArray = field(default_factory=lambda: GrowingArray(np.int32))
    counts: GrowingArray = field(default_factory=lambda: GrowingArray(np.int32))
    weights: "tuple[int, NDArray[np.float32]] | None" = None

    @property
    def nbytes(self) -> int:
        """Return the size, with that of the weights."""
        return self.positions.nbytes * 3 + 500


class WordMemory:
    """The lengths of the first chunks of an index, and the chunks of terms that were searched for.

    Source: Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009,
    with the constants of FTS5.
    """

    def __init__(self, max_bytes: int) -> None:
        """Take the maximum size of the postings in bytes."""
        self.lengths = GrowingArray(np.int32)
        self._max_bytes = max_bytes
        self._postings: OrderedDict[str, _Postings] = OrderedDict()
        self._size = 0

    @property
    def nbytes(self) -> int:
        """Return the size of everything."""
        return self.lengths.nbytes + self._size

    def missing(self, terms: Iterable[str], count: int) -> dict[str, int]:
        """Return the terms of which chunks are missing, and how many first chunks are complete."""
        numbers = {
            term: self._postings[term].complete if term in self._postings else 0 for term in terms
        }
        return {term: number for term, number in numbers.items() if number < count}

    def add(
        self, term: str, positions: NDArray[np.int64], counts: NDArray[np.int64], *, complete: int
    ) -> None:
        """Add the positions of chunks with a term and its counts; covers `complete` chunks."""
        if term not in self._postings:
            self._postings[term] = _Postings()
            self._size += self._postings[term].nbytes
        postings = self._postings[term]
        self._size -= postings.nbytes
        postings.positions.append(positions)
        postings.counts.append(counts)
        postings.complete = complete
        self._size += postings.nbytes

    def query(self, view: "View", terms: Counter[str]) -> "WordQuery":
        """Return a query by terms that are complete for a view; evict terms above the limit."""
        entries: list[_Entry] = []
        for term, times in terms.items():
            postings = self._postings[term]
            self._postings.move_to_end(term)
            entries.append(_Entry(postings, postings.positions.rows, postings.counts.rows, times))
        while self._size > self._max_bytes and self._postings:
            _, oldest = self._postings.popitem(last=False)
            self._size -= oldest.nbytes
        return WordQuery(view, self.lengths.rows[: view.count], entries)


class _Entry(NamedTuple):
    """A term of a query, with its chunks as they are now."""

    postings: _Postings
    positions: NDArray[np.int32]
    counts: NDArray[np.int32]
    times: int


@dataclass(frozen=True, slots=True, eq=False)
class WordQuery:
    """Terms to rank the chunks of a view by; `scores` may run on any thread."""

    view: "View"
    lengths: NDArray[np.int32]
    entries: Sequence[_Entry]

    def scores(self) -> NDArray[np.float64]:
        """Return the score of each chunk; 0 for those without the terms, and invisible ones."""
        scores = np.zeros(self.view.count)
        for entry in self.entries:
            revision, weights = entry.postings.weights or (None, None)
            if weights is None or revision != self.view.revision:
                weights = self._weights(entry)
                entry.postings.weights = (self.view.revision, weights)
            scores[entry.positions] += entry.times * weights
        return scores

    def _weights(self, entry: _Entry) -> NDArray[np.float32]:
        """Return what a term adds to the score of each of its chunks."""
        visible, positions, counts = self.view.visible, entry.positions, entry.counts
        lengths = self.lengths if visible is None else self.lengths[visible]
        count = len(positions) if visible is None else int(visible[positions].sum())
        rarity = np.log((len(lengths) - count + 0.5) / (count + 0.5))
        share = self.lengths[positions] / max(float(lengths.mean()), 1.0)
        weights = counts * (_K1 + 1) / (counts + _K1 * (1 - _B + _B * share))
        weights *= max(float(rarity), _LEAST_WEIGHT)
        if visible is not None:
            weights *= visible[positions]
        return weights.astype(np.float32)


def best_words(query: WordQuery, limit: int, mask: Mask | None) -> list[tuple[int, float]]:
    """Return the ids and scores of the best chunks that have a term."""
    scores = query.scores()
    if mask is not None:
        scores *= mask
    matching = np.flatnonzero(scores > 0)
    return best_of(query.view.ids[matching], scores[matching], limit)
