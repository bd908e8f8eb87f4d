"""The embedder for tests that need no language."""

import pytest

from dspex.errors import DefinitionError
from dspex.execution.clients.hashing_embedder import HashingEmbedder
from dspex.testing.embedders import EmbedderContract

VECTOR = [0.043, -0.47, 0.507, 0.395, 0.263, -0.503, -0.192, 0.072]


class TestHashing(EmbedderContract):
    def make(self) -> HashingEmbedder:
        return HashingEmbedder()


async def test_texts_with_common_words_are_similar():
    texts = ["return a lamp", "how to return the LAMP", "pay by card"]
    lamp, how, pay = (await HashingEmbedder(256).embed(texts)).vectors
    assert lamp @ how > 0.4 > abs(lamp @ pay)


async def test_vectors_are_the_same_on_every_machine():
    (vector,) = (await HashingEmbedder(8).embed(["word"])).vectors
    assert [round(float(value), 3) for value in vector] == VECTOR


def test_it_needs_some_dimensions():
    with pytest.raises(DefinitionError, match="at least 8 dimensions"):
        HashingEmbedder(1)
