"""What users of other libraries complain about does not happen here; nor does it under faults."""

from typing import Any

import pytest
import sqlalchemy as sa

from dspex.errors import ConfigurationError, InvalidError, ModelError, NotFoundError
from dspex.operations.storage import postgres_search
from dspex.operations.storage.memory_cache import MemoryCache
from tests.operations.collections.conftest import Desk, OpenDesk, documents

FILTERS: list[tuple[dict[str, Any], set[str]]] = [
    ({"year": 2020}, {"a"}),
    ({"year": {"gte": 2020, "lt": 2022}}, {"a", "b"}),
    ({"year": {"ne": 2020}}, {"b", "c", "d"}),
    ({"year": "2020"}, {"d"}),
    ({"team": {"in": ["red", "blue"]}}, {"a", "b"}),
    ({"team": None}, {"c", "d"}),
    ({"team": {"exists": True}}, {"a", "b"}),
    ({"tags": {"contains": "new"}}, {"b"}),
    ({"tags": {"contains": 1}}, {"b"}),
    ({"is_public": True}, {"c"}),
    ({"is_public": 1}, set()),
    ({"team": {"gt": "blue"}}, {"a"}),
    ({'it\'s "quoted" $.x': "' OR 1=1 --"}, {"c"}),
    ({"year": "' OR '1'='1"}, set()),
    ({"x') OR 1=1 --": {"exists": True}}, set()),
]
METADATA: dict[str, dict[str, Any]] = {
    "a": {"year": 2020, "team": "red"},
    "b": {"year": 2021.0, "team": "blue", "tags": ["new", 1]},
    "c": {"year": 2022, "team": None, "is_public": True, 'it\'s "quoted" $.x': "' OR 1=1 --"},
    "d": {"year": "2020", "tags": "new"},
}


async def filled(desk: Desk, **texts: str) -> None:
    await desk.perform("create_collection", name="handbook", embedder="recording")
    await desk.perform("add_documents", collection="handbook", documents=documents(**texts))


async def test_a_failed_replacement_leaves_the_document_as_it_was(open_desk: OpenDesk) -> None:
    """llama_index deletes a document before the new version is stored, and then has neither."""
    async with open_desk() as desk:
        await filled(desk, a="old lamp", b="old chair")
        desk.embedder.error = ModelError("the embedder is down")
        new = documents(a="new lamp", b="new chair")
        job = await desk.perform("add_documents", collection="handbook", documents=new)
        assert (job.status, job.error["message"]) == ("failed", "the embedder is down")
        assert await desk.keys("handbook", "old", mode="lexical") == ["a", "b"]
        assert await desk.keys("handbook", "new", mode="lexical") == []
        desk.embedder.error = None
        job = await desk.perform("resume_ingestion", id=job.id)
        assert (job.status, job.error) == ("completed", None)
        assert await desk.keys("handbook", "new", mode="lexical") == ["a", "b"]
        assert await desk.keys("handbook", "old", mode="lexical") == []


async def test_unchanged_texts_are_not_embedded_again(open_desk: OpenDesk) -> None:
    """Neither unchanged documents (langchain) nor unchanged chunks of a changed document."""
    async with open_desk() as desk:
        long = "\n\n".join(f"Paragraph {n}: {'word ' * 150}" for n in range(5))
        await filled(desk, a="one lamp", b=long)
        texts = len(desk.embedder.texts)
        job = await desk.perform(
            "add_documents", collection="handbook", documents=documents(a="one lamp", b=long)
        )
        assert (job.unchanged, job.embedded_chunks) == (2, 0)
        job = await desk.perform(
            "add_documents", collection="handbook", documents=documents(b=f"{long}\n\nThe end.")
        )
        assert job.chunks > job.embedded_chunks > 0
        with_metadata = [{"key": "a", "text": "one lamp", "metadata": {"year": 2020}}]
        job = await desk.perform("add_documents", collection="handbook", documents=with_metadata)
        assert (job.unchanged, job.chunks, job.embedded_chunks) == (0, 1, 0)
        assert await desk.keys("handbook", "lamp", where={"year": 2020}) == ["a"]
        assert len(set(desk.embedder.texts)) == len(desk.embedder.texts) < 2 * texts


async def test_a_replaced_document_is_found_once_in_every_mode(open_desk: OpenDesk) -> None:
    async with open_desk() as desk:
        await filled(desk, a="lamp", b="chair")
        for n in range(3):
            again = documents(a=f"lamp {n}")
            await desk.perform("add_documents", collection="handbook", documents=again)
        for mode in ("lexical", "dense", "hybrid", "whole"):
            keys = await desk.keys("handbook", "lamp", mode=mode)
            assert keys.count("a") == 1
        result = await desk.perform("search_collection", collection="handbook", query="lamp")
        assert (result.collection.documents, result.collection.chunks) == (2, 2)
        assert result.passages[0]["version"] == 4
        assert await stored_rows(desk) == (2, 2, 2)


