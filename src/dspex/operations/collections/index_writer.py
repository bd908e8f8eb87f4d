"""Writes documents to an index: divides them, embeds what is new, and stores the chunks."""

import asyncio
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

from dspex.error_text import quantity
from dspex.errors import ModelError, ModelTimeoutError
from dspex.execution.clients.embedder import Embedder, Embeddings
from dspex.execution.clients.embedding_request import divide, join
from dspex.execution.retrieval.chunker import Chunker
from dspex.language.records import Usage
from dspex.operations.collections.collection_storage import (
    CollectionStorage,
    Fence,
    Index,
    NewChunk,
    Published,
    Spent,
)
from dspex.operations.collections.records import DocumentVersionRecord
from dspex.operations.jobs import JobRun

_CHUNKS: Final = 256  # embedded and stored together
_LONG: Final = 50_000  # characters that are divided in a thread
_LONGEST_S: Final = 600.0  # of one request to the embedder


class IndexWriter:
    """Writes documents in one run of a job, and counts what that takes."""

    def __init__(self, storage: CollectionStorage, run: JobRun, fence: Fence) -> None:
        """Take the storage and the run; `use` names the index."""
        self._storage = storage
        self._run = run
        self._fence = fence
        self.documents = self._unchanged = self._chunks = self._embedded = 0
        self._usage = Usage()

    def use(
        self,
        index: Index,
        embedder: Embedder | None,
        chunker: Chunker,
        *,
        sources: Sequence[Any],
    ) -> None:
        """Write to an index from now on; `sources` are indexes whose vectors may be used again."""
        self._index = index
        self._embedder = embedder
        self._chunker = chunker
        self._sources = sources

    async def write(self, versions: Sequence[DocumentVersionRecord]) -> None:
        """Store the missing chunks of versions, which no search sees yet."""
        if not versions:
            return
        positions = await self._storage.next_positions(
            self._index.id, [version.id for version in versions]
        )
        group: list[NewChunk] = []
        for version in versions:
            position = positions[version.id]
            for chunk in [] if position is None else await self._divide(version):
                if position is not None and chunk.position >= position:
                    group.append(chunk)
                if len(group) == _CHUNKS:
                    await self._store(group)
                    group = []
        if group:
            await self._store(group)

    async def _divide(self, version: DocumentVersionRecord) -> Iterator[NewChunk]:
        if len(version.text) > _LONG:
            chunks = await asyncio.to_thread(self._chunker.divide, version.text)
        else:
            chunks = self._chunker.divide(version.text)
        return (
            NewChunk(
                version_id=version.id,
                position=position,
                is_last=position == len(chunks) - 1,
                start=chunk.start,
                end=chunk.end,
                text=chunk.text,
                text_hash=hashlib.sha256(chunk.text.encode(errors="surrogatepass")).digest(),
                metadata={**version.metadata, **chunk.metadata},
                vector=None,
            )
            for position, chunk in enumerate(chunks)
        )

    async def _store(self, chunks: Sequence[NewChunk]) -> None:
        usage = Usage()
        if self._embedder is not None:
            texts = {chunk.text_hash: chunk.text for chunk in chunks}
            vectors = dict(await self._storage.vectors(self._sources, list(texts)))
            missing = [key for key in texts if key not in vectors]
            if missing:
                new, usage = await self._embed(self._embedder, [texts[key] for key in missing])
                vectors |= zip(missing, new, strict=True)
            chunks = [replace(chunk, vector=vectors[chunk.text_hash]) for chunk in chunks]
            self._embedded += len(missing)
        spent = Spent(tokens=usage.total_tokens, cost_usd=usage.cost_usd)
        await self._storage.add_chunks(self._fence, self._index, chunks, spent=spent)
        self._run.has_progress = True
        self._chunks += len(chunks)
        self._usage += usage
        self.report(quantity(self._chunks, "chunk"))

    async def _embed(self, embedder: Embedder, texts: Sequence[str]) -> tuple[list[bytes], Usage]:
        import numpy as np

        embeddings = await embed_documents(embedder, texts)
        vectors = np.ascontiguousarray(embeddings.vectors, dtype="<f4")
        if vectors.shape != (len(texts), self._index.dimensions):
            raise ModelError(
                f"the embedder {embedder.name!r} returned {vectors.shape[0]} vectors of "
                f"{vectors.shape[1]} dimensions for {len(texts)} texts, the collection has "
                f"{self._index.dimensions} dimensions; if the model was changed, rebuild the "
                "collection"
            )
        if embedder.fingerprint != self._index.fingerprint:
            raise ModelError(
                f"the embedder {embedder.name!r} changed while documents were embedded: its "
                f"fingerprint is {embedder.fingerprint!r}, the collection has "
                f"{self._index.fingerprint!r}; rebuild the collection"
            )
        if not np.isfinite(vectors).all():
            raise ModelError(f"the embedder {embedder.name!r} returned numbers that are not finite")
        return [vector.tobytes() for vector in vectors], embeddings.usage

    def count_documents(self, published: Published) -> None:
        """Count documents that have become visible."""
        self.documents += published.visible
        self._unchanged += published.unchanged

    def report(self, message: str, **progress: Any) -> None:
        """Report the progress."""
        figures = {"documents": self.documents, **self.values()}
        self._run.report(message, **figures, **progress)

    def values(self) -> dict[str, Any]:
        """Return the figures of the run as columns of the job."""
        return {
            "unchanged": self._unchanged,
            "chunks": self._chunks,
            "embedded_chunks": self._embedded,
            "embedded_tokens": self._usage.total_tokens,
            "cost_usd": self._usage.cost_usd,
        }

    def summary(self, total: int) -> str:
        """Return what the run has done, for people."""
        return (
            f"{quantity(total, 'document')}: {self._unchanged:,} unchanged, "
            f"{quantity(self._chunks, 'chunk')} stored, {self._embedded:,} embedded"
        )


async def embed_documents(embedder: Embedder, texts: Sequence[str]) -> Embeddings:
    """Return the embeddings of texts, which are sent in parts that each have a time limit.

    Raises:
        ModelError: the embedder failed. If it is too slow, trying again by itself would only make
            people wait that long once more, so that error is not one that a retry may help.
    """
    parts = [await _embed_part(embedder, part) for part in divide(texts)]
    return join(parts, embedder.name, embedder.dimensions)


async def _embed_part(embedder: Embedder, texts: Sequence[str]) -> Embeddings:
    try:
        async with asyncio.timeout(_LONGEST_S):
            return await embedder.embed(texts, kind="document")
    except (TimeoutError, ModelTimeoutError) as error:
        detail = f"no answer after {_LONGEST_S:g} s"
        if isinstance(error, ModelTimeoutError):
            detail = error.message
        raise ModelError(
            f"the embedder {embedder.name!r} is too slow for {quantity(len(texts), 'text')}: "
            f"{detail}. Searches find what they found before. Check the embedder and resume this "
            "job, which continues where it stopped; or rebuild the collection with a faster "
            "embedder or smaller chunks first"
        ) from error
