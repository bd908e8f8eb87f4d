"""`dspex collection`: create, fill, search, rebuild and delete collections of documents."""

import asyncio
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from dspex.bootstrap import Services
from dspex.bootstrap.local_jobs import run_here
from dspex.error_text import quantity
from dspex.errors import DspexError, InvalidError
from dspex.execution.retrieval.chunkers import CHUNKERS
from dspex.execution.retrieval.readers import SourceDocument, matching_files, read_file
from dspex.execution.retrieval.retriever import MAX_K, SEARCH_MODES
from dspex.execution.retrieval.where import OPERATORS
from dspex.operations.collections.actions import (
    add_documents,
    create_collection,
    delete_documents,
    rebuild_collection,
    search_collection,
)
from dspex.operations.collections.inputs import (
    AddDocuments,
    CreateCollection,
    DeleteDocuments,
    RebuildCollection,
    SearchCollection,
)
from dspex.operations.collections.records import INGESTION, IngestionRecord
from dspex.operations.framework.operations import Operations
from dspex.surfaces.cli.files import read_text_file
from dspex.surfaces.cli.nouns import noun_group, show_result, visible_values
from dspex.surfaces.cli.options import operations_in, state_option, with_store, workspace_option
from dspex.surfaces.cli.output import json_option, say, show_json
from dspex.surfaces.cli.progress import Progress
from dspex.surfaces.cli.table import table
from dspex.surfaces.cli.targets import code_root

_DOCUMENTS, _CHARACTERS = 1_000, 4_000_000  # of one request
_LOOK_S = 0.5
_EMBEDDER = (
    "Such as offline, openai/text-embedding-3-small or http://host/v1#name; none: words only."
)
_LANGUAGE = "A code such as en, by which words are reduced to their stems; by default none is."
collection_command = noun_group(
    "collection",
    columns=("name", "status", "documents", "chunks", "embedder", "created_at", "id"),
)
chunking_option = click.option(
    "--chunking",
    metavar="METHOD|JSON|@FILE",
    help=f'{", ".join(CHUNKERS)}, or settings: {{"method": "sentences", "tokens": 100}}.',
)


@collection_command.command("create")
@click.argument("name")
@click.option("--embedder", help=f"{_EMBEDDER} By default that of the settings, or offline.")
@chunking_option
@click.option("--language", default="", help=_LANGUAGE)
@workspace_option
@state_option
@json_option
def create_command(
    *,
    name: str,
    embedder: str | None,
    chunking: str | None,
    language: str,
    workspace: str | None,
    state_dir: Path | None,
    as_json: bool,
) -> int:
    """Create an empty collection; `dspex collection add NAME FILES` fills it."""

    async def work(services: Services) -> Any:
        operations = await operations_in(services, workspace)
        settings = {} if chunking is None else _chunking(chunking)
        request = CreateCollection(
            name=name, embedder=embedder, chunking=settings, language=language
        )
        return await operations.perform(create_collection, request)

    show_result(create_collection, with_store(state_dir, work), as_json=as_json)
    return 0


@collection_command.command("add")
@click.argument("name")
@click.argument("files", nargs=-1, required=True)
@workspace_option
@state_option
@json_option
def add_command(
    *,
    name: str,
    files: Sequence[str],
    workspace: str | None,
    state_dir: Path | None,
    as_json: bool,
) -> int:
    """Add the documents in FILES (text, Markdown, HTML, csv, jsonl, PDF) to a collection.

    Documents that it has already are replaced if they have changed. A file that cannot be read is
    reported, and the others are added.
    """
    failures: list[str] = []

    async def work(services: Services) -> list[IngestionRecord]:
        operations = await operations_in(services, workspace)
        jobs = []
        for documents in _batches(files, failures):
            request = AddDocuments(collection=name, documents=list(map(_document, documents)))
            job = await operations.perform(add_documents, request)
            jobs.append(await _finish(services, operations, job))
        return jobs

    jobs = with_store(state_dir, work)
    for failure in failures:
        say(f"{click.style('error:', fg='red', bold=True)} {failure}")
    return max(1 if failures else 0, _show_jobs(jobs, as_json=as_json))


