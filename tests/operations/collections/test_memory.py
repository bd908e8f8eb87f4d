"""Indexes in memory: the same results as without, never those of another revision, bounded."""

import json
import random
import sqlite3
from typing import Any

import numpy as np
import pytest

from dspex.bootstrap import new_id
from dspex.clock import SystemClock
from dspex.errors import ModelError
from dspex.execution.retrieval import Where
from dspex.operations.collections.collection_storage import ChunkQuery, Index
from dspex.operations.collections.records import COLLECTION
from dspex.operations.domain import DOMAIN
from dspex.operations.framework.store import Query
from dspex.operations.storage import SQLCollections, memory_loader, sqlite_search, sqlite_words
from dspex.operations.storage.chunk_memory import ChunkMemory
from dspex.operations.storage.memory_cache import MemoryCache
from dspex.operations.storage.metadata_memory import MetadataMemory
from tests.operations.collections.conftest import Desk, OpenDesk, documents
from tests.operations.collections.test_complaints import FILTERS, METADATA, filled

WORDS = "return returned returning lamp lamps Café café naïve chair_leg the the the a a in 7 42 😀"


@pytest.fixture(autouse=True)
def _in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep words in memory also where FTS5 would be fast enough, and read little at once."""
    monkeypatch.setattr(sqlite_search, "MATCHED", 0)
    monkeypatch.setattr(memory_loader, "_AT_ONCE", 3)


def storage_with(desk: Desk, cache: MemoryCache) -> SQLCollections:
    """Return the storage of a process with another memory."""
    return SQLCollections(
        desk.services.data, DOMAIN, clock=SystemClock(), new_id=new_id, cache=cache
    )


async def index_of(desk: Desk) -> Index:
    rows = await desk.services.operations.store.select(COLLECTION, Query(limit=1))
    return Index.of(rows[0])


async def test_words_are_ranked_as_fts5_ranks_them(
    open_desk: OpenDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = random.Random(3)
    words = WORDS.split()
    texts = {f"d{n}": " ".join(draw.choices(words, k=draw.randint(1, 30))) for n in range(60)}
    async with open_desk() as desk:
        await desk.perform("create_collection", name="handbook", embedder="none", language="en")
        await desk.perform("add_documents", collection="handbook", documents=documents(**texts))
        for query in ("returns", "a lamp", "cafe NAÏVE", "chair_leg 7", "the", "no such word 42"):
            request: dict[str, Any] = {"collection": "handbook", "query": query, "k": 60}
            rankings = []
            for matched in (0, 1000):
                monkeypatch.setattr(sqlite_search, "MATCHED", matched)
                result = await desk.perform("search_collection", mode="lexical", **request)
                rankings.append([(each["document"], each["score"]) for each in result.passages])
            in_memory, in_table = rankings
            assert [key for key, _ in in_memory] == [key for key, _ in in_table]
            assert [score for _, score in in_memory] == pytest.approx(
                [score for _, score in in_table], rel=1e-5
            )


@pytest.mark.parametrize(("where", "expected"), FILTERS)
def test_metadata_in_memory_meets_the_same_conditions(
    where: dict[str, Any], expected: set[str]
) -> None:
    memory, conditions = MetadataMemory(), Where.parse(where)
    texts = [json.dumps(metadata) for metadata in METADATA.values()]
    memory.append(texts[:2])
    first = memory.passing(conditions, 2).tolist()
    memory.append([*texts[2:], texts[0]])
    passing = memory.passing(conditions, 5).tolist()
    assert [key for key, passes in zip("abcd", passing, strict=False) if passes] == sorted(expected)
    assert passing[:2] == first
    assert passing[4] == passing[0]


async def test_what_another_process_writes_is_seen_at_once(open_desk: OpenDesk) -> None:
    async with open_desk() as desk, open_desk() as other:
        await filled(other, a="red lamp", b="blue chair", c="green sofa")
        modes = ("lexical", "dense", "hybrid")
        for mode in modes:
            assert "a" in await desk.keys("handbook", "lamp", mode=mode)
        changed = [{"key": "a", "text": "red table", "metadata": {"year": 2020}}]
        await other.perform("add_documents", collection="handbook", documents=changed)
        await other.perform("delete_documents", collection="handbook", keys=["c"])
        new = documents(d="new lamp")
        await other.perform("add_documents", collection="handbook", documents=new)
        assert await desk.keys("handbook", "lamp sofa", mode="lexical") == ["d"]
        assert await desk.keys("handbook", "table", mode="lexical") == ["a"]
        for mode in modes:
            keys = await desk.keys("handbook", "red lamp table chair", mode=mode, k=9)
            assert sorted(keys) == ["a", "b", "d"]
            where = {"year": 2020}
            assert await desk.keys("handbook", "table", mode=mode, where=where) == ["a"]
        result = await desk.perform(
            "search_collection", collection="handbook", query="new lamp", mode="dense", k=1
        )
        assert result.passages[0]["document"] == "d"
        assert result.passages[0]["score"] == pytest.approx(1, abs=1e-5)


async def test_chunks_that_become_visible_after_later_ones_are_found(open_desk: OpenDesk) -> None:
    """Those of a job that stopped are stored first, and published last."""
    async with open_desk() as desk:
        await filled(desk, a="old lamp")
        desk.embedder.error, desk.embedder.fails_after = ModelError("down"), 300
        early = documents(**{f"early{n}": f"early lamp {n}" for n in range(400)})
        job = await desk.perform("add_documents", collection="handbook", documents=early)
        desk.embedder.error = None
        await desk.perform("add_documents", collection="handbook", documents=documents(z="z lamp"))
        for mode in ("lexical", "dense"):
            assert await desk.keys("handbook", "z lamp", mode=mode, k=1) == ["z"]
        assert (await desk.perform("resume_ingestion", id=job.id)).status == "completed"
        for mode in ("lexical", "dense"):
            assert await desk.keys("handbook", "early lamp 399", mode=mode, k=1) == ["early399"]
            assert len(await desk.keys("handbook", "lamp", mode=mode, k=500)) == 402


def test_positions_stay_and_deleted_chunks_are_hidden() -> None:
    memory = ChunkMemory()
    first = memory.see(1, np.array([5, 9]))
    second = memory.see(2, np.array([2, 9, 11]))
    assert (first.ids.tolist(), first.visible) == ([5, 9], None)
    assert second.ids.tolist() == [5, 9, 2, 11]
    assert second.visible is not None
    assert second.visible.tolist() == [False, True, True, True]
    assert second.positions(np.array([2, 3, 11, 99])).tolist() == [2, 3]
    assert memory.see(3, np.array([], dtype=np.int64)).positions(np.array([9])).tolist() == [1]


async def test_a_search_whose_revision_is_over_begins_again(open_desk: OpenDesk) -> None:
    """Also where no later one comes: a restored backup has earlier revisions than the memory."""
    async with open_desk() as desk:
        await filled(desk, a="lamp", b="chair")
        cache, index = MemoryCache(), await index_of(desk)
        cache.memory(index.id).see(1000, np.array([7]))
        vector = (await desk.embedder.embed(["lamp"])).vectors[0]
        query = ChunkQuery(index=index, k=2, text="lamp", vector=vector)
        matches = await storage_with(desk, cache).search(query)
        assert [passage.document for passage in matches.passages] == ["a", "b"]


@pytest.mark.parametrize("limit", [100, 20_000, 10**9])
async def test_searches_find_the_same_with_any_memory(open_desk: OpenDesk, limit: int) -> None:
    """Without room for vectors, for metadata and words, or with room for everything."""
    rows = [
        {"key": f"d{n}", "text": f"lamp {n} {n % 7}", "metadata": {"n": n, "long": f"{n}" * 300}}
        for n in range(40)
    ]
    async with open_desk() as desk:
        await desk.perform("create_collection", name="handbook", embedder="recording")
        await desk.perform("add_documents", collection="handbook", documents=rows)
        index, cache = await index_of(desk), MemoryCache(limit)
        storage = storage_with(desk, cache)
        for number in (3, 17, 39):
            text, where = f"lamp {number}", Where.parse({"n": {"gte": 3, "lt": 40}})
            vector = (await desk.embedder.embed([f"{text} {number % 7}"])).vectors[0]
            for part in ({"text": text}, {"vector": vector}, {"text": text, "vector": vector}):
                matches = await storage.search(ChunkQuery(index=index, k=40, where=where, **part))
                keys = [passage.document for passage in matches.passages]
                assert keys[0] == f"d{number}"
                assert sorted(map(str, keys)) == sorted(f"d{n}" for n in range(3, 40))


def test_the_indexes_that_were_not_used_for_longest_are_forgotten() -> None:
    cache, ids = MemoryCache(max_bytes=100 * 8), [new_id() for _ in range(3)]
    for number, index_id in enumerate(ids):
        cache.memory(index_id).see(1, np.arange(40) + 100 * number)
        cache.memory(ids[0])
        cache.trim()
    assert cache.memory(ids[0]).ids.count == 40
    assert cache.memory(ids[1]).ids.count == 0
    assert cache.memory(ids[2]).ids.count == 40


def test_the_lengths_of_texts_are_read_as_fts5_writes_them() -> None:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE VIRTUAL TABLE t USING fts5(text)")
    lengths = [0, 1, 127, 128, 300, 20_000]
    for length in lengths:
        connection.execute("INSERT INTO t VALUES (?)", ["x " * length])
    rows = connection.execute("SELECT sz FROM t_docsize ORDER BY id").fetchall()
    assert [sqlite_words.token_count(row[0]) for row in rows] == lengths
