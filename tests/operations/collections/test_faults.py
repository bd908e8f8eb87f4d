"""Embedders and databases that fail: a clear error, and nothing half written."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from dspex.errors import ConfigurationError, ContextTooLongError, ModelError, ModelTimeoutError
from dspex.execution.clients.embedder import EmbeddingKind, Embeddings
from dspex.execution.clients.hashing_embedder import HashingEmbedder
from dspex.operations.collections import index_writer
from dspex.operations.collections.records import DOCUMENT_VERSION, INGESTION
from dspex.operations.storage import memory_search, postgres_search
from dspex.operations.storage.memory_cache import MemoryCache
from tests.operations.collections.conftest import Desk, OpenDesk, documents
from tests.operations.collections.test_complaints import filled, stored_rows

MANY = {f"n{number}": f"new lamp {number}" for number in range(300)}


class WaitingEmbedder:
    """Hashes words, and waits in the second batch of documents until it may go on."""

    name = "waiting"

    def __init__(self, inner: HashingEmbedder) -> None:
        self._inner = inner
        self.dimensions, self.fingerprint = inner.dimensions, inner.fingerprint
        self.batches = 0
        self.waits, self.goes_on = asyncio.Event(), asyncio.Event()

    async def embed(self, texts: Sequence[str], kind: EmbeddingKind = "document") -> Embeddings:
        self.batches += kind == "document"
        if self.batches == 2:
            self.waits.set()
            await self.goes_on.wait()
        return await self._inner.embed(texts, kind)

    async def aclose(self) -> None:
        await self._inner.aclose()


class ChangingEmbedder(WaitingEmbedder):
    """Is another model after the first batch."""

    async def embed(self, texts: Sequence[str], kind: EmbeddingKind = "document") -> Embeddings:
        self.fingerprint = "another"
        return await self._inner.embed(texts, kind)


async def test_an_ingestion_that_waits_for_its_embedder_can_be_paused(open_desk: OpenDesk) -> None:
    async with open_desk() as desk:
        await filled(desk, a="old lamp")
        slow: Any = WaitingEmbedder(desk.embedder.inner)
        desk.embedder.inner, desk.embedder.texts = slow, []
        adding = asyncio.create_task(
            desk.perform("add_documents", collection="handbook", documents=documents(**MANY))
        )
        await slow.waits.wait()
        visible = await desk.keys("handbook", "lamp", mode="lexical", k=400)
        (job,) = await desk.operations.store.select(INGESTION, _running())
        await desk.perform("pause_ingestion", id=job.id)
        assert (await adding).status == "paused"
        assert await desk.keys("handbook", "lamp", mode="lexical", k=400) == visible
        slow.goes_on.set()
        job = await desk.perform("resume_ingestion", id=job.id)
        assert (job.status, job.error) == ("completed", None)
        assert len(await desk.keys("handbook", "lamp", mode="dense", k=400)) == 301
        stored = len({*desk.embedder.texts})
        assert len(desk.embedder.texts) - stored <= 256  # the batch that was waited for


def _running() -> Any:
    from dspex.operations.framework.store import Query

    return Query(where={"status": "running"}, limit=2)


async def test_a_hung_embedder_fails_the_job_once_and_says_what_to_do(
    open_desk: OpenDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_desk() as desk:
        await filled(desk, a="old lamp")
        hung: Any = WaitingEmbedder(desk.embedder.inner)
        desk.embedder.inner = hung
        monkeypatch.setattr(index_writer, "_LONGEST_S", 0.2)
        many = documents(a="new lamp", **MANY)
        job = await desk.perform("add_documents", collection="handbook", documents=many)
        assert (job.status, job.attempts) == ("failed", 1)
        message = job.error["message"]
        assert "the embedder 'recording' is too slow for" in message
        assert "no answer after 0.2 s" in message
        assert "resume this job" in message
        assert "rebuild the collection" in message
        keys = await desk.keys("handbook", "lamp", mode="lexical", k=400)
        assert len(keys) == len({*keys})
        assert "a" in keys
        monkeypatch.undo()
        hung.goes_on.set()
        job = await desk.perform("resume_ingestion", id=job.id)
        assert (job.status, job.error) == ("completed", None)
        assert len(await desk.keys("handbook", "lamp", mode="dense", k=400)) == 301


async def test_an_embedder_without_an_answer_fails_the_job_and_the_search_with_its_error(
    open_desk: OpenDesk,
) -> None:
    async with open_desk() as desk:
        await filled(desk, a="old lamp")
        error = ModelTimeoutError("the embedder 'recording' did not answer within 60 s")
        desk.embedder.error = error
        job = await desk.perform(
            "add_documents", collection="handbook", documents=documents(a="new lamp")
        )
        assert (job.status, job.attempts) == ("failed", 1)  # each attempt would wait that long
        assert error.message in job.error["message"]
        desk.embedder.inner = _Silent(desk.embedder.inner, error)
        for mode in ("dense", "hybrid"):
            with pytest.raises(ModelTimeoutError, match="did not answer within 60 s"):
                await desk.keys("handbook", "lamp", mode=mode)
        assert await desk.keys("handbook", "lamp", mode="lexical") == ["a"]


async def test_a_failed_ingestion_can_be_cancelled_which_discards_its_texts(
    open_desk: OpenDesk,
) -> None:
    async with open_desk() as desk:
        await filled(desk, a="old lamp")
        desk.embedder.error = ModelError("the embedder is down")
        job = await desk.perform(
            "add_documents", collection="handbook", documents=documents(a="new lamp", b="chair")
        )
        assert job.status == "failed"
        assert await desk.operations.store.count(DOCUMENT_VERSION, {}) == 3
        assert (await desk.perform("cancel_ingestion", id=job.id)).status == "cancelled"
        assert await desk.operations.store.count(DOCUMENT_VERSION, {}) == 1
        assert await desk.keys("handbook", "old", mode="lexical") == ["a"]


async def test_a_rebuild_with_a_slow_embedder_fails_and_can_be_cancelled(
    open_desk: OpenDesk,
) -> None:
    async with open_desk() as desk:
        await filled(desk, a="old lamp")
        before = desk.embedder.inner
        desk.embedder.inner = HashingEmbedder(32)  # its vectors have to be made
        desk.embedder.error = ModelTimeoutError("no answer in time")
        job = await desk.perform("rebuild_collection", name="handbook")
        assert (job.status, job.attempts) == ("failed", 1)
        assert "no answer in time. Searches find what they found before" in job.error["message"]
        assert (await desk.perform("cancel_ingestion", id=job.id)).status == "cancelled"
        desk.embedder.inner = before
        assert (await stored_rows(desk))[0] == 1
        for mode in ("lexical", "dense"):
            assert await desk.keys("handbook", "old", mode=mode) == ["a"]


class _Silent(HashingEmbedder):
    """Never answers."""

    def __init__(self, inner: HashingEmbedder, error: Exception) -> None:
        super().__init__(inner.dimensions)
        self._error = error

    async def embed(self, texts: Sequence[str], kind: EmbeddingKind = "document") -> Embeddings:
        raise self._error


async def test_an_embedder_that_changes_within_a_job_fails_it(open_desk: OpenDesk) -> None:
    async with open_desk() as desk:
        await filled(desk, a="old lamp")
        before = desk.embedder.inner
        changing: Any = ChangingEmbedder(before)
        desk.embedder.inner = changing
        job = await desk.perform(
            "add_documents", collection="handbook", documents=documents(a="new lamp")
        )
        assert job.status == "failed"
        assert "changed while documents were embedded" in job.error["message"]
        assert "rebuild the collection" in job.error["message"]
        desk.embedder.inner = before
        assert await desk.keys("handbook", "old", mode="lexical") == ["a"]
        assert (await stored_rows(desk))[0] == 1  # no chunk of the other model


async def test_a_text_longer_than_the_model_takes_is_an_error_that_says_so(
    open_desk: OpenDesk,
) -> None:
    pytest.importorskip("numpy")
    async with open_desk() as desk:
        await desk.perform(
            "create_collection",
            name="handbook",
            embedder="offline",
            chunking={"method": "recursive", "tokens": 2_000},
        )
        short, long = documents(a="old lamp"), documents(b="lamp and chair " * 400)
        await desk.perform("add_documents", collection="handbook", documents=short)
        with pytest.raises(ContextTooLongError, match="510"):
            await desk.keys("handbook", "lamp and chair " * 400, mode="dense")
        assert await desk.keys("handbook", "lamp and chair " * 400, mode="lexical") == ["a"]
        job = await desk.perform("add_documents", collection="handbook", documents=long)
        assert job.status == "failed"
        assert "510" in job.error["message"]
        assert await desk.keys("handbook", "lamp", mode="hybrid") == ["a"]


async def without_pgvector(desk: Desk) -> None:
    if desk.services.data.is_sqlite:
        pytest.skip("SQLite has no extension to lack")
    async with desk.services.data.autocommit() as connection:
        await connection.exec_driver_sql("DROP EXTENSION vector CASCADE")


@pytest.mark.parametrize("has_room", [True, False])
async def test_without_pgvector_searches_find_the_same(
    open_desk: OpenDesk, monkeypatch: pytest.MonkeyPatch, has_room: bool
) -> None:
    monkeypatch.setattr(memory_search, "_PORTION", 7)
    if not has_room:
        monkeypatch.setattr(MemoryCache, "fits", lambda *_: False)
    async with open_desk() as desk:
        await without_pgvector(desk)
        await desk.perform("create_collection", name="handbook", embedder="hash")
        rows = [
            {"key": f"d{n}", "text": f"lamp {n}", "metadata": {"even": n % 2 == 0}}
            for n in range(30)
        ]
        job = await desk.perform("add_documents", collection="handbook", documents=rows)
        assert (job.status, job.error) == ("completed", None)
        for mode in ("dense", "hybrid"):
            assert (await desk.keys("handbook", "lamp 17", mode=mode))[0] == "d17"
        keys = await desk.keys("handbook", "lamp 8", mode="dense", where={"even": True}, k=30)
        assert sorted(keys) == sorted(f"d{n}" for n in range(0, 30, 2))


async def test_without_pgvector_a_collection_too_large_for_memory_names_both_remedies(
    open_desk: OpenDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MemoryCache, "fits", lambda *_: False)
    monkeypatch.setattr(postgres_search, "_MAX_PORTIONS", 1)
    async with open_desk() as desk:
        await without_pgvector(desk)
        await filled(desk, a="old lamp", b="chair")
        with pytest.raises(ConfigurationError, match="CREATE EXTENSION vector") as caught:
            await desk.keys("handbook", "lamp", mode="dense")
        assert "search_memory_mib" in str(caught.value)
        assert await desk.keys("handbook", "lamp", mode="lexical") == ["a"]
