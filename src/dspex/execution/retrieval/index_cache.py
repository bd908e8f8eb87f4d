"""The indexes of a collection in memory, one for each chunking, and the vectors they share."""

import asyncio
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from dspex.errors import RetrievalError
from dspex.execution.clients.embedder import Embedder
from dspex.execution.retrieval.chunker import Chunker
from dspex.execution.retrieval.memory_index import MemoryIndex
from dspex.execution.retrieval.readers import SourceDocument
from dspex.execution.retrieval.window import estimate_tokens
from dspex.language.records import Passage, Usage

if TYPE_CHECKING:  # numpy belongs to an extra
    import numpy
    from numpy.typing import NDArray

    Vector = NDArray[numpy.float32]

MAX_INDEXES: Final = 16
_BATCH: Final = 256


class DocumentVersion(msgspec.Struct, frozen=True):
    """A document of a collection in memory, with its version and estimated tokens."""

    document: SourceDocument
    version: int

    @property
    def tokens(self) -> int:
        """Return the estimated tokens of its text."""
        return estimate_tokens(self.document.text)


class DocumentSource(Protocol):
    """Where the indexes get the documents from."""

    revision: int

    def snapshot(self) -> tuple[int, Mapping[str, DocumentVersion]]:
        """Return the revision and its documents by key."""
        ...


class IndexCache:
    """Makes indexes when they are needed; safe to share between tasks, loops and threads.

    Searches that need the same index at once wait for one of them to make it. The vector of a text
    is kept as long as a current version of its document has the text.
    """

    def __init__(self, source: DocumentSource, *, language: str | None) -> None:
        """Take the documents."""
        self._source = source
        self._language = language
        self._chunkers: dict[str, Chunker] = {}
        self._vectors: dict[str, dict[bytes, Vector]] = {}
        self._indexes: OrderedDict[tuple[str, str], tuple[int, MemoryIndex]] = OrderedDict()
        self._pending: dict[tuple[str, str], Future[None]] = {}
        self._lock = threading.Lock()

    async def index(self, chunker: Chunker, embedder: Embedder | None) -> tuple[MemoryIndex, Usage]:
        """Return the current index of a chunking, and what embedding new texts cost.

        Without an embedder, the index is only lexical.
        """
        key = (chunker.fingerprint, "" if embedder is None else embedder.fingerprint)
        while True:
            with self._lock:
                revision, index = self._indexes.get(key, (None, None))
                if index is not None and revision == self._source.revision:
                    self._indexes.move_to_end(key)
                    return index, Usage()
                pending = self._pending.get(key)
                if pending is None:
                    self._pending[key] = future = Future[None]()
                    future.set_running_or_notify_cancel()  # so that no waiting task cancels it
            if pending is None:
                break
            await asyncio.wrap_future(pending)
        try:
            return await self._make(key, chunker, embedder)
        finally:
            with self._lock:
                del self._pending[key]
            future.set_result(None)

    def forget(self, key: str, text: str | None) -> None:
        """Drop the vectors of a document, except those of chunks that a new text of it has."""
        with self._lock:
            vectors, chunkers = self._vectors.pop(key, None), list(self._chunkers.values())
            self._indexes.clear()
        if vectors and text is not None:
            digests = {_digest(c.text) for chunker in chunkers for c in chunker.divide(text)}
            remaining = {name: row for name, row in vectors.items() if name[-16:] in digests}
            with self._lock:
                self._vectors[key] = remaining | self._vectors.get(key, {})

    async def _make(
        self, key: tuple[str, str], chunker: Chunker, embedder: Embedder | None
    ) -> tuple[MemoryIndex, Usage]:
        revision, documents = self._source.snapshot()
        self._chunkers[key[0]] = chunker
        passages = [
            passage for entry in documents.values() for passage in _passages(entry, chunker)
        ]
        vectors, usage = None, Usage()
        if embedder is not None:
            vectors, usage = await self._embed(passages, embedder)
        index = MemoryIndex(passages, vectors, language=self._language)
        with self._lock:
            self._indexes[key] = (revision, index)
            while len(self._indexes) > MAX_INDEXES:
                self._indexes.popitem(last=False)
        return index, usage

    async def _embed(self, passages: Sequence[Passage], embedder: Embedder) -> tuple[Any, Usage]:
        """Return the vectors of the passages; only new texts are embedded."""
        import numpy

        prefix, usage = embedder.fingerprint.encode(), Usage()
        names = [prefix + _digest(passage.text) for passage in passages]
        places = [
            (passage.document or "", name) for passage, name in zip(passages, names, strict=True)
        ]
        texts: dict[tuple[str, bytes], str] = {}
        for place, passage in zip(places, passages, strict=True):
            if place[1] not in self._vectors.get(place[0], {}):
                texts[place] = passage.text
        missing = list(texts)
        for start in range(0, len(missing), _BATCH):
            batch = missing[start : start + _BATCH]
            reply = await embedder.embed([texts[place] for place in batch], kind="document")
            usage += reply.usage.of_model(reply.model)
            with self._lock:
                for (document, name), row in zip(batch, reply.vectors, strict=True):
                    self._vectors.setdefault(document, {})[name] = row
        rows = [self._vectors[document][name] for document, name in places]
        if len({len(row) for row in rows}) > 1:
            raise RetrievalError(
                f"the embedder {embedder.name!r} returned vectors of different dimensions: "
                f"{sorted({len(row) for row in rows})}"
            )
        return (numpy.stack(rows) if rows else None), usage


def _passages(entry: DocumentVersion, chunker: Chunker) -> list[Passage]:
    document = entry.document
    return [
        Passage(
            id=f"{document.key}#{number}",
            text=chunk.text,
            metadata={**document.metadata, **chunk.metadata},
            document=document.key,
            version=entry.version,
            start=chunk.start,
            end=chunk.end,
        )
        for number, chunk in enumerate(chunker.divide(document.text), 1)
    ]


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16).digest()
