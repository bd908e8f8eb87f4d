"""The rows of documents and their versions, inside the transactions of their collection."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.ext.asyncio import AsyncConnection

from dspex.clock import Clock
from dspex.errors import NotFoundError
from dspex.operations.collections.collection_storage import Index
from dspex.operations.collections.records import (
    COLLECTION,
    DOCUMENT,
    DOCUMENT_VERSION,
    DocumentVersionRecord,
    stored_bytes,
)
from dspex.operations.storage.chunk_search import ChunkSearch
from dspex.operations.storage.chunk_tables import CHUNKS
from dspex.operations.tenancy.usage import WORKSPACE_USAGE, WorkspaceUsageRecord, usage_id

_AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """By how much a collection has grown; negative where it has shrunk."""

    documents: int = 0
    chunks: int = 0
    characters: int = 0

    def __add__(self, other: "Growth") -> "Growth":
        """Return the sum."""
        return Growth(
            documents=self.documents + other.documents,
            chunks=self.chunks + other.chunks,
            characters=self.characters + other.characters,
        )


class DocumentRows:
    """Reads and writes documents, versions, chunks and the figures of a collection."""

    def __init__(
        self,
        tables: Mapping[str, sa.Table],
        search: ChunkSearch,
        *,
        clock: Clock,
        new_id: Callable[[], UUID],
    ) -> None:
        """Take the tables of the domain by resource, and the tables of searches."""
        self._collections = tables[COLLECTION.name]
        self._documents = tables[DOCUMENT.name]
        self._versions = tables[DOCUMENT_VERSION.name]
        self._usages = tables[WORKSPACE_USAGE.name]
        self._search = search
        self._clock = clock
        self._new_id = new_id

    async def lock(self, connection: AsyncConnection, collection_id: UUID) -> Any:
        """Return the row of a collection, which nobody else changes until the commit.

        Raises:
            NotFoundError: it was deleted.
        """
        query = sa.select(self._collections).where(self._collections.c.id == collection_id)
        row = (await connection.execute(query.with_for_update())).first()
        if row is None or row.status != "ready":
            raise NotFoundError("the collection was deleted")
        return row

    async def chunk_counts(
        self,
        connection: AsyncConnection,
        index: Index,
        versions: Sequence[DocumentVersionRecord],
    ) -> Mapping[UUID, int]:
        """Return the number of chunks of each version that is complete in an index."""
        chunks = CHUNKS.c
        query = (
            sa.select(chunks.version_id, sa.func.count())
            .where(
                chunks.index_id == index.id,
                chunks.version_id.in_([version.id for version in versions]),
            )
            .group_by(chunks.version_id)
            .having(sa.func.max(sa.cast(chunks.is_last, sa.Integer)) == 1)
        )
        return {row[0]: row[1] for row in await connection.execute(query)}

    async def documents(
        self,
        connection: AsyncConnection,
        collection_id: UUID,
        versions: Sequence[DocumentVersionRecord],
    ) -> Mapping[str, Any]:
        """Return the documents with the keys of versions, by key."""
        query = sa.select(self._documents).where(
            self._documents.c.collection_id == collection_id,
            self._documents.c.key.in_([version.key for version in versions]),
        )
        return {row.key: row for row in await connection.execute(query)}

    async def point(
        self,
        connection: AsyncConnection,
        documents: Mapping[str, Any],
        *,
        versions: Sequence[DocumentVersionRecord],
        counts: Mapping[UUID, int],
    ) -> Growth:
        """Let documents point to complete versions; statements are few, whatever their number.

        Args:
            connection: a transaction that locks the collection.
            documents: the rows of the documents that exist already, by key.
            versions: one version of each document.
            counts: the chunks of each version.
        """
        now, growth = self._clock.now(), Growth()
        new: list[dict[str, Any]] = []
        changed: list[dict[str, Any]] = []
        for version in versions:
            document, chunks = documents.get(version.key), counts[version.id]
            values = {
                "updated_at": now,
                "version": 1 if document is None else document.version + 1,
                "version_id": version.id,
                "content_hash": version.content_hash,
                "metadata": version.metadata,
                "chunks": chunks,
                "characters": len(version.text),
            }
            if document is None:
                new.append(self._new_document(version, values))
            else:
                changed.append({"document_id": document.id, **values})
            growth += Growth(
                documents=1 if document is None else 0,
                chunks=chunks - (0 if document is None else document.chunks),
                characters=len(version.text) - (0 if document is None else document.characters),
            )
        if new:
            await connection.execute(self._documents.insert(), new)
        if changed:
            rule = self._documents.c.id == sa.bindparam("document_id")
            await connection.execute(self._documents.update().where(rule), changed)
        ids = [version.id for version in versions]
        current = self._versions.update().where(self._versions.c.id.in_(ids))
        await connection.execute(current.values(status="current", updated_at=now))
        return growth

    def _new_document(
        self, version: DocumentVersionRecord, values: Mapping[str, Any]
    ) -> dict[str, Any]:
        return {
            "id": self._new_id(),
            "workspace": version.workspace,
            "created_at": values["updated_at"],
            "lock_version": 0,
            "collection_id": version.collection_id,
            "key": version.key,
            **values,
        }

    async def delete_documents(
        self, connection: AsyncConnection, collection_id: UUID, keys: Sequence[str]
    ) -> tuple[list[str], Growth]:
        """Delete documents by key and return the keys of those there were; their versions stay."""
        documents = self._documents.c
        rule = documents.collection_id == collection_id, documents.key.in_(keys)
        columns = sa.select(documents.key, documents.chunks, documents.characters)
        rows = (await connection.execute(columns.where(*rule))).all()
        await connection.execute(self._documents.delete().where(*rule))
        growth = Growth(
            documents=-len(rows),
            chunks=-sum(row.chunks for row in rows),
            characters=-sum(row.characters for row in rows),
        )
        return [row.key for row in rows], growth

    async def delete_versions(self, connection: AsyncConnection, ids: Sequence[UUID]) -> None:
        """Delete versions with all their chunks."""
        for start in range(0, len(ids), _AT_ONCE):
            group = ids[start : start + _AT_ONCE]
            rule = CHUNKS.c.version_id.in_(group)
            indexes = await connection.execute(sa.select(CHUNKS.c.index_id).where(rule).distinct())
            for index_id in indexes.scalars().all():
                await self._search.remove(connection, index_id, group)
            await connection.execute(CHUNKS.delete().where(rule))
            await connection.execute(self._versions.delete().where(self._versions.c.id.in_(group)))

    async def grow(self, connection: AsyncConnection, before: Any, growth: Growth) -> None:
        """Count a change that searches see; `before` is the locked row of the collection."""
        figures = self._collections.c
        await connection.execute(
            self._collections.update()
            .where(figures.id == before.id)
            .values(
                updated_at=self._clock.now(),
                revision=figures.revision + 1,
                documents=figures.documents + growth.documents,
                chunks=figures.chunks + growth.chunks,
                characters=figures.characters + growth.characters,
            )
        )
        await self._charge(connection, before)

    async def _charge(self, connection: AsyncConnection, before: Any) -> None:
        """Count what a collection has stored since `before` in the usage of its workspace."""
        query = sa.select(self._collections).where(self._collections.c.id == before.id)
        size = stored_bytes((await connection.execute(query)).one()) - stored_bytes(before)
        usage, key = self._usages.c, usage_id(before.workspace)
        change = self._usages.update().where(usage.id == key)
        change = change.values(stored_bytes=usage.stored_bytes + size)
        if size and not (await connection.execute(change)).rowcount:
            await self._add_usage(connection, before.workspace)
            await connection.execute(change)

    async def _add_usage(self, connection: AsyncConnection, workspace: str) -> None:
        insert = sqlite_insert if connection.dialect.name == "sqlite" else postgres_insert
        now = self._clock.now()
        row = WorkspaceUsageRecord(
            id=usage_id(workspace), workspace=workspace, created_at=now, updated_at=now
        )
        values = {part.name: getattr(row, part.name) for part in fields(row)}
        # another process may add it at the same moment
        await connection.execute(insert(self._usages).values(**values).on_conflict_do_nothing())

    async def recount(self, connection: AsyncConnection, before: Any, index: Index) -> None:
        """Count the chunks of all documents in an index that searches use from now on.

        `before` is the locked row of the collection.
        """
        documents = self._documents.c
        count = (
            sa.select(sa.func.count())
            .where(CHUNKS.c.version_id == documents.version_id, CHUNKS.c.index_id == index.id)
            .scalar_subquery()
        )
        rule = documents.collection_id == index.collection_id
        await connection.execute(self._documents.update().where(rule).values(chunks=count))
        total = sa.select(sa.func.coalesce(sa.func.sum(documents.chunks), 0)).where(rule)
        await connection.execute(
            self._collections.update()
            .where(self._collections.c.id == index.collection_id)
            .values(
                updated_at=self._clock.now(),
                revision=self._collections.c.revision + 1,
                chunks=total.scalar_subquery(),
            )
        )
        await self._charge(connection, before)
