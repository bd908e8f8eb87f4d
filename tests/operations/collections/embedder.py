"""An embedder that remembers what it was asked, and fails or changes on request."""

from collections.abc import Sequence
from pathlib import Path

from dspex.execution.clients.embedder import EmbeddingKind, Embeddings
from dspex.execution.clients.hashing_embedder import HashingEmbedder


class RecordingEmbedder:
    """Hashes words. `texts` are those of documents; with `log`, they are also lines of a file."""

    name = "recording"

    def __init__(self, dimensions: int = 64, *, log: Path | None = None) -> None:
        self.inner = HashingEmbedder(dimensions)
        self.texts: list[str] = []
        self.error: Exception | None = None
        self.fails_after = 0
        self.log = log

    @property
    def dimensions(self) -> int:
        return self.inner.dimensions

    @property
    def fingerprint(self) -> str:
        return self.inner.fingerprint

    async def embed(self, texts: Sequence[str], kind: EmbeddingKind = "document") -> Embeddings:
        if kind == "document":
            if self.error is not None and len(self.texts) >= self.fails_after:
                raise self.error
            self.texts += texts
            if self.log is not None:
                with self.log.open("a") as file:
                    file.writelines(f"{text!r}\n" for text in texts)
        return await self.inner.embed(texts, kind)

    async def aclose(self) -> None:
        await self.inner.aclose()
