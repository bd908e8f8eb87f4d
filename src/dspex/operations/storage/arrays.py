"""Arrays to which rows are appended, masks, and the best of many scores."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Mask = NDArray[np.bool_]


class GrowingArray:
    """An array to which rows are appended; the rows that a reader has taken stay as they are."""

    def __init__(self, dtype: Any, width: int | None = None) -> None:
        """Take the type of a number, and how many of them a row has; None: a row is a number."""
        self._shape = () if width is None else (width,)
        self._buffer: NDArray[Any] = np.empty((0, *self._shape), dtype=dtype)
        self.count = 0

    @property
    def rows(self) -> NDArray[Any]:
        """Return all rows."""
        return self._buffer[: self.count]

    @property
    def nbytes(self) -> int:
        """Return the size of all rows; the system spends no memory on what is spare."""
        return self.rows.nbytes

    def append(self, rows: NDArray[Any]) -> None:
        """Append rows."""
        count = self.count + len(rows)
        if count > len(self._buffer):
            buffer = np.empty((count + count // 4, *self._shape), dtype=self._buffer.dtype)
            buffer[: self.count] = self.rows
            self._buffer = buffer
        self._buffer[self.count : count] = rows
        self.count = count


class GrowingColumns:
    """A table to which rows are appended, and whose columns lie together in memory.

    The columns that a reader has taken stay as they are.
    """

    def __init__(self, dtype: Any, width: int) -> None:
        """Take the type of a number, and the number of columns."""
        self._buffer: NDArray[Any] = np.empty((width, 0), dtype=dtype)
        self.count = 0

    @property
    def columns(self) -> NDArray[Any]:
        """Return all columns, each as a row."""
        return self._buffer[:, : self.count]

    @property
    def nbytes(self) -> int:
        """Return the size of all columns."""
        return self.columns.nbytes

    def append(self, rows: NDArray[Any]) -> None:
        """Append rows."""
        count = self.count + len(rows)
        if count > self._buffer.shape[1]:
            shape = (self._buffer.shape[0], count + count // 4)
            buffer = np.empty(shape, dtype=self._buffer.dtype)
            buffer[:, : self.count] = self.columns
            self._buffer = buffer
        self._buffer[:, self.count : count] = rows.T
        self.count = count


def best_of(ids: Ids, scores: NDArray[Any], limit: int) -> list[tuple[int, float]]:
    """Return the `limit` ids with the highest scores, best first; of equal ones the oldest."""
    if len(ids) > limit:
        top = np.argpartition(scores, -limit)[-limit:]
        # all that are as good as the worst of them compete, so that the order has no chance in it
        top = np.flatnonzero(scores >= scores[top].min())
    else:
        top = np.arange(len(ids))
    order = np.lexsort((ids[top], -scores[top]))[:limit]
    return [(int(ids[n]), float(scores[n])) for n in top[order]]


def both(first: Mask | None, second: Mask | None) -> Mask | None:
    """Return what both masks mark; None marks everything."""
    if first is None or second is None:
        return second if first is None else first
    return first & second
