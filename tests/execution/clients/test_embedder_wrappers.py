"""Wrappers around embedders: those of models, and the cache of vectors."""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest

from dspex.errors import BudgetError, ModelError, ModelUnavailableError, RateLimitedError
from dspex.execution.backends.parent import Parent, WorkerEmbedder
from dspex.execution.backends.remote import embed_for_worker
from dspex.execution.clients import Budget, Budgeted, Request, Retrying
from dspex.execution.clients.caching_embedder import CachingEmbedder
from dspex.execution.clients.cassette import Recording
from dspex.execution.clients.embedder import Embedder, EmbeddingKind, Embeddings
from dspex.execution.clients.embedding_request import EmbedderModel, divide
from dspex.execution.clients.hashing_embedder import HashingEmbedder
from dspex.execution.clients.limiting import Limiting
from dspex.execution.clients.prices import Price
from dspex.execution.clients.wrapped_embedder import WrappedEmbedder
from dspex.execution.context import RunContext
from dspex.language.records import Message
from dspex.testing import FakeClock
from dspex.testing.embedders import EmbedderContract

TEXTS = ["one", "two words", "and three words"]


class CountingEmbedder(HashingEmbedder):
    """Lists the batches; raises the next of its errors first."""

    def __init__(self, *errors: Exception) -> None:
        super().__init__()
        self.batches: list[list[str]] = []
        self.errors = list(errors)

    async def embed(self, texts: Sequence[str], kind: EmbeddingKind = "document") -> Embeddings:
        self.batches.append(list(texts))
        if self.errors:
            raise self.errors.pop(0)
        return await super().embed(texts, kind)


class TestWrapped(EmbedderContract):
    def make(self) -> WrappedEmbedder:
        return WrappedEmbedder(HashingEmbedder(), Retrying, Limiting)


class ParentCall:
    """Answers as the parent of a worker does."""

    def callback(self, command: str, args: dict[str, Any]) -> Any:
        embedder = HashingEmbedder()
        if command == "embedder":
            return {name: getattr(embedder, name) for name in ("name", "fingerprint", "dimensions")}
        context = RunContext(embedders=lambda _name: embedder)
        return asyncio.run(embed_for_worker(context, args))


class TestWorkerEmbedder(EmbedderContract):
    def make(self) -> WorkerEmbedder:
        return WorkerEmbedder(Parent(ParentCall()), "hashing")


class TestCached(EmbedderContract):
    def make(self) -> CachingEmbedder:
        return CachingEmbedder(HashingEmbedder())


async def test_failures_are_retried_by_the_loop_of_models():
    inner = CountingEmbedder(ModelUnavailableError("away"), RateLimitedError("slow down"))
    embedder = WrappedEmbedder(inner, partial(Retrying, clock=FakeClock(jumps=True)))
    assert (await embedder.embed(TEXTS)).vectors.shape == (3, 64)
    assert inner.batches == [TEXTS] * 3


async def test_what_cannot_be_retried_is_raised_at_once():
    inner = CountingEmbedder(ModelError("a wrong reply"))
    with pytest.raises(ModelError, match="a wrong reply"):
        await WrappedEmbedder(inner, Retrying).embed(TEXTS)
    assert len(inner.batches) == 1


async def test_a_large_batch_is_divided_before_it_is_retried():
    inner = CountingEmbedder()
    texts = [f"text {n}" for n in range(150)]
    inner.errors = [ModelUnavailableError("away")]
    embedder = WrappedEmbedder(inner, partial(Retrying, clock=FakeClock(jumps=True)))
    embeddings = await embedder.embed(texts)
    assert [len(batch) for batch in inner.batches] == [100, 100, 50]
    assert (embeddings.vectors == (await HashingEmbedder().embed(texts)).vectors).all()


@pytest.mark.parametrize(
    ("texts", "sizes"),
    [
        ([], []),
        (["a"], [1]),
        (["a"] * 250, [100, 100, 50]),
        (["a" * 90_000] * 5, [2, 2, 1]),
        (["a" * 300_000, "b", "ä" * 150_000], [1, 1, 1]),
        (["\ud800"], [1]),
    ],
)
def test_texts_are_divided_by_number_and_by_bytes(texts, sizes):
    batches = list(divide(texts))
    assert [len(batch) for batch in batches] == sizes
    assert [text for batch in batches for text in batch] == texts


async def test_requests_wait_for_the_limit_per_minute():
    clock = FakeClock(jumps=True)
    limit = partial(Limiting, requests_per_minute=60, clock=clock)
    embedder = WrappedEmbedder(HashingEmbedder(), limit)
    start = clock.monotonic_ns()
    for _ in range(20):
        await embedder.embed(["a"])
    assert clock.monotonic_ns() - start > 10e9


