"""The port to the storage of collections: chunks, their indexes, and what searches see."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol
from uuid import UUID

from dspex.errors import ConflictError
from dspex.execution.retrieval.where import Where
from dspex.language.records import Passage
from dspex.operations.collections.records import CollectionRecord, DocumentVersionRecord
from dspex.operations.framework.audit import AuditEntry

if TYPE_CHECKING:  # numpy belongs to an extra
    import numpy
    from numpy.typing import NDArray


EVERYTHING: Final = Where()


class IndexMovedError(ConflictError):
    """The collection is searched by another index than the one that was written or asked."""


class Fence(NamedTuple):
    """The turn of an ingestion; nothing is written once the job is at another turn or stopped."""

    job_id: UUID
    turn: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """An index of a collection: chunks that one chunker and one embedder made."""

    id: UUID
    collection_id: UUID
    language: str
    fingerprint: str | None
    dimensions: int | None

    @classmethod
    def of(cls, collection: CollectionRecord) -> "Index":
        """Return the index that searches of a collection use."""
        return cls(
            id=collection.index_id,
            collection_id=collection.id,
            language=collection.language,
            fingerprint=collection.fingerprint,
            dimensions=collection.dimensions,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class NewChunk:
    """A chunk to store. Those of a version are written in their order, the last one marked."""

    version_id: UUID
    position: int
    is_last: bool
    start: int
    end: int
    text: str
    text_hash: bytes
    metadata: Mapping[str, Any]
    vector: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What embedding has cost; an unknown price is None."""

    tokens: int = 0
    cost_usd: float | None = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What became of prepared versions: visible now, or unchanged; and how many were replaced."""

    visible: int
    unchanged: int
    replaced: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkQuery:
    """A search of one index: by words if `text` is set, by meaning if `vector` is.

    With both, the rankings are fused; `weight` is the share of meaning.
    """

    index: Index
    k: int
    text: str | None = None
    vector: "NDArray[numpy.float32] | None" = None
    weight: float = 0.5
    where: Where = EVERYTHING

    @property
    def limit(self) -> int:
        """Return how many chunks each ranking needs."""
        return self.k if self.text is None or self.vector is None else max(4 * self.k, 50)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkMatches:
    """Passages, best first; `scanned` and `exact` are as in a `SearchResult`."""

    passages: Sequence[Passage]
    scanned: int | None
    exact: bool


class CollectionStorage(Protocol):
    """Chunks in a database. Every method may raise `StorageError`.

    Each write is one transaction. Searches see only chunks of the index of the collection and of
    the versions to which documents point, at one moment.
    """

    async def create_index(self, index: Index) -> None:
        """Make what searches of an index need, unless it is there."""
        ...

    async def vectors(
        self, index_ids: Sequence[UUID], hashes: Sequence[bytes]
    ) -> Mapping[bytes, bytes]:
        """Return stored vectors by the hash of their text."""
        ...

    async def next_positions(
        self, index_id: UUID, version_ids: Sequence[UUID]
    ) -> Mapping[UUID, int | None]:
        """Return the position of the first missing chunk of versions; None if none is missing."""
        ...

    async def add_chunks(
        self, fence: Fence, index: Index, chunks: Sequence[NewChunk], *, spent: Spent
    ) -> None:
        """Store chunks that no search sees yet; those of deleted versions are left out.

        Raises:
            ConflictError: the fence does not hold.
        """
        ...

    async def publish(
        self, fence: Fence, index: Index, versions: Sequence[DocumentVersionRecord]
    ) -> Published:
        """Let documents point to complete versions, and delete the versions before, at once.

        A version with the content of the current one is deleted, and so is one that was added
        before the current one.

        Raises:
            IndexMovedError: the collection has another index by now; nothing was written.
            ConflictError: the fence does not hold.
        """
        ...

    async def incomplete_versions(
        self, index: Index, *, after: UUID | None, limit: int
    ) -> Sequence[DocumentVersionRecord]:
        """Return current versions whose chunks are not all in an index, by id after `after`."""
        ...

    async def adopt_index(
        self, fence: Fence, index: Index, values: Mapping[str, Any]
    ) -> UUID | None:
        """Let searches use a complete index, and change the collection; return the index before.

        Returns None, without a change, if a version is incomplete in the index.

        Raises:
            ConflictError: the fence does not hold.
        """
        ...

    async def finish_index(self, index: Index, *, has_removals: bool) -> None:
        """Make searches of an index fast after many changes, and erase what was removed."""
        ...

    async def drop_indexes(
        self, collection_id: UUID, *, keep: Sequence[UUID], empty: Sequence[UUID] = ()
    ) -> None:
        """Delete all indexes of a collection with chunks but those to keep, and empty ones."""
        ...

    async def discard_pending(self, collection_id: UUID, ingestion_ids: Sequence[UUID]) -> None:
        """Delete the versions that ingestions have prepared and not published."""
        ...

    async def delete_documents(
        self, collection: CollectionRecord, keys: Sequence[str], entry: AuditEntry
    ) -> Sequence[str]:
        """Delete documents with their versions, pending ones too; return the keys there were."""
        ...

    async def search(self, query: ChunkQuery) -> ChunkMatches:
        """Return the best `k` chunks that pass the filters.

        Raises:
            IndexMovedError: the collection has another index by now.
        """
        ...

    async def texts(self, index: Index, *, limit: int) -> Sequence[Passage] | None:
        """Return all documents as passages; None if they have more than `limit` characters."""
        ...
