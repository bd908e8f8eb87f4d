"""Wrap embedders like models: retries, limits, budgets, recordings."""

from collections.abc import Callable, Sequence

from dspex.execution.clients.embedder import Embedder, EmbeddingKind, Embeddings
from dspex.execution.clients.embedding_request import (
    EmbedderModel,
    EmbeddingRequest,
    divide,
    embeddings_of,
    join,
)
from dspex.execution.clients.identity import identify
from dspex.execution.clients.language_model import LanguageModel


class WrappedEmbedder:
    """An embedder whose calls go through wrappers of models, such as `Retrying`.

    `WrappedEmbedder(embedder, Retrying)`; for settings use `functools.partial(Limiting,
    requests_per_minute=60)`. The first wrapper is the innermost. Large batches are divided before
    they reach the wrappers, so each of their calls is one request. `Fallback` makes no sense here:
    vectors of different models cannot be compared.
    """

    def __init__(
        self, embedder: Embedder, *wrappers: Callable[[LanguageModel], LanguageModel]
    ) -> None:
        """Take the embedder and the wrappers."""
        self.embedder = embedder
        self.name = embedder.name
        self.identity = identify(embedder)
        self._model: LanguageModel = EmbedderModel(embedder)
        for wrap in wrappers:
            self._model = wrap(self._model)

    def __repr__(self) -> str:
        return f"WrappedEmbedder({self.embedder!r})"

    @property
    def dimensions(self) -> int | None:
        """Return the number of dimensions, None if it is not known yet."""
        return self.embedder.dimensions

    @property
    def fingerprint(self) -> str:
        """Return the fingerprint of the vectors."""
        return self.embedder.fingerprint

    async def embed(self, texts: Sequence[str], kind: EmbeddingKind = "document") -> Embeddings:
        """Return a vector for each text; see `Embedder.embed`."""
        parts = [
            embeddings_of(await self._model.complete(EmbeddingRequest.of(batch, kind)), len(batch))
            for batch in divide(texts)
        ]
        return join(parts, self.identity.label, self.dimensions)

    async def aclose(self) -> None:
        """Close the embedder and its wrappers."""
        await self._model.aclose()