def _document(document: SourceDocument) -> dict[str, Any]:
    return {"key": document.key, "text": document.text, "metadata": document.metadata}


def _batches(files: Sequence[str], failures: list[str]) -> Iterator[list[SourceDocument]]:
    """Yield the documents of files in groups with different keys."""
    batch: dict[str, SourceDocument] = {}
    characters = 0
    for document in _documents(files, failures):
        is_full = len(batch) == _DOCUMENTS or characters + len(document.text) > _CHARACTERS
        if batch and (is_full or document.key in batch):
            yield [*batch.values()]
            batch, characters = {}, 0
        batch[document.key] = document
        characters += len(document.text)
    if batch:
        yield [*batch.values()]


def _documents(files: Sequence[str], failures: list[str]) -> Iterator[SourceDocument]:
    for pattern in files:
        try:
            paths = list(matching_files(pattern))
        except DspexError as error:
            failures.append(error.message)
            continue
        for path in paths:
            try:
                yield from _with_text(read_file(path), failures)
            except DspexError as error:
                failures.append(error.message)


def _with_text(
    documents: Sequence[SourceDocument], failures: list[str]
) -> Iterator[SourceDocument]:
    for document in documents:
        if document.text.strip():
            yield document
        else:
            failures.append(f"{document.key}: it has no text")


async def _finish(
    services: Services, operations: Operations, job: IngestionRecord
) -> IngestionRecord:
    """Return a job when it has ended, in a worker or else in this process."""

    async def follow(progress: Progress) -> None:
        while True:
            row = await operations.row(INGESTION, job.id)
            progress.done = row.progress.get("documents", 0) + row.progress.get("unchanged", 0)
            await asyncio.sleep(_LOOK_S)

    with Progress(job.operation, job.documents or None, "document") as progress:
        follower = asyncio.create_task(follow(progress))
        try:
            return await run_here(services, INGESTION, job.id, code=code_root())
        finally:
            follower.cancel()
            await asyncio.gather(follower, return_exceptions=True)


def _show_jobs(jobs: Sequence[IngestionRecord], *, as_json: bool) -> int:
    completed = [job for job in jobs if job.status == "completed"]
    for job in jobs:
        if job.status != "completed":
            reason = (job.error or {}).get("message", "")
            say(f"the ingestion {job.id} is {job.status}{reason and f': {reason}'}")
        if job.status == "failed":
            say(
                f"`dspex job resume {job.id}` continues it, in a worker (`dspex worker start`); "
                f"`dspex job cancel {job.id}` gives it up"
            )
    if as_json:
        show_json([visible_values(job) for job in jobs])
    elif completed:
        unchanged = sum(job.unchanged or 0 for job in completed)
        documents = sum(job.documents for job in completed)
        chunks = sum(job.chunks or 0 for job in completed)
        embedded = sum(job.embedded_chunks or 0 for job in completed)
        click.echo(
            f"{quantity(documents, 'document')}: {unchanged:,} unchanged, "
            f"{quantity(chunks, 'chunk')} stored, {embedded:,} embedded"
        )
    return 0 if len(completed) == len(jobs) else 1


@collection_command.command("rebuild")
@click.argument("name")
@click.option("--embedder", help=f"{_EMBEDDER} By default the same.")
@chunking_option
@workspace_option
@state_option
@json_option
def rebuild_command(
    *,
    name: str,
    embedder: str | None,
    chunking: str | None,
    workspace: str | None,
    state_dir: Path | None,
    as_json: bool,
) -> int:
    """Divide and embed all documents again; searches use the old index until then."""

    async def work(services: Services) -> IngestionRecord:
        operations = await operations_in(services, workspace)
        settings = None if chunking is None else _chunking(chunking)
        request = RebuildCollection(name=name, embedder=embedder, chunking=settings)
        job = await operations.perform(rebuild_collection, request)
        return await _finish(services, operations, job)

    return _show_jobs([with_store(state_dir, work)], as_json=as_json)


