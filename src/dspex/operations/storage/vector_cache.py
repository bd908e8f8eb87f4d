"""Vectors of collections in memory, for exact search without an index of the database."""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from uuid import UUID

if TYPE_CHECKING:  # numpy belongs to an extra
    import numpy
    from numpy.typing import NDArray

    Ids = NDArray[numpy.int64]
    Vectors = NDArray[numpy.float32]

MAX_BYTES: Final = 512 * 1024 * 1024
_FEW: Final = 2_000


@dataclass(frozen=True, slots=True)
class Matrix:
    """The vectors of the chunks that searches of one revision see, by ascending id."""

    ids: "Ids"
    vectors: "Vectors"

    def best(
        self, query: "Vectors", limit: int, allowed: "Ids | None" = None
    ) -> tuple[list[tuple[int, float]], int]:
        """Return the ids and scores of the best chunks, and how many were ranked."""
        import numpy as np

        if allowed is None:
            return best_of(self.ids, self.vectors @ query, limit), len(self.ids)
        positions = np.searchsorted(self.ids, allowed)
        if len(positions) > len(self.ids) // 4:  # copying rows costs more than ranking them
            scores = (self.vectors @ query)[positions]
        else:
            scores = self.vectors[positions] @ query
        return best_of(allowed, scores, limit), len(allowed)


def best_of(ids: "Ids", scores: "Vectors", limit: int) -> list[tuple[int, float]]:
    """Return the `limit` ids with the highest scores, best first; of equal ones the oldest."""
    import numpy as np

    if len(ids) > limit:
        top = np.argpartition(scores, -limit)[-limit:]
        # all that are as good as the worst of them compete, so that the order has no chance in it
        top = np.flatnonzero(scores >= scores[top].min())
    else:
        top = np.arange(len(ids))
    order = np.lexsort((ids[top], -scores[top]))[:limit]
    return [(int(ids[n]), float(scores[n])) for n in top[order]]


def vectors_of(rows: Sequence[tuple[int, bytes]], dimensions: int) -> "tuple[Ids, Vectors]":
    """Return the ids and vectors of rows of a database."""
    import numpy as np

    ids = np.fromiter((row[0] for row in rows), dtype=np.int64, count=len(rows))
    vectors = np.frombuffer(b"".join(row[1] for row in rows), dtype="<f4")
    return ids, vectors.reshape(len(rows), dimensions)


class VectorCache:
    """The matrices of the indexes searched last, together at most `max_bytes`.

    A matrix is valid for one revision of its collection; the next one takes over what is
    unchanged. Threads may share it.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        """Take the largest size of all matrices together."""
        self._max_bytes = max_bytes
        self._matrices: OrderedDict[UUID, tuple[int, Matrix]] = OrderedDict()
        self._lock = threading.Lock()

    def fits(self, count: int, dimensions: int) -> bool:
        """Return whether a matrix of this shape can be kept."""
        return count * dimensions * 4 <= self._max_bytes

    def get(self, index_id: UUID) -> tuple[int, Matrix] | None:
        """Return the latest matrix of an index and its revision, None if there is none."""
        with self._lock:
            entry = self._matrices.get(index_id)
            if entry is not None:
                self._matrices.move_to_end(index_id)
            return entry

    def put(self, index_id: UUID, revision: int, matrix: Matrix) -> None:
        """Keep a matrix, and forget those that were not used for longest."""
        with self._lock:
            self._matrices[index_id] = (revision, matrix)
            self._matrices.move_to_end(index_id)
            size = sum(each.vectors.nbytes for _, each in self._matrices.values())
            while size > self._max_bytes and len(self._matrices) > 1:
                _, (_, oldest) = self._matrices.popitem(last=False)
                size -= oldest.vectors.nbytes

    def forget(self, index_id: UUID) -> None:
        """Forget an index that was deleted."""
        with self._lock:
            self._matrices.pop(index_id, None)


def missing_ids(before: Matrix | None, visible: "Ids") -> "Ids | None":
    """Return the visible ids that a matrix lacks; None if it is better to load all of them."""
    import numpy as np

    if before is None:
        return None
    missing = np.setdiff1d(visible, before.ids, assume_unique=True)
    return missing if len(missing) <= _FEW else None


def updated(before: Matrix, visible: "Ids", rows: Sequence[tuple[int, bytes]]) -> Matrix:
    """Return the matrix with new rows and without what is not visible any more."""
    import numpy as np

    kept = np.isin(before.ids, visible, assume_unique=True)
    new_ids, new_vectors = vectors_of(rows, before.vectors.shape[1])
    ids = np.concatenate([before.ids[kept], new_ids])
    order = np.argsort(ids, kind="stable")
    vectors = np.concatenate([before.vectors[kept], new_vectors])
    return Matrix(ids[order], vectors[order])
