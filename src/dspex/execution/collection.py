"""The collection in memory: documents that are chunked and embedded when they are searched."""

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any, Final, Self

from dspex.arguments import checks_names
from dspex.error_text import quantity, shorten, suggest
from dspex.errors import InputError, RetrievalError
from dspex.execution.clients.embedder import Embedder
from dspex.execution.context import current
from dspex.execution.retrieval import Chunker, SearchResult, Where, parse_chunker
from dspex.execution.retrieval.index_cache import DocumentVersion, IndexCache
from dspex.execution.retrieval.readers import SourceDocument, document_of_row, read_files
from dspex.execution.retrieval.retriever import Retriever, SearchMode, check_query
from dspex.language.records import Passage
from dspex.sync import run as run_sync

WHOLE_TOKENS: Final = 8000  # the longest collection that the mode "whole" returns


@checks_names
class Collection:
    """Documents by key, to search in: in memory, without a server.

    Chunks and vectors are made by the first search that needs them; a text that stays the same is
    never embedded again. Safe to share between tasks and threads.
    """

    def __init__(
        self,
        documents: Iterable[SourceDocument] = (),
        *,
        name: str = "collection",
        embedder: Embedder | str = "default",
        chunking: Chunker | Mapping[str, Any] | str | None = None,
        language: str | None = None,
    ) -> None:
        """Take documents.

        Args:
            documents: documents with different keys.
            name: the name of a stored collection that a stored program uses instead.
            embedder: an embedder or its string, such as "openai/text-embedding-3-small";
                "default" is that of the context, see `dspex.configure`.
            chunking: a chunker, its settings or its method; see `parse_chunker`.
            language: "en" if lexical search should stem English words.

        Raises:
            InputError: two documents have the same key.
            DefinitionError: the chunking is invalid.
        """
        self.name = name
        self.embedder: Embedder | str = embedder
        self.chunker = parse_chunker(chunking)
        self.revision = 0
        self._entries: dict[str, DocumentVersion] = {}
        self._lock = threading.RLock()
        self.indexes = IndexCache(self, language=language)
        for document in documents:
            self.add(document.text, key=document.key, metadata=document.metadata)

    @classmethod
    def from_files(
        cls,
        patterns: str | Path | Sequence[str | Path],
        *,
        name: str = "",
        embedder: Embedder | str = "default",
        chunking: Chunker | Mapping[str, Any] | str | None = None,
        language: str | None = None,
    ) -> Self:
        """Return a collection of files, patterns (`handbook/*.md`) and folders.

        The default name is that of the folder of the first pattern.

        Raises:
            DefinitionError: nothing matches a pattern, or a file cannot be read.
        """
        first = patterns if isinstance(patterns, str | Path) else next(iter(patterns), "")
        parts = [part for part in Path(first).parts[:-1] if not set("*?[/.") & set(part)]
        return cls(
            read_files(patterns),
            name=name or (parts[-1] if parts else "collection"),
            embedder=embedder,
            chunking=chunking,
            language=language,
        )

    @classmethod
    def from_texts(
        cls,
        texts: Iterable[str] | Mapping[str, str],
        *,
        name: str = "collection",
        embedder: Embedder | str = "default",
        chunking: Chunker | Mapping[str, Any] | str | None = None,
        language: str | None = None,
    ) -> Self:
        """Return a collection of texts: by key, or with their position as key."""
        items = (
            texts.items()
            if isinstance(texts, Mapping)
            else ((str(number), text) for number, text in enumerate(texts))
        )
        documents = (SourceDocument(key=key, text=text) for key, text in items)
        return cls(documents, name=name, embedder=embedder, chunking=chunking, language=language)

    @classmethod
    def from_rows(
        cls,
        rows: Iterable[Mapping[str, Any]],
        *,
        name: str = "collection",
        embedder: Embedder | str = "default",
        chunking: Chunker | Mapping[str, Any] | str | None = None,
        language: str | None = None,
    ) -> Self:
        """Return a collection of rows with a column `text`; others are metadata.

        The column `key` or `id` is the key, by default the position; see `document_of_row`.
        """
        documents = (
            document_of_row(row, default_key=str(number)) for number, row in enumerate(rows)
        )
        return cls(documents, name=name, embedder=embedder, chunking=chunking, language=language)

    def add(
        self, text: str, *, key: str | None = None, metadata: Mapping[str, Any] | None = None
    ) -> str:
        """Add a document and return its key, by default the next free position.

        Raises:
            InputError: there is a document with this key; `replace` it.
        """
        with self._lock:
            if key is None:
                key = next(
                    str(n) for n in range(len(self), 2 * len(self) + 1) if str(n) not in self
                )
            if key in self._entries:
                raise InputError(
                    f"the collection {self.name!r} already has a document {key!r}; use replace"
                )
            self._put(key, text, metadata or {}, version=1)
        return key

    def replace(self, key: str, text: str, *, metadata: Mapping[str, Any] | None = None) -> None:
        """Put a new version of a document in the place of the old one, or add the document."""
        with self._lock:
            entry = self._entries.get(key)
            version = 1 if entry is None else entry.version + 1
            document = self._put(key, text, metadata or {}, version=version)
            if entry is not None and entry.document == document:
                self._entries[key] = entry
            elif entry is not None:
                self.indexes.forget(key, text)

    def remove(self, key: str) -> None:
        """Delete a document with its chunks and vectors.

        Raises:
            InputError: there is no such document.
        """
        with self._lock:
            self._entry(key)
            del self._entries[key]
            self.revision += 1
            self.indexes.forget(key, None)

    def snapshot(self) -> tuple[int, Mapping[str, DocumentVersion]]:
        """Return the revision, which each change increases, and the documents by key."""
        with self._lock:
            return self.revision, dict(self._entries)

    def document(self, key: str) -> SourceDocument:
        """Return a document.

        Raises:
            InputError: there is no such document.
        """
        with self._lock:
            return self._entry(key).document

    def __len__(self) -> int:
        """Return the number of documents."""
        return len(self._entries)

    def __contains__(self, key: object) -> bool:
        """Return whether there is a document with this key."""
        return key in self._entries

    def __iter__(self) -> Iterator[str]:
        """Yield the keys of the documents, in the order in which they were added."""
        with self._lock:
            return iter(list(self._entries))

    def __repr__(self) -> str:
        return f"<Collection {self.name!r}, {quantity(len(self), 'document')}>"

    def _repr_html_(self) -> str:
        module = import_module("dspex.execution.retrieval.representation")
        texts = {key: self.document(key).text for key in islice(self, module.SHOWN)}
        markup: str = module.collection_html(self.name, texts, count=len(self))
        return markup

    def retriever(
        self,
        *,
        mode: SearchMode = "hybrid",
        weight: float = 0.5,
        chunking: Mapping[str, Any] | None = None,
        embedder: Embedder | None = None,
    ) -> Retriever:
        """Return a retriever; see `Searchable.retriever`."""
        check_query("any", 1, mode=mode, weight=weight)
        chunker = self.chunker if chunking is None else parse_chunker(chunking)
        return _CollectionRetriever(self, mode, weight, chunker, embedder)

    def search(
        self,
        query: str,
        k: int = 5,
        where: Where | Mapping[str, Any] | None = None,
        *,
        mode: SearchMode = "hybrid",
        weight: float = 0.5,
    ) -> SearchResult:
        """Return the best `k` passages: the synchronous form of `await asearch(...)`."""
        return run_sync(self.asearch(query, k, where, mode=mode, weight=weight))

    async def asearch(
        self,
        query: str,
        k: int = 5,
        where: Where | Mapping[str, Any] | None = None,
        *,
        mode: SearchMode = "hybrid",
        weight: float = 0.5,
    ) -> SearchResult:
        """Return the best `k` passages; see `Searchable.retriever` and `Retriever.search`.

        Raises:
            InputError: a value is invalid.
            ModelError: a text could not be embedded.
        """
        retriever = _CollectionRetriever(self, mode, weight, self.chunker, None)
        return await retriever.search(query, k, where)

    def _entry(self, key: str) -> DocumentVersion:
        entry = self._entries.get(key)
        if entry is None:
            raise InputError(
                f"the collection {self.name!r} has no document {shorten(key)}."
                f"{suggest(str(key), list(self._entries))}"
            )
        return entry

    def _put(
        self, key: str, text: str, metadata: Mapping[str, Any], *, version: int
    ) -> SourceDocument:
        if not isinstance(text, str):
            raise InputError(f"the document {key!r} must be a text, not {shorten(text)}")
        document = SourceDocument(key=key, text=text, metadata=dict(metadata))
        self._entries[key] = DocumentVersion(document, version)
        self.revision += 1
        return document


