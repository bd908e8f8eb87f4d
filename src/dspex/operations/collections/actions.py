"""The actions on collections."""

from contextlib import suppress
from typing import Any, Final
from uuid import UUID

import msgspec

from dspex.errors import ConflictError, DefinitionError, NotFoundError
from dspex.execution.retrieval.chunkers import chunker_settings, parse_chunker
from dspex.operations.collections.collection_storage import CollectionStorage, Index
from dspex.operations.collections.documents import MAX_DOCUMENTS, is_storable, parse_documents
from dspex.operations.collections.embedders import CollectionEmbedders
from dspex.operations.collections.inputs import (
    AddDocuments,
    CollectionMatches,
    CollectionRef,
    CreateCollection,
    DeletedCollection,
    DeletedDocuments,
    DeleteDocuments,
    RebuildCollection,
    SearchCollection,
)
from dspex.operations.collections.records import (
    COLLECTION,
    DOCUMENT,
    INGESTION,
    CollectionRecord,
    DocumentVersionRecord,
    IngestionRecord,
    stored_bytes,
)
from dspex.operations.collections.stored_collections import find_collection
from dspex.operations.collections.stored_retriever import StoredRetriever
from dspex.operations.framework.action import action
from dspex.operations.framework.audit import AuditEntry
from dspex.operations.framework.field_errors import invalid
from dspex.operations.framework.heavy_work import HeavyWork
from dspex.operations.framework.missing_rows import missing_row
from dspex.operations.framework.operations import Operations
from dspex.operations.framework.store import Insert, Query, Removals, Update
from dspex.operations.jobs.actions import (
    cancel_job,
    engine_of,
    enqueue,
    pause_job,
    requeue_job,
    resume_job,
)
from dspex.operations.jobs.inputs import JobRef
from dspex.operations.programs.names import check_name
from dspex.operations.tenancy.quotas import usage_change

BUSY: Final = ("queued", "running", "paused")
_LANGUAGES: Final = frozenset(
    {"", "da", "de", "en", "es", "fi", "fr", "hu", "it", "nl", "no", "pt", "ro", "ru", "sv", "tr"}
)
_WITHOUT: Final = "none"


@action(COLLECTION, scope="write")
async def create_collection(operations: Operations, request: CreateCollection) -> CollectionRecord:
    """Create an empty collection.

    Raises:
        InvalidError: the name, the embedder, the chunking or the language is not allowed.
        ConflictError: the workspace has a collection of this name.
    """
    check_name(request.name)
    if request.language not in _LANGUAGES:
        codes = ", ".join(sorted(_LANGUAGES - {""}))
        raise invalid("language", request.language, f"one of {codes}, or empty")
    where = {"workspace": operations.workspace, "name": request.name}
    if await operations.store.count(COLLECTION, where):
        raise ConflictError(
            f"a collection named {request.name!r} exists already; choose another name"
        )
    row = operations.new_row()
    collection = CollectionRecord(
        **row,
        name=request.name,
        embedder=await _embedder(operations, request.embedder),
        chunking=_chunking(request.chunking),
        language=request.language,
        index_id=row["id"],
    )
    await operations.services[CollectionStorage].create_index(Index.of(collection))
    await operations.store.write(Insert(collection))
    return collection


async def _embedder(operations: Operations, name: str | None) -> str | None:
    """Return an embedder as it is stored; it has to be usable now."""
    embedders = operations.services[CollectionEmbedders]
    name = embedders.default if name is None else name
    if name in {None, _WITHOUT}:
        return None
    try:
        await embedders.embedder(operations.workspace, name or "")
    except DefinitionError as error:
        raise invalid("embedder", name, "an embedder", message=error.message) from error
    return name


def _chunking(settings: dict[str, Any]) -> dict[str, Any]:
    try:
        return chunker_settings(parse_chunker(settings))
    except (DefinitionError, TypeError) as error:
        raise invalid("chunking", settings, "settings of a chunker", message=str(error)) from error