async def stored_rows(desk: Desk) -> tuple[int, ...]:
    """Return the numbers of chunks, versions and rows of the tables of searches."""
    async with desk.services.data.reading() as connection:
        names = await connection.run_sync(lambda c: sa.inspect(c).get_table_names())
        search = [name for name in names if name.startswith("chunk_search_")]
        search = [name for name in search if name.count("_") == 2]
        tables = ("chunks", "document_versions")
        counts = [
            (await connection.execute(sa.text(f"SELECT count(*) FROM {name}"))).scalar_one()  # noqa: S608
            for name in (*tables, *search)
        ]
    return (counts[0], counts[1], sum(counts[2:]))


@pytest.mark.parametrize(("where", "expected"), FILTERS)
async def test_filters_are_applied_before_the_ranking(
    open_desk: OpenDesk, where: dict[str, Any], expected: set[str]
) -> None:
    async with open_desk() as desk:
        await desk.perform("create_collection", name="handbook", embedder="hash")
        rows = [{"key": key, "text": f"lamp {key}", "metadata": METADATA[key]} for key in METADATA]
        await desk.perform("add_documents", collection="handbook", documents=rows)
        for mode in ("lexical", "dense", "hybrid"):
            keys = await desk.keys("handbook", "lamp", mode=mode, where=where, k=4)
            assert set(keys) == expected


async def test_a_rare_value_finds_as_many_as_there_are(
    open_desk: OpenDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pgvector filters what its index happened to find, and returns 3 of 10."""
    monkeypatch.setattr(MemoryCache, "fits", lambda *_: False)
    monkeypatch.setattr(postgres_search, "_MAX_EXACT", 5)
    async with open_desk() as desk:
        await desk.perform("create_collection", name="handbook", embedder="hash")
        rows = [
            {"key": str(n), "text": f"text number {n}", "metadata": {"rare": n % 40 == 0}}
            for n in range(400)
        ]
        await desk.perform("add_documents", collection="handbook", documents=rows)
        result = await desk.perform(
            "search_collection",
            collection="handbook",
            query="text number 7",
            mode="dense",
            k=10,
            where={"rare": True},
        )
        assert len(result.passages) == 10
        result = await desk.perform(
            "search_collection", collection="handbook", query="number 7", mode="dense", k=400
        )
        assert len(result.passages) == 400


async def test_no_workspace_sees_the_chunks_of_another(open_desk: OpenDesk) -> None:
    async with open_desk() as desk:
        await filled(desk, a="our secret lamp")
        ours = await desk.perform("search_collection", collection="handbook", query="secret")
        stranger = desk.of("other")
        for name in ({"collection": "handbook"}, {"collection_id": ours.collection.id}):
            with pytest.raises(NotFoundError):
                await stranger.perform("search_collection", query="secret", **name)
            with pytest.raises(NotFoundError):
                await stranger.perform("add_documents", documents=documents(a="x"), **name)
            with pytest.raises(NotFoundError):
                await stranger.perform("delete_documents", keys=["a"], **name)
        await stranger.perform("create_collection", name="handbook", embedder="recording")
        texts = documents(a="their lamp")
        await stranger.perform("add_documents", collection="handbook", documents=texts)
        for mode in ("lexical", "dense", "hybrid", "whole"):
            result = await stranger.perform(
                "search_collection", collection="handbook", query="secret lamp", mode=mode
            )
            assert [passage["text"] for passage in result.passages] == ["their lamp"]
        with pytest.raises(NotFoundError):
            await stranger.perform("delete_collection", collection_id=ours.collection.id)
        assert await desk.keys("handbook", "secret", mode="lexical") == ["a"]


async def test_a_changed_embedder_is_an_error_that_says_what_to_do(open_desk: OpenDesk) -> None:
    async with open_desk() as desk:
        await filled(desk, a="lamp")
        desk.embedder.inner = type(desk.embedder.inner)(32)
        with pytest.raises(ConfigurationError, match="dspex collection rebuild handbook"):
            await desk.keys("handbook", "lamp", mode="dense")
        job = await desk.perform(
            "add_documents", collection="handbook", documents=documents(b="chair")
        )
        assert job.status == "failed"
        assert "has changed" in job.error["message"]
        assert await desk.keys("handbook", "lamp chair", mode="lexical") == ["a"]
        await desk.perform("cancel_ingestion", id=job.id) if job.status == "queued" else None
        rebuilt = await desk.perform("rebuild_collection", name="handbook")
        assert rebuilt.status == "completed"
        assert await desk.keys("handbook", "lamp", mode="dense") == ["a"]


async def test_an_empty_collection_and_a_long_query_are_answered_clearly(
    open_desk: OpenDesk,
) -> None:
    async with open_desk() as desk:
        await desk.perform("create_collection", name="empty", embedder="hash")
        for mode in ("lexical", "dense", "hybrid", "whole"):
            result = await desk.perform(
                "search_collection", collection="empty", query="lamp", mode=mode
            )
            assert (result.passages, result.exact) == ([], True)
            assert result.note == "the collection has no documents"
        with pytest.raises(InvalidError, match="more than the 20000 allowed"):
            await desk.keys("empty", "x" * 20_001)
        huge = [{"key": "a", "text": "x" * 10_000_001}]
        with pytest.raises(InvalidError, match="divide it into several documents"):
            await desk.perform("add_documents", collection="empty", documents=huge)