@dataclass(frozen=True, slots=True)
class _CollectionRetriever:
    """Searches a collection in one way."""

    collection: Collection
    mode: SearchMode
    weight: float
    chunker: Chunker
    embedder: Embedder | None

    @property
    def name(self) -> str:
        return self.collection.name

    async def search(
        self, query: str, k: int = 5, where: Where | Mapping[str, Any] | None = None
    ) -> SearchResult:
        check_query(query, k, mode=self.mode, weight=self.weight)
        conditions = Where.parse(where)
        if self.mode == "whole" and (passages := self._whole(conditions)) is not None:
            return SearchResult(passages=passages, scanned=len(passages))
        embedder = None if self.mode == "lexical" else self._embedder()
        index, usage = await self.collection.indexes.index(self.chunker, embedder)
        positions = index.matching(conditions)
        scanned = len(index.passages if positions is None else positions)
        if not scanned:
            return SearchResult(passages=(), scanned=0, usage=usage)
        vector = None
        if embedder is not None:
            reply = await embedder.embed([query], kind="query")
            vector, usage = reply.vectors[0], usage + reply.usage.of_model(reply.model)
            if index.dimensions != len(vector):
                raise RetrievalError(
                    f"the embedder {embedder.name!r} changed from {index.dimensions} to "
                    f"{len(vector)} dimensions"
                )
        ranking = index.search(
            query, vector, k, mode=self.mode, weight=self.weight, positions=positions
        )
        passages = tuple(replace(index.passages[n], score=score) for n, score in ranking)
        return SearchResult(passages=passages, scanned=scanned, usage=usage)

    def _embedder(self) -> Embedder:
        return self.embedder or current().embedder_for(self.collection.embedder)

    def _whole(self, where: Where) -> tuple[Passage, ...] | None:
        """Return all documents that meet the conditions, None if they are too long together."""
        _, entries = self.collection.snapshot()
        matches = [e for e in entries.values() if where.is_met_by(e.document.metadata)]
        if sum(entry.tokens for entry in matches) > WHOLE_TOKENS:
            return None
        return tuple(
            Passage(
                id=entry.document.key,
                text=entry.document.text,
                metadata=entry.document.metadata,
                document=entry.document.key,
                version=entry.version,
                start=0,
                end=len(entry.document.text),
            )
            for entry in matches
            if entry.document.text.strip()
        )