@collection_command.command("search")
@click.argument("name")
@click.argument("query")
@click.option(
    "--limit", type=click.IntRange(1, MAX_K), default=5, show_default=True, help="Passages to show."
)
@click.option(
    "--mode",
    type=click.Choice(SEARCH_MODES),
    default="hybrid",
    show_default=True,
    help="By words (lexical), by meaning (dense), or both; whole: all documents, if they are few.",
)
@click.option(
    "--weight",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="The share of meaning in hybrid search.",
)
@click.option(
    "--where",
    "filters",
    multiple=True,
    metavar="FILTER=VALUE",
    help="Only documents with such metadata, e.g. topic=shops, year_gte=2020; may be repeated. "
    "Also one object of JSON.",
)
@workspace_option
@state_option
@json_option
def search_command(
    *,
    name: str,
    limit: int,
    filters: Sequence[str],
    workspace: str | None,
    state_dir: Path | None,
    as_json: bool,
    **values: Any,
) -> int:
    """Search a collection by words, by meaning, or both; the best passage comes first."""
    request = SearchCollection(collection=name, k=limit, where=_conditions(filters), **values)

    async def work(services: Services) -> Any:
        operations = await operations_in(services, workspace)
        return await operations.perform(search_collection, request)

    result = with_store(state_dir, work)
    if as_json:
        show_json(visible_values(result))
        return 0
    if result.passages:
        rows = [
            {
                **passage,
                "score": f"{passage['score']:.3f}",
                "text": " ".join(passage["text"].split()),
            }
            for passage in result.passages
        ]
        click.echo(table(rows, ("score", "document", "text")))
    if result.note:
        say(result.note)
    return 0


@collection_command.command("remove")
@click.argument("name")
@click.argument("keys", nargs=-1, required=True)
@workspace_option
@state_option
@json_option
def remove_command(
    *,
    name: str,
    keys: Sequence[str],
    workspace: str | None,
    state_dir: Path | None,
    as_json: bool,
) -> int:
    """Delete documents by their keys, with their chunks and vectors.

    The exit code is 1 if there is no document with one of the keys.
    """

    async def work(services: Services) -> Any:
        operations = await operations_in(services, workspace)
        return await operations.perform(
            delete_documents, DeleteDocuments(collection=name, keys=list(keys))
        )

    result = with_store(state_dir, work)
    if as_json:
        show_result(delete_documents, result, as_json=True)
    else:
        rest = quantity(result.collection.documents, "document")
        click.echo(f"{quantity(result.deleted, 'document')} deleted; {name} has {rest}")
        for key in result.unknown:
            say(f"there is no document {key!r}")
    return 1 if result.unknown else 0


def _chunking(text: str) -> dict[str, Any]:
    """Return settings of a chunker, of its method or of JSON."""
    if text.startswith("@"):
        text = read_text_file(Path(text[1:]))
    if not text.lstrip().startswith("{"):
        return {"method": text.strip()}
    settings: dict[str, Any] = _json("chunking", text)
    return settings


def _json(name: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise InvalidError(f"--{name}: {text!r} is not JSON ({error})") from error


def _conditions(filters: Sequence[str]) -> dict[str, Any]:
    """Return the conditions that `Where.parse` takes, of FILTER=VALUE texts or of JSON.

    Raises:
        InvalidError: a text is neither.
    """
    conditions: dict[str, Any] = {}
    for text in filters:
        if text.lstrip().startswith("{"):
            conditions |= _json("where", text)
            continue
        filter_name, equals, value = text.partition("=")
        if not equals:
            raise InvalidError(f"--where takes FILTER=VALUE, such as year_gte=2020, not {text!r}")
        name, _, operator = filter_name.rpartition("_")
        if not name or operator not in OPERATORS:
            name, operator = filter_name, "eq"
        operators = conditions.setdefault(name, {})
        parsed = _filter_value(operator, value)
        operators[operator] = [*operators.get("in", ()), *parsed] if operator == "in" else parsed
    return conditions


def _filter_value(operator: str, text: str) -> Any:
    """Return a value of JSON, or else the text; "in" takes texts with commas."""
    if operator == "in" and not text.startswith("["):
        return [_filter_value("eq", part) for part in text.split(",")]
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        return text
