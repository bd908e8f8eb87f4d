"""The contract suite of embedders."""

import asyncio
from collections.abc import Sequence

import pytest

from dspex.execution.clients.embedder import Embedder, EmbeddingKind, Embeddings

TEXTS = (
    "My card was swallowed by the machine.",
    "Why is my transfer pending?",
    "Wie kann ich meine Karte sperren? 🙂",
    "My card was swallowed by the machine.",
)


class EmbedderContract:
    """The contract of `Embedder`. Subclass it and implement `make`; pytest runs it."""

    texts: Sequence[str] = TEXTS
    """The texts to embed; the first and the last are equal, the others differ."""

    def make(self) -> Embedder:
        """Return the embedder under test, new for each test."""
        raise NotImplementedError

    def embed(self, texts: Sequence[str], kind: EmbeddingKind = "document") -> Embeddings:
        """Embed the texts by a new embedder, and close it."""

        async def once() -> Embeddings:
            embedder = self.make()
            try:
                return await embedder.embed(texts, kind)
            finally:
                await embedder.aclose()

        return asyncio.run(once())

    def test_it_has_a_name_and_a_fingerprint_that_embedding_does_not_change(self) -> None:
        """Two embedders made alike have one fingerprint, before and after they are used."""

        async def main() -> None:
            embedder = self.make()
            before = embedder.fingerprint
            await embedder.embed(self.texts)
            assert embedder.name
            assert before == embedder.fingerprint == self.make().fingerprint
            await embedder.aclose()

        asyncio.run(main())

    @pytest.mark.parametrize("kind", ["query", "document"])
    def test_each_text_has_a_vector_of_length_one(self, kind: EmbeddingKind) -> None:
        """Vectors are float32, finite and of the embedder's dimensions."""

        async def main() -> None:
            embedder = self.make()
            vectors = (await embedder.embed(self.texts, kind)).vectors
            assert vectors.shape == (len(self.texts), embedder.dimensions)
            assert str(vectors.dtype) == "float32"
            assert abs((vectors**2).sum(axis=1) - 1.0).max() < 1e-4
            await embedder.aclose()

        asyncio.run(main())

    def test_vectors_are_in_the_order_of_the_texts(self) -> None:
        """Equal texts have equal vectors, other texts have others, whatever is beside them."""
        vectors = self.embed(self.texts).vectors
        reverse = self.embed(self.texts[::-1]).vectors[::-1]
        assert (vectors * reverse).sum(axis=1).min() > 0.9999
        assert vectors[0] @ vectors[-1] > 0.9999
        assert max(vectors[0] @ vector for vector in vectors[1:-1]) < 0.9999

    def test_no_texts_have_no_vectors_and_cost_nothing(self) -> None:
        """An empty batch is not an error."""
        embeddings = self.embed([])
        assert len(embeddings.vectors) == 0
        assert embeddings.usage.calls == 0

    def test_usage_counts_the_tokens_of_the_texts(self) -> None:
        """More text is more usage; nothing is generated."""
        few, many = self.embed(self.texts[:1]), self.embed(self.texts)
        assert few.model == many.model
        assert many.usage.calls >= few.usage.calls >= 1
        assert many.usage.input_tokens > few.usage.input_tokens > 0
        assert many.usage.output_tokens == 0

    def test_it_embeds_many_batches_at_once(self) -> None:
        """Concurrent calls do not disturb each other."""

        async def main() -> None:
            embedder = self.make()
            batches = [self.texts[n:] for n in range(len(self.texts))]
            results = await asyncio.gather(*map(embedder.embed, batches))
            for n, embeddings in enumerate(results):
                assert (embeddings.vectors * results[0].vectors[n:]).sum(axis=1).min() > 0.9999
            await embedder.aclose()

        asyncio.run(main())

    def test_it_works_on_one_loop_after_another_and_after_closing(self) -> None:
        """No connection is tied to the first loop; a closed embedder can be used again."""
        embedder = self.make()

        async def twice() -> None:
            for _ in range(2):
                assert len((await embedder.embed(self.texts)).vectors) == len(self.texts)
                await embedder.aclose()

        asyncio.run(twice())
        asyncio.run(twice())

    def test_a_cancelled_call_ends_and_the_next_one_works(self) -> None:
        """Cancelling leaves the embedder usable."""

        async def main() -> None:
            embedder = self.make()
            task = asyncio.create_task(embedder.embed(self.texts))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert len((await embedder.embed(self.texts)).vectors) == len(self.texts)
            await embedder.aclose()

        asyncio.run(main())
