"""What the searches of one revision see of the chunks in memory."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dspex.operations.storage.arrays import Ids, Mask


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """The first chunks of a memory by their ids, and which of them searches of a revision see.

    `visible` marks these; None if all are. `order` sorts the chunks by their ids; None if they are.
    """

    ids: Ids
    revision: int
    visible: Mask | None
    order: NDArray[np.int64] | None

    @property
    def count(self) -> int:
        """Return the number of chunks, visible or not."""
        return len(self.ids)

    def positions(self, ids: Ids) -> NDArray[np.int64]:
        """Return the positions of those ids that are in the memory."""
        return positions_of(self.ids, self.order, ids)


def positions_of(ids: Ids, order: NDArray[np.int64] | None, keys: Ids) -> NDArray[np.int64]:
    """Return the positions of those keys that are among ids; `order` sorts the ids."""
    if not len(ids):
        return ids
    positions = np.minimum(np.searchsorted(ids, keys, sorter=order), len(ids) - 1)
    positions = positions if order is None else order[positions]
    matches: NDArray[np.int64] = positions[ids[positions] == keys]
    return matches
