"""Embedding calls in the form of model calls, so that wrappers and budgets apply to both."""

import base64
import binascii
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

from dspex.errors import ModelError
from dspex.execution.clients.embedder import Embedder, EmbeddingKind, Embeddings, load_numpy
from dspex.execution.clients.identity import identify
from dspex.execution.clients.language_model import Capability, Request, Response
from dspex.language.records import Message, Usage

if TYPE_CHECKING:
    from dspex.execution.clients.embedder import Vectors

MAX_TEXTS: Final = 100  # of one request; Gemini takes no more
MAX_BYTES: Final = 200_000  # of one request; OpenAI takes 300,000 tokens, each at least a byte


class EmbeddingRequest(Request, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A request for the vectors of texts, which are the contents of its messages."""

    kind: EmbeddingKind

    @classmethod
    def of(cls, texts: Sequence[str], kind: EmbeddingKind) -> "EmbeddingRequest":
        """Return the request; nothing is generated, so its reply has no tokens."""
        return cls(messages=tuple(Message("user", text) for text in texts), max_tokens=0, kind=kind)


class EmbedderModel:
    """Shows an embedder as a model: the text of a reply is its vectors, float32 in base64."""

    capabilities: frozenset[Capability] = frozenset()

    def __init__(self, embedder: Embedder) -> None:
        """Take the embedder."""
        self.name = embedder.name
        self.identity = identify(embedder)
        self._embedder = embedder

    async def complete(self, request: Request) -> Response:
        """Embed the texts of an `EmbeddingRequest`; other requests are refused.

        Raises:
            ModelError: the class says what happened.
        """
        if not isinstance(request, EmbeddingRequest):
            raise ModelError(f"{self.name} is an embedder, and cannot answer messages")
        texts = [message.text for message in request.messages]
        embeddings = await self._embedder.embed(texts, request.kind)
        return Response(
            text=base64.b64encode(embeddings.vectors.tobytes()).decode(),
            usage=embeddings.usage,
            model=self.name,
            identity=self.identity,
            seconds=embeddings.seconds,
        )

    async def aclose(self) -> None:
        """Close the embedder."""
        await self._embedder.aclose()


def embeddings_of(response: Response, count: int) -> Embeddings:
    """Return the embeddings of `count` texts that a response contains.

    Raises:
        ModelError: it does not contain them; a recording may have been edited.
    """
    numpy = load_numpy("embeddings")
    try:
        vectors = numpy.frombuffer(base64.b64decode(response.text), dtype="<f4")
        vectors = vectors.reshape(count, -1)
    except (binascii.Error, ValueError) as error:
        raise ModelError(
            f"the reply of {response.label} is not {count} vectors: {error}"
        ) from error
    return Embeddings(
        vectors=vectors, usage=response.usage, model=response.label, seconds=response.seconds
    )


def divide(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yield the texts in batches for one request each."""
    start = size = 0
    for n, text in enumerate(texts):
        length = len(text.encode(errors="replace"))
        if n > start and (n - start == MAX_TEXTS or size + length > MAX_BYTES):
            yield texts[start:n]
            start, size = n, 0
        size += length
    if texts:
        yield texts[start:]


def join(parts: Iterable[Embeddings], model: str, dimensions: int | None) -> Embeddings:
    """Return the embeddings of several batches as one.

    Raises:
        ModelError: their vectors have different dimensions.
    """
    numpy = load_numpy("embeddings")
    vectors: list[Vectors] = []
    usage, seconds = Usage(), 0.0
    for part in parts:
        vectors.append(part.vectors)
        usage += part.usage
        seconds += part.seconds or 0.0
    sizes = {rows.shape[1] for rows in vectors}
    if len(sizes) > 1:
        raise ModelError(f"{model} answered with vectors of different dimensions: {sorted(sizes)}")
    if not vectors:
        return Embeddings(
            vectors=numpy.zeros((0, dimensions or 0), numpy.float32), usage=usage, model=model
        )
    return Embeddings(
        vectors=numpy.concatenate(vectors), usage=usage, model=model, seconds=seconds or None
    )
