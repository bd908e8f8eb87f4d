"""Stored collections, documents, their versions, and the jobs that ingest them."""

from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

from dspex.operations.framework.attribute_kinds import Count
from dspex.operations.framework.resource import Resource, Row, Transition
from dspex.operations.jobs.job import JOB_HIDDEN, JOB_STEPS, JobRecord, JobResource


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionRecord(Row):
    """A collection of documents that programs search.

    `embedder` is None for a collection that is searched by words only. `fingerprint` and
    `dimensions` are those of its vectors, None before the first. Chunks belong to an index;
    `index_id` names the one that is searched. `revision` counts the changes that searches see.
    `embedded_tokens` and `cost_usd` are what embedding has cost so far; an unknown price makes the
    cost None.
    """

    name: str
    status: Literal["ready", "deleting"] = "ready"
    embedder: str | None = None
    fingerprint: str | None = None
    dimensions: int | None = None
    chunking: dict[str, Any]
    language: str = ""
    index_id: UUID
    revision: int = 0
    documents: int = 0
    chunks: int = 0
    characters: Count = Count(0)  # noqa: RUF009
    embedded_tokens: Count = Count(0)  # noqa: RUF009
    cost_usd: float | None = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentRecord(Row):
    """A document of a collection; `version_id` points to the version that searches see."""

    collection_id: UUID
    key: str
    version: int
    version_id: UUID
    content_hash: str
    metadata: dict[str, Any]
    chunks: int
    characters: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentVersionRecord(Row):
    """The text of a document: the current version, or one that an ingestion is preparing."""

    collection_id: UUID
    ingestion_id: UUID
    key: str
    status: Literal["pending", "current"] = "pending"
    content_hash: str
    metadata: dict[str, Any]
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestionRecord(JobRecord):
    """A job that adds documents to a collection, or rebuilds it with other settings.

    The columns of the job are as in an evaluation. Documents become visible one by one.
    """

    collection_id: UUID
    operation: Literal["add", "rebuild"] = "add"
    documents: int = 0
    unchanged: int | None = None
    chunks: int | None = None
    embedded_chunks: int | None = None
    embedded_tokens: Count | None = None
    cost_usd: float | None = None


def stored_bytes(collection: Any) -> int:
    """Return what a row of a collection counts for in the quota of its workspace.

    A byte for each character of its documents, and those of its vectors.
    """
    return int(collection.characters + 4 * collection.chunks * (collection.dimensions or 0))


_CANCEL = Transition((*JOB_STEPS["cancel"].sources, "failed"), "cancelled")  # it discards texts
COLLECTION = Resource(
    name="collection",
    plural="collections",
    entity=CollectionRecord,
    unique=(("workspace", "name"),),
    hidden=("workspace", "lock_version", "index_id"),
    is_counted=False,  # `stored_bytes` is
)
DOCUMENT = Resource(
    name="document",
    plural="documents",
    entity=DocumentRecord,
    references={"collection_id": "collection"},
    owner="collection_id",
    unique=(("collection_id", "key"),),
    indexes=(("workspace", "id"), ("version_id",)),
    hidden=("workspace", "lock_version", "version_id"),
    is_audited=False,
)
DOCUMENT_VERSION = Resource(
    name="document_version",
    plural="document_versions",
    entity=DocumentVersionRecord,
    references={"collection_id": "collection"},
    owner="collection_id",
    indexes=(("ingestion_id", "status", "id"), ("collection_id", "key")),
    unsorted=("text",),
    is_audited=False,
    is_counted=False,
)
INGESTION = JobResource(
    name="ingestion",
    plural="ingestions",
    entity=IngestionRecord,
    queue="ingestion",
    transitions={**JOB_STEPS, "cancel": _CANCEL},
    references={"collection_id": "collection"},
    owner="collection_id",
    indexes=(("workspace", "id"), ("status",), ("collection_id",)),
    hidden=JOB_HIDDEN,
    is_counted=False,
)
