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
        return self.places(ids)[0]

    def places(self, ids: Ids) -> tuple[NDArray[np.int64], Mask]:
        """Return the positions of those ids that are in the memory, and which ones these are."""
        return places_of(self.ids, self.order, ids)


def places_of(
    ids: Ids, order: NDArray[np.int64] | None, keys: Ids
) -> tuple[NDArray[np.int64], Mask]:
    """Return the positions of those keys that are among ids, and which ones these are.

    `order` sorts the ids.
    """
    if not len(ids):
        return ids, np.zeros(len(keys), dtype=np.bool_)
    positions = np.minimum(np.searchsorted(ids, keys, sorter=order), len(ids) - 1)
    positions = positions if order is None else order[positions]
    present: Mask = ids[positions] == keys
    return positions[present], present
