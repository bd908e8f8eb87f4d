"""The protocol of embedders: one async call from texts to vectors."""

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

import msgspec

from dspex.errors import ConfigurationError
from dspex.language.records import Usage

if TYPE_CHECKING:  # numpy belongs to an extra
    import numpy
    from numpy.typing import NDArray

    Vectors = NDArray[numpy.float32]

EmbeddingKind = Literal["query", "document"]


class Embeddings(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The vectors of some texts, and what they cost.

    `vectors` has the shape (number of texts, dimensions), float32, each row of length 1: the dot
    product of two rows is their cosine. `model` is the label under which `usage` is booked.
    `seconds` is the embedder's own time, without queueing or other attempts.
    """

    vectors: "Vectors"
    usage: Usage
    model: str
    seconds: float | None = None


class Embedder(Protocol):
    """Turns texts into vectors; safe to share between tasks, threads and event loops.

    `name` is for people and in model strings. `dimensions` is None until the first reply of a
    server whose model is unknown. `fingerprint` changes whenever vectors of before and after must
    not be compared: another model, revision, number of dimensions or instruction.
    """

    name: str

    @property
    def dimensions(self) -> int | None:
        """Return the number of dimensions, None if it is not known yet."""
        ...

    @property
    def fingerprint(self) -> str:
        """Return the fingerprint of the vectors."""
        ...

    async def embed(self, texts: Sequence[str], kind: EmbeddingKind = "document") -> Embeddings:
        """Return a vector for each text, in order; none for no texts.

        Args:
            texts: the texts; batches of any size, which the embedder divides as it needs.
            kind: whether the texts are questions or what is searched. Some models distinguish them.

        Raises:
            ModelError: the class says what happened, `is_retryable` whether to try again. A text
                that is longer than the model's limit is an error, not cut silently.
        """
        ...

    async def aclose(self) -> None:
        """Free the embedder's resources on the running loop; it may be used again afterwards."""
        ...


def load_numpy(what: str) -> Any:
    """Return NumPy, which only embeddings need; `what` needs it.

    Raises:
        ConfigurationError: it is not installed.
    """
    try:
        return importlib.import_module("numpy")
    except ImportError as error:
        raise ConfigurationError(f"{what} needs NumPy: pip install 'dspex[embed]'") from error
