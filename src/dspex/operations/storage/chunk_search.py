"""Searches of one index in one database: by words, and by vectors."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from dspex.operations.collections.collection_storage import ChunkQuery, Index

Ranking = list[tuple[int, float]]
VISIBLE: Final = (
    "FROM documents AS d JOIN chunks AS c ON c.version_id = d.version_id "
    "AND c.index_id = :index_id WHERE d.collection_id = :collection_id"
)
"""The chunks that searches of an index see."""


class StaleViewError(Exception):
    """The collection has changed since the transaction of a search began: begin again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What a search knows of its collection: one moment, in one transaction."""

    revision: int
    chunks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DenseRanking:
    """The best chunks by their vectors; see `SearchResult` for the figures."""

    ranking: Ranking
    scanned: int | None
    exact: bool = True


RankVectors = Callable[[], DenseRanking]
"""Ranks the best chunks by their vectors; needs no database, so a thread may run it."""


class ChunkSearch(Protocol):
    """The tables in which an index is searched. Each method is part of a transaction."""

    async def create(self, connection: AsyncConnection, index: Index) -> None:
        """Make the table, unless it is there."""
        ...

    async def add(self, connection: AsyncConnection, index: Index, *, after: int) -> None:
        """Add the chunks of an index whose ids are greater than `after`."""
        ...

    async def remove(
        self, connection: AsyncConnection, index_id: UUID, version_ids: Sequence[UUID]
    ) -> None:
        """Remove the chunks of versions, which are deleted next."""
        ...

    async def drop(self, connection: AsyncConnection, index_id: UUID) -> None:
        """Drop the table of an index."""
        ...

    async def finish(self, index: Index, *, has_removals: bool) -> None:
        """Make searches fast, and erase what was removed; in transactions of its own."""
        ...

    async def lexical(
        self, connection: AsyncConnection, query: ChunkQuery, snapshot: Snapshot
    ) -> Ranking:
        """Return the best chunks by their words."""
        ...

    async def dense(
        self, connection: AsyncConnection, query: ChunkQuery, snapshot: Snapshot
    ) -> RankVectors:
        """Read what a ranking by vectors needs, and return what makes it."""
        ...


def bound(sql: str, index: Index, values: Mapping[str, Any]) -> sa.TextClause:
    """Return a statement with the ids of an index and other values."""
    ids = {"index_id": index.id, "collection_id": index.collection_id}
    typed = [sa.bindparam(name, value, sa.Uuid()) for name, value in ids.items() if name in sql]
    return sa.text(sql).bindparams(*typed, **values)
