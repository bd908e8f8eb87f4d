"""The chunks of one index in memory, as searches compare them."""

import asyncio
from typing import TYPE_CHECKING

import numpy as np

from dspex.operations.storage.arrays import GrowingArray, Ids
from dspex.operations.storage.view import View, places_of

if TYPE_CHECKING:
    from dspex.operations.storage.metadata_memory import MetadataMemory
    from dspex.operations.storage.vector_memory import VectorMemory
    from dspex.operations.storage.word_memory import WordMemory


class ChunkMemory:
    """The chunks of an index that have been visible, in the order in which they became so.

    A position is that of one chunk for ever: a later revision appends what it shows first, and
    only hides what it has deleted. Whoever appends holds `lock`.
    """

    def __init__(self) -> None:
        """Begin without chunks."""
        self.lock = asyncio.Lock()
        self.view: View | None = None
        self.ids = GrowingArray(np.int64)
        self.vectors: VectorMemory | None = None
        self.metadata: MetadataMemory | None = None
        self.words: WordMemory | None = None

    @property
    def nbytes(self) -> int:
        """Return the size of everything."""
        parts = (self.ids, self.vectors, self.metadata, self.words)
        return sum(part.nbytes for part in parts if part is not None)

    def see(self, revision: int, visible: Ids) -> View:
        """Return the view of a later revision, which shows the chunks with the ids `visible`."""
        ids = self.ids.rows
        self.ids.append(visible[~np.isin(visible, ids, assume_unique=True)])
        ids, mask = self.ids.rows, None
        order = None if (ids[1:] > ids[:-1]).all() else np.argsort(ids, kind="stable")
        if len(visible) < len(ids):
            mask = np.zeros(len(ids), dtype=np.bool_)
            mask[places_of(ids, order, visible)[0]] = True
        self.view = View(ids, revision, mask, order)
        return self.view

    @property
    def is_mostly_hidden(self) -> bool:
        """Return whether it is time to start over."""
        view = self.view
        if view is None or view.visible is None:
            return False
        return view.count > 10_000 + 2 * int(view.visible.sum())
