"""Cache vectors in memory and in a file."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dspex.arguments import checks_names
from dspex.execution.clients.caching import Cache, ResponseStore
from dspex.execution.clients.embedder import Embedder, EmbeddingKind, Embeddings, load_numpy
from dspex.execution.clients.identity import identify
from dspex.language.records import Usage
from dspex.language.records.canonical import content_hash

if TYPE_CHECKING:
    from dspex.execution.clients.embedder import Vectors


@checks_names
class CachingEmbedder:
    """Wraps an embedder; embeds no text twice, also within one batch.

    The key is the embedder's fingerprint, the kind and the text. Cached vectors cost nothing.
    Failures are not cached. Two equal batches at the same time are both embedded.
    """

    def __init__(
        self, embedder: Embedder, path: str | Path | None = None, *, entries: int = 10_000
    ) -> None:
        """Take the embedder, a file for vectors to keep, and how many to hold in memory.

        The file may be that of a `Caching` model.
        """
        self.embedder = embedder
        self.name = embedder.name
        self.identity = identify(embedder)
        store = None if path is None else ResponseStore(path)
        self._cache = Cache(store, entries=entries, encode=bytes, decode=bytes)
        self._dimensions: int | None = None

    def __repr__(self) -> str:
        return f"CachingEmbedder({self.embedder!r})"

    @property
    def hits(self) -> int:
        """The number of vectors that came from the cache."""
        return self._cache.hits

    @property
    def misses(self) -> int:
        """The number of vectors that were not in the cache."""
        return self._cache.misses

    @property
    def dimensions(self) -> int | None:
        """Return the number of dimensions, None if it is not known yet."""
        return self.embedder.dimensions or self._dimensions

    @property
    def fingerprint(self) -> str:
        """Return the fingerprint of the vectors."""
        return self.embedder.fingerprint

    async def embed(self, texts: Sequence[str], kind: EmbeddingKind = "document") -> Embeddings:
        """Return a vector for each text, from the cache or the embedder; see `Embedder.embed`."""
        numpy = load_numpy("embeddings")
        rows: dict[str, Vectors] = {}
        missing: list[str] = []
        for text in dict.fromkeys(texts):
            data = await self._cache.get(self._key(text, kind))
            if data is None:
                missing.append(text)
            else:
                rows[text] = numpy.frombuffer(data, dtype="<f4")
        usage, seconds = Usage(), None
        if missing:
            embeddings = await self.embedder.embed(missing, kind)
            usage, seconds = embeddings.usage, embeddings.seconds
            for text, row in zip(missing, embeddings.vectors, strict=True):
                rows[text] = row
                await self._cache.put(self._key(text, kind), row.astype("<f4").tobytes())
        vectors = numpy.zeros((0, self.dimensions or 0), dtype=numpy.float32)
        if texts:
            vectors = numpy.stack([rows[text] for text in texts])
            self._dimensions = vectors.shape[1]
        return Embeddings(vectors=vectors, usage=usage, model=self.identity.label, seconds=seconds)

    async def aclose(self) -> None:
        """Close the embedder and the file."""
        await self.embedder.aclose()
        await self._cache.aclose()

    def _key(self, text: str, kind: EmbeddingKind) -> str:
        return content_hash({"embedder": self.fingerprint, "kind": kind, "text": text})
