"""The indexes that are kept in memory, together within one limit."""

from collections import OrderedDict
from typing import TYPE_CHECKING, Final
from uuid import UUID

from dspex.operations.storage.outline_size import outline_size

if TYPE_CHECKING:  # it imports numpy, which belongs to an extra
    from dspex.operations.storage.chunk_memory import ChunkMemory

MIB: Final = 1024 * 1024
_PER_CHUNK: Final = 64  # bytes beside the vector


class MemoryCache:
    """The chunks of the indexes searched last, together about `max_bytes`.

    Three quarters are for vectors; an index may take an eighth for words, and one for metadata.
    """

    def __init__(self, max_bytes: int = 512 * MIB) -> None:
        """Take the largest size of all indexes together."""
        self._max_bytes = max_bytes
        self._memories: OrderedDict[UUID, ChunkMemory] = OrderedDict()

    @property
    def part(self) -> int:
        """Return how many bytes an index may take for words, and as many for metadata."""
        return self._max_bytes // 8

    def fits(self, count: int, dimensions: int) -> bool:
        """Return whether this number of chunks, with vectors of these dimensions, can be kept."""
        numbers = dimensions + outline_size(dimensions)
        return count * (4 * numbers + _PER_CHUNK) <= self._max_bytes // 4 * 3

    def memory(self, index_id: UUID) -> "ChunkMemory":
        """Return the memory of an index, empty if it was not searched lately."""
        from dspex.operations.storage.chunk_memory import ChunkMemory

        memory = self._memories.setdefault(index_id, ChunkMemory())
        self._memories.move_to_end(index_id)
        return memory

    def forget(self, index_id: UUID, memory: "ChunkMemory | None" = None) -> None:
        """Forget an index; with `memory`, only if that is its memory still."""
        if memory is None or self._memories.get(index_id) is memory:
            self._memories.pop(index_id, None)

    def trim(self) -> None:
        """Forget the indexes that were not used for longest, until the others are within limits."""
        size = sum(memory.nbytes for memory in self._memories.values())
        while size > self._max_bytes and len(self._memories) > 1:
            _, oldest = self._memories.popitem(last=False)
            size -= oldest.nbytes