async def _find(
    operations: Operations, collection_id: UUID | None, name: str | None
) -> CollectionRecord:
    try:
        collection = await find_collection(
            operations.store, operations.workspace, collection_id=collection_id, name=name
        )
    except NotFoundError as error:
        raise await missing_row(operations, COLLECTION, collection_id or str(name)) from error
    if collection.status == "deleting" and operations.action != "delete_collection":
        raise ConflictError(f"the collection {collection.name!r} is being deleted")
    return collection


@action(INGESTION, scope="write")
async def add_documents(operations: Operations, request: AddDocuments) -> IngestionRecord:
    """Add documents to a collection, or replace those with the same keys, as a job.

    Raises:
        InvalidError: lists the documents that cannot be stored.
        NotFoundError: the collection does not exist.
        QuotaError: the workspace has used up its quota.
    """
    engine = engine_of(operations)
    await _admit(operations)
    collection = await _find(operations, request.collection_id, request.collection)
    documents = await operations.services[HeavyWork].run(
        lambda _: parse_documents(request.documents)
    )
    job = _job(operations, collection, documents=len(documents))
    versions = [
        DocumentVersionRecord(
            **operations.new_row(),
            collection_id=collection.id,
            ingestion_id=job.id,
            key=document.key,
            content_hash=document.content_hash,
            metadata=document.metadata,
            text=document.text,
        )
        for document in documents
    ]
    return await enqueue(
        operations, INGESTION, job, engine=engine, changes=[*map(Insert, versions)]
    )


async def _admit(operations: Operations) -> None:
    quotas = operations.dependencies.quotas
    if quotas is not None:
        await quotas.admit(operations.workspace, executes=False)


def _job(operations: Operations, collection: CollectionRecord, **values: Any) -> IngestionRecord:
    return IngestionRecord(
        **operations.new_row(),
        actor=operations.actor.name,
        collection_id=collection.id,
        **{"configuration": {}, **values},
        needs={},
        progress={},
    )


@action(INGESTION, scope="write")
async def rebuild_collection(operations: Operations, request: RebuildCollection) -> IngestionRecord:
    """Divide and embed all documents again, beside what is searched until then, as a job.

    Raises:
        InvalidError: the embedder or the chunking is not allowed.
        ConflictError: the collection is being rebuilt already.
        QuotaError: the workspace has used up its quota.
    """
    engine = engine_of(operations)
    await _admit(operations)
    collection = await _find(operations, request.collection_id, request.name)
    where = {"collection_id": collection.id, "operation": "rebuild", "status": BUSY}
    if await operations.store.count(INGESTION, where):
        raise ConflictError(f"the collection {collection.name!r} is being rebuilt already")
    embedder = collection.embedder
    if request.embedder is not None:
        embedder = await _embedder(operations, request.embedder)
    chunking = collection.chunking if request.chunking is None else _chunking(request.chunking)
    job = _job(
        operations,
        collection,
        operation="rebuild",
        documents=collection.documents,
        configuration={"embedder": embedder, "chunking": chunking},
    )
    return await enqueue(operations, INGESTION, job, engine=engine)


@action(INGESTION, scope="write")
async def cancel_ingestion(operations: Operations, request: JobRef) -> IngestionRecord:
    """Cancel the job; documents that are visible already stay, all others are discarded."""
    job = await cancel_job(operations, INGESTION, request.id)
    storage = operations.services[CollectionStorage]
    if job.operation == "add":
        await storage.discard_pending(job.collection_id, [job.id])
    else:
        collection = await _find(operations, job.collection_id, None)
        await storage.drop_indexes(collection.id, keep=[collection.index_id], empty=[job.id])
    return job


@action(INGESTION, scope="write")
async def pause_ingestion(operations: Operations, request: JobRef) -> IngestionRecord:
    """Pause the job; its worker stops within a second, and nothing is embedded twice."""
    return await pause_job(operations, INGESTION, request.id)


@action(INGESTION, scope="write")
async def resume_ingestion(operations: Operations, request: JobRef) -> IngestionRecord:
    """Queue a paused or failed job again; it continues where it stopped."""
    return await resume_job(operations, INGESTION, request.id)


