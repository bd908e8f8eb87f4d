"""The inputs and results of actions on collections."""

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from dspex.execution.retrieval.retriever import SearchMode
from dspex.operations.collections.records import CollectionRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateCollection:
    """Create an empty collection.

    `embedder` is a string such as "openai/text-embedding-3-small"; "none" makes a collection that
    is searched by words only. `chunking` has a method and its settings, and `language` is a code
    such as "en", by which words are reduced to their stems.
    """

    name: str
    embedder: str | None = None
    chunking: dict[str, Any] = field(default_factory=dict)
    language: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionRef:
    """A collection by id or name."""

    collection_id: UUID | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AddDocuments:
    """Add documents, or replace those with the same keys, as a job.

    Each document is an object with `key`, `text` and, if it has any, `metadata`. Documents whose
    content is stored already cost nothing.
    """

    collection_id: UUID | None = None
    collection: str | None = None
    documents: list[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteDocuments:
    """Delete documents by key, with their chunks and vectors."""

    collection_id: UUID | None = None
    collection: str | None = None
    keys: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class RebuildCollection:
    """Divide and embed all documents again with other settings, as a job.

    Searches use the collection as it was until the new index is complete.
    """

    collection_id: UUID | None = None
    name: str | None = None
    embedder: str | None = None
    chunking: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchCollection:
    """Search a collection by words (lexical), by meaning (dense) or both (hybrid).

    `weight` is the share of meaning in a hybrid search. "whole" returns all documents of a small
    collection. `where` has conditions on the metadata, which are met by every result:
    {"language": "en", "year": {"gte": 2020}}.
    """

    collection_id: UUID | None = None
    collection: str | None = None
    query: str
    k: int = 5
    mode: SearchMode = "hybrid"
    weight: float = 0.5
    where: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionMatches:
    """Passages, best first.

    `exact` is false if an approximate index may have missed a better one, `scanned` the number of
    vectors that were compared. `note` says why there are fewer than `k`.
    """

    collection: CollectionRecord
    passages: list[Any]
    exact: bool
    scanned: int | None
    note: str | None
    tokens: int
    cost_usd: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletedDocuments:
    """How many documents were deleted; `unknown` are the keys of which there was no document."""

    collection: CollectionRecord
    deleted: int
    unknown: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletedCollection:
    """The name of a deleted collection, and how many documents it had."""

    name: str
    documents: int
