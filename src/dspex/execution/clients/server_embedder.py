"""What embedders at servers share: batches, checks of their replies, identity."""

import hashlib
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dspex.errors import DefinitionError, ModelError
from dspex.execution.clients.embedder import EmbeddingKind, Embeddings, load_numpy
from dspex.execution.clients.embedding_request import divide, join
from dspex.execution.clients.identity import ModelIdentity
from dspex.language.records import Usage

if TYPE_CHECKING:
    from dspex.execution.clients.embedder import Vectors


class ServerEmbedder(ABC):
    """Sends texts in batches and checks the vectors of the replies; makes one attempt.

    A server is not trusted: a wrong number of vectors, other dimensions than before, or values that
    are not numbers are errors.
    """

    def __init__(self, identity: ModelIdentity, *, name: str, dimensions: int | None) -> None:
        """Take the identity of the model, and the number of dimensions to ask for.

        Raises:
            DefinitionError: the number of dimensions is below 1.
        """
        if dimensions is not None and dimensions < 1:
            raise DefinitionError(f"an embedder needs at least 1 dimension, not {dimensions!r}")
        self.name = name
        self.identity = identity
        self.dimensions = dimensions
        text = f"{identity.label} {dimensions or ''}"
        digest = hashlib.sha256(text.encode(errors="replace")).hexdigest()[:16]
        self._digest = f"{identity.name}:{digest}"  # without the address, which may be private

    @property
    def fingerprint(self) -> str:
        """Return the fingerprint of the vectors."""
        return self._digest

    async def embed(self, texts: Sequence[str], kind: EmbeddingKind = "document") -> Embeddings:
        """Return a vector for each text; see `Embedder.embed`."""
        load_numpy(f"the embedder {self.name!r}")
        parts = [await self._embed(batch, kind) for batch in divide(texts)]
        return join(parts, self.identity.label, self.dimensions)

    @abstractmethod
    async def send(self, texts: Sequence[str], kind: EmbeddingKind) -> tuple[Sequence[Any], Usage]:
        """Send one batch; return a sequence of numbers for each text, and the usage."""

    @abstractmethod
    async def aclose(self) -> None:
        """Free the embedder's resources on the running loop; it may be used again afterwards."""

    async def _embed(self, texts: Sequence[str], kind: EmbeddingKind) -> Embeddings:
        start = time.monotonic_ns()
        rows, usage = await self.send(texts, kind)
        seconds = (time.monotonic_ns() - start) / 1e9
        vectors = self._vectors(rows, len(texts))
        return Embeddings(vectors=vectors, usage=usage, model=self.identity.label, seconds=seconds)

    def _vectors(self, rows: Sequence[Any], count: int) -> "Vectors":
        """Return the rows as vectors of length 1."""
        numpy = load_numpy("embeddings")
        if len(rows) != count:
            raise ModelError(f"{self.name} answered with {len(rows)} vectors for {count} texts")
        sizes = {len(row) for row in rows}
        expected = {self.dimensions} if self.dimensions else sizes
        if sizes != expected or len(sizes) != 1 or sizes == {0}:
            raise ModelError(
                f"{self.name} answered with vectors of {sorted(sizes)} dimensions instead of "
                f"{self.dimensions or 'one number of them'}; is it another model now?"
            )
        vectors = numpy.array(rows, dtype=numpy.float64)
        lengths = numpy.linalg.norm(vectors, axis=1, keepdims=True)
        if not all(math.isfinite(length) and length for length in lengths[:, 0]):
            raise ModelError(f"{self.name} answered with a vector that has no direction")
        self.dimensions = len(rows[0])
        unit: Vectors = (vectors / lengths).astype(numpy.float32)
        return unit