@action(INGESTION, scope="write")
async def requeue_ingestion(operations: Operations, request: JobRef) -> IngestionRecord:
    """Take a running job from its worker and queue it again; it continues where it stopped."""
    return await requeue_job(operations, INGESTION, request.id)


@action(COLLECTION, scope="read")
async def search_collection(operations: Operations, request: SearchCollection) -> CollectionMatches:
    """Search a collection by words, by meaning, or both.

    Raises:
        InvalidError: a value is out of range, or a condition is invalid.
        NotFoundError: the collection does not exist.
    """
    collection = await _find(operations, request.collection_id, request.collection)
    retriever = StoredRetriever(
        store=operations.store,
        storage=operations.services[CollectionStorage],
        embedders=operations.services[CollectionEmbedders],
        workspace=operations.workspace,
        name=collection.name,
        mode=request.mode,
        weight=request.weight,
        row=collection,
    )
    result = await retriever.search(request.query, request.k, request.where)
    note = None if result or collection.documents else "the collection has no documents"
    if note is None and len(result) < request.k and request.mode != "whole":
        fitting = " that meets the conditions" if request.where else ""
        note = f"fewer than {request.k}: the collection has no other passage{fitting}"
        if request.mode == "lexical":
            note += " and contains a word of the query" if fitting else " with a word of the query"
    return CollectionMatches(
        collection=collection,
        passages=[msgspec.to_builtins(passage) for passage in result],
        exact=result.exact,
        scanned=result.scanned,
        note=note,
        tokens=result.usage.total_tokens,
        cost_usd=result.usage.cost_usd,
    )


@action(DOCUMENT, scope="write")
async def delete_documents(operations: Operations, request: DeleteDocuments) -> DeletedDocuments:
    """Delete documents with their texts, chunks and vectors; this cannot be undone."""
    collection = await _find(operations, request.collection_id, request.collection)
    if not 0 < len(request.keys) <= MAX_DOCUMENTS or not all(map(is_storable, request.keys)):
        raise invalid("keys", request.keys, f"a list of 1 to {MAX_DOCUMENTS} keys")
    storage = operations.services[CollectionStorage]
    entry = _entry(operations, collection, {"documents": len(request.keys)})
    deleted = await storage.delete_documents(collection, request.keys, entry)
    if deleted:
        await storage.finish_index(Index.of(collection), has_removals=True)
    return DeletedDocuments(
        collection=await _find(operations, collection.id, None),
        deleted=len(deleted),
        unknown=sorted({*request.keys} - {*deleted}),
    )


@action(COLLECTION, scope="write")
async def delete_collection(operations: Operations, request: CollectionRef) -> DeletedCollection:
    """Delete a collection with its documents, chunks and vectors; this cannot be undone.

    Raises:
        ConflictError: an ingestion of it is active.
    """
    collection = await _find(operations, request.collection_id, request.name)
    where = {"collection_id": collection.id, "status": BUSY}
    for job in await operations.store.select(INGESTION, Query(where=where, limit=1)):
        raise ConflictError(f"the ingestion {job.id} is {job.status}: cancel it first")
    if collection.status != "deleting":  # if it was, the process that deleted it has been killed
        await operations.store.write(
            Update(resource=COLLECTION, id=collection.id, values={"status": "deleting"})
        )
    await operations.services[CollectionStorage].drop_indexes(
        collection.id, keep=[], empty=[collection.index_id]
    )
    collection = await _find(operations, collection.id, None)  # as no job changes it any more
    entry = _entry(operations, collection, {"name": collection.name})
    removed = await operations.services[Removals].remove(
        COLLECTION, collection.id, busy=BUSY, entry=entry
    )
    with suppress(NotFoundError):  # the workspace does not have counters yet
        await operations.store.write(
            usage_change(collection.workspace, size=-stored_bytes(collection))
        )
    return DeletedCollection(name=collection.name, documents=removed[DOCUMENT.name].rows)


def _entry(
    operations: Operations, collection: CollectionRecord, before: dict[str, Any]
) -> AuditEntry:
    return AuditEntry(
        **operations.new_row(),
        actor=operations.actor.name,
        action=operations.action,
        resource=COLLECTION.name,
        resource_id=collection.id,
        before=before,
    )