async def test_embeddings_are_recorded_and_replayed(tmp_path):
    path = tmp_path / "calls.jsonl"
    vectors = (
        await WrappedEmbedder(HashingEmbedder(), partial(Recording, path=path)).embed(TEXTS)
    ).vectors
    inner = CountingEmbedder()
    replayed = WrappedEmbedder(inner, partial(Recording, path=path, mode="replay"))
    assert ((await replayed.embed(TEXTS)).vectors == vectors).all()
    assert inner.batches == []
    for texts, kind in ((TEXTS, "query"), (TEXTS[:2], "document")):
        with pytest.raises(ModelError, match="has no answer to this request"):
            await replayed.embed(texts, kind)
    path.write_text(path.read_text().replace('"text":"', '"text":"AAAA'))
    with pytest.raises(ModelError, match="is not 3 vectors"):
        await WrappedEmbedder(inner, partial(Recording, path=path)).embed(TEXTS)


def within(budget: Budget, embedder: Embedder) -> WrappedEmbedder:
    return WrappedEmbedder(embedder, partial(Budgeted, budget=budget))


async def test_a_budget_counts_tokens_and_refuses_what_could_exceed_it():
    budget = Budget(tokens=1000)
    await within(budget, HashingEmbedder()).embed(TEXTS)
    assert budget.spent.input_tokens == 6
    with pytest.raises(BudgetError):
        await within(budget, HashingEmbedder()).embed(["x" * 2000])
    assert budget.spent.calls == 1


async def test_a_budget_counts_each_request_of_a_large_batch_and_each_attempt():
    budget = Budget(calls=3)
    inner = CountingEmbedder(ModelUnavailableError("away"))
    embedder = WrappedEmbedder(inner, partial(Retrying, clock=FakeClock(jumps=True)))
    await within(budget, embedder).embed(["a"] * 150)
    assert budget.spent.calls == 3
    with pytest.raises(BudgetError):
        await within(budget, embedder).embed(["a"])
    assert len(inner.batches) == 3


async def test_a_budget_in_dollars_needs_a_price():
    with pytest.raises(BudgetError, match="price of 'hash' is unknown"):
        await within(Budget(usd=1), HashingEmbedder()).embed(TEXTS)
    price = Price(((0, 1e4),), ((0, 0.0),), ((0, 1e4),))
    budget = Budget(usd=10, price=lambda _: price)
    await within(budget, HashingEmbedder()).embed(TEXTS)
    with pytest.raises(BudgetError):
        await within(budget, HashingEmbedder()).embed(["x" * 1000])


async def test_an_embedder_answers_no_messages():
    with pytest.raises(ModelError, match="is an embedder"):
        await EmbedderModel(HashingEmbedder()).complete(Request(messages=(Message("user", "u"),)))


async def test_no_text_is_embedded_twice():
    inner = CountingEmbedder()
    cached = CachingEmbedder(inner)
    first = await cached.embed(["a", "b", "a"])
    second = await cached.embed(["b", "c"])
    assert inner.batches == [["a", "b"], ["c"]]
    assert (first.vectors[0] == first.vectors[2]).all()
    assert (first.vectors[1] == second.vectors[0]).all()
    assert (await cached.embed(["c", "a"])).usage.calls == 0
    assert (cached.hits, cached.misses) == (3, 3)


async def test_a_query_has_another_vector_than_a_document():
    inner = CountingEmbedder()
    cached = CachingEmbedder(inner)
    await cached.embed(["a"], "query")
    await cached.embed(["a"], "document")
    assert inner.batches == [["a"], ["a"]]


async def test_vectors_stay_in_the_file_and_failures_do_not(tmp_path):
    first = CachingEmbedder(CountingEmbedder(ModelUnavailableError("away")), tmp_path / "cache.db")
    with pytest.raises(ModelUnavailableError):
        await first.embed(TEXTS)
    vectors = (await first.embed(TEXTS)).vectors
    await first.aclose()
    inner = CountingEmbedder()
    second = CachingEmbedder(inner, tmp_path / "cache.db")
    assert ((await second.embed(TEXTS)).vectors == vectors).all()
    assert inner.batches == []
    await second.aclose()


async def test_vectors_of_another_fingerprint_are_not_used(tmp_path):
    for dimensions in (16, 32):
        cached = CachingEmbedder(HashingEmbedder(dimensions), tmp_path / "cache.db")
        assert (await cached.embed(["a"])).vectors.shape == (1, dimensions)
        await cached.aclose()


async def test_only_the_last_entries_stay_in_memory():
    inner = CountingEmbedder()
    cached = CachingEmbedder(inner, entries=2)
    await cached.embed(["a", "b", "c"])
    await cached.embed(["b", "c"])
    await cached.embed(["a"])
    assert inner.batches == [["a", "b", "c"], ["a"]]


async def test_concurrent_batches_do_not_disturb_each_other():
    cached = CachingEmbedder(CountingEmbedder())
    results = await asyncio.gather(*(cached.embed([f"{n}", "same"]) for n in range(10)))
    assert all((result.vectors[1] == results[0].vectors[1]).all() for result in results)
