"""Vectors of chunks in memory, ranked exactly without comparing each of them in full."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from dspex.operations.storage.arrays import GrowingArray, GrowingColumns, Ids, Mask, best_of
from dspex.operations.storage.outline_size import outline_size

if TYPE_CHECKING:
    from dspex.operations.storage.view import View

Vectors = NDArray[np.float32]
Ranking = list[tuple[int, float]]

OUTLINED: Final = 10_000
"""Vectors of an index with so many chunks have outlines; those of a smaller one need none."""
_FEW: Final = 4_000  # vectors whose copies are ranked faster than all outlines
_COPIED: Final = 512  # vectors that are copied at once
_NO_SCORES: Final = np.empty(0, dtype=np.float32)
_SAMPLE: Final = 4_096
_ROUNDS: Final = 3
_SLACK: Final = 1e-5  # of squared lengths; far more than what rounding can change


@lru_cache(maxsize=1)
def _libraries() -> Any:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def _one_thread() -> AbstractContextManager[Any]:
    """Multiply on this thread alone: more would wait for memory, and spin for 20 ms after it."""
    if find_spec("threadpoolctl") is None:
        return nullcontext()
    limit: AbstractContextManager[Any] = _libraries().limit(limits=1, user_api="blas")
    return limit


class VectorMemory:
    """The vectors of the first chunks of an index, and outlines of them.

    An outline is the part of a vector in the few directions in which all of them differ most, and
    the length of the rest. It bounds the score of a chunk, so that most chunks are never compared
    in full, and the ranking is exact nevertheless.
    """

    def __init__(self, dimensions: int) -> None:
        """Begin without vectors."""
        self._vectors = GrowingArray(np.float32, dimensions)
        self._outlines: _Outlines | None = None

    @property
    def count(self) -> int:
        """Return the number of vectors."""
        return self._vectors.count

    @property
    def nbytes(self) -> int:
        """Return the size of everything."""
        return self._vectors.nbytes + (0 if self._outlines is None else self._outlines.nbytes)

    def append(self, rows: Vectors) -> None:
        """Append vectors."""
        self._vectors.append(rows)

    def outline(self) -> None:
        """Complete the outlines; directions are chosen anew when the vectors have doubled."""
        if self.count < OUTLINED:
            return
        outlines = self._outlines
        if outlines is None or self.count >= 2 * outlines.sampled:
            outlines = _Outlines.of(self._vectors.rows)
        outlines.append(self._vectors.rows[outlines.parts.count :])
        self._outlines = outlines

    def query(self, view: "View", vector: Vectors) -> "VectorQuery":
        """Return a query of the chunks of a view, whose vectors are all in the memory."""
        count, outlines = view.count, self._outlines
        bounds = None
        if outlines is not None and outlines.parts.count >= count:
            bounds = _Bounds(
                outlines.directions, outlines.parts.columns[:, :count], outlines.rests.rows[:count]
            )
        return VectorQuery(view.ids, self._vectors.rows[:count], bounds, vector)


@dataclass(frozen=True, slots=True, eq=False)
class _Outlines:
    """For each vector its part in a few directions, and the length of the rest of it."""

    directions: Vectors
    sampled: int
    parts: GrowingColumns
    rests: GrowingArray

    @classmethod
    def of(cls, vectors: Vectors) -> Self:
        """Choose the directions in which a sample of the vectors has most of its length.

        Source: Halko, Martinsson and Tropp, "Finding structure with randomness", 2011: a random
        subspace, multiplied by the covariance a few times.
        """
        count, dimensions = vectors.shape
        generator = np.random.default_rng(0)
        sample = vectors[generator.choice(count, min(count, _SAMPLE), replace=False)]
        size = outline_size(dimensions)
        directions = generator.standard_normal((dimensions, size), dtype=np.float32)
        for _ in range(_ROUNDS):
            directions, _upper = np.linalg.qr(sample.T @ (sample @ directions))
        return cls(directions, count, GrowingColumns(np.float32, size), GrowingArray(np.float32))

    @property
    def nbytes(self) -> int:
        return self.parts.nbytes + self.rests.nbytes

    def append(self, vectors: Vectors) -> None:
        parts = vectors @ self.directions
        self.parts.append(parts)
        self.rests.append(_rest(vectors, parts))


def _rest(vectors: Vectors, parts: Vectors) -> Vectors:
    """Return at least the lengths of what vectors have beside their parts."""
    squares = np.einsum("...i,...i", vectors, vectors)
    rests = squares - np.einsum("...i,...i", parts, parts)
    lengths: Vectors = np.sqrt(np.maximum(rests, 0) + _SLACK * squares)
    return lengths


@dataclass(frozen=True, slots=True, eq=False)
class _Bounds:
    """The outlines of the chunks of a view."""

    directions: Vectors
    parts: Vectors
    rests: Vectors

    def upper(self, vector: Vectors) -> Vectors:
        """Return a number for each chunk that its score does not exceed (Cauchy-Schwarz)."""
        part = vector @ self.directions
        bounds: Vectors = np.matmul(part, self.parts, dtype=np.float32)
        bounds += _rest(vector, part) * self.rests
        return bounds


@dataclass(frozen=True, slots=True, eq=False)
class VectorQuery:
    """A vector to rank the chunks of a view by; a thread may do that."""

    ids: Ids
    vectors: Vectors
    bounds: _Bounds | None
    vector: Vectors

    def best(self, limit: int, mask: Mask | None) -> tuple[Ranking, int]:
        """Return the ids and scores of the best chunks, and how many were ranked."""
        with _one_thread():
            return self._best(limit, mask)

    def _best(self, limit: int, mask: Mask | None) -> tuple[Ranking, int]:
        count = len(self.ids) if mask is None else int(mask.sum())
        if mask is not None and count <= _FEW:
            return self._ranked(np.flatnonzero(mask), limit), count
        if self.bounds is None or count <= 4 * limit:
            positions = np.arange(len(self.ids)) if mask is None else np.flatnonzero(mask)
            return best_of(self.ids[positions], self._scores()[positions], limit), count
        return self._bounded(self.bounds, limit, mask), count

    def _bounded(self, bounds: _Bounds, limit: int, mask: Mask | None) -> Ranking:
        """Rank those whose bound reaches the score of the last of `limit` good ones."""
        upper = bounds.upper(self.vector)
        if mask is not None:
            upper[~mask] = -np.inf
        good = np.argpartition(upper, -4 * limit)[-4 * limit :]
        scores = self.vectors[good] @ self.vector
        positions = np.flatnonzero(upper >= np.partition(scores, -limit)[-limit])
        if len(positions) > len(self.ids) // 4:  # copying rows costs more than ranking them
            return best_of(self.ids[positions], self._scores()[positions], limit)
        return self._ranked(positions, limit)

    def _ranked(self, positions: NDArray[np.int64], limit: int) -> Ranking:
        # copies that stay in the cache of the processor take half of the time
        parts = [positions[first : first + _COPIED] for first in range(0, len(positions), _COPIED)]
        scores = [self.vectors[part] @ self.vector for part in parts]
        return best_of(self.ids[positions], np.concatenate([*scores, _NO_SCORES]), limit)

    def _scores(self) -> Vectors:
        scores: Vectors = self.vectors @ self.vector
        return scores
