"""An embedder that hashes words: for tests that need no understanding of language."""

import hashlib
import re
from collections.abc import Sequence
from typing import Final

from dspex.arguments import checks_names
from dspex.errors import DefinitionError
from dspex.execution.clients.embedder import EmbeddingKind, Embeddings, load_numpy
from dspex.language.records import Usage

_WORD: Final = re.compile(r"\w+")


@checks_names
class HashingEmbedder:
    """Adds a pseudo-random vector for each word, so that texts with common words are similar.

    Deterministic on every machine; needs no model. Usage counts words and costs nothing.
    """

    def __init__(self, dimensions: int = 64) -> None:
        """Take the number of dimensions.

        Raises:
            DefinitionError: it is below 8, where vectors of several words could be 0.
        """
        if dimensions < 8:
            raise DefinitionError(f"hashing needs at least 8 dimensions, not {dimensions!r}")
        self.name = "hash"
        self.dimensions = dimensions

    @property
    def fingerprint(self) -> str:
        """Return the fingerprint of the vectors."""
        return f"{self.name}:{self.dimensions}"

    async def embed(self, texts: Sequence[str], kind: EmbeddingKind = "document") -> Embeddings:
        """Return a vector for each text; see `Embedder.embed`."""
        numpy = load_numpy("the embedder 'hash'")
        vectors = numpy.zeros((len(texts), self.dimensions), dtype=numpy.float32)
        words = [_WORD.findall(text.lower()) or [""] for text in texts]
        for row, text_words in zip(vectors, words, strict=True):
            for word in text_words:
                digest = hashlib.shake_128(word.encode(errors="replace")).digest(self.dimensions)
                row += numpy.frombuffer(digest, dtype=numpy.uint8) - 127.5
        vectors /= numpy.linalg.norm(vectors, axis=1, keepdims=True)
        usage = Usage(input_tokens=sum(map(len, words)), calls=1) if texts else Usage()
        return Embeddings(vectors=vectors, usage=usage, model=self.name)

    async def aclose(self) -> None:
        """Do nothing: there is nothing to free."""
