"""What each database knows of the words of chunks, for the ranking in memory."""

import math
import random
import re
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from dspex.operations.collections.collection_storage import Index
from dspex.operations.collections.records import COLLECTION
from dspex.operations.framework.store import Query
from dspex.operations.storage import sqlite_search
from dspex.operations.storage.postgres_words import TSVectorWords
from dspex.operations.storage.sqlite_words import FTS5Words
from tests.operations.collections.conftest import Desk, OpenDesk, documents

if TYPE_CHECKING:
    from dspex.operations.storage.word_table import WordTable

REPEATED = (1, 2, 3, 9, 40, 120, 254)
TEXT = "return returned lamp lamps chair the the the a a in 7 42 red blue green"


async def create(desk: Desk, texts: dict[str, str], language: str) -> Index:
    settings = {"name": "handbook", "embedder": "none", "chunking": {"tokens": 2000}}
    await desk.perform("create_collection", language=language, **settings)
    await desk.perform("add_documents", collection="handbook", documents=documents(**texts))
    rows = await desk.services.operations.store.select(COLLECTION, Query(limit=1))
    return Index.of(rows[0])


async def test_terms_and_how_often_each_chunk_has_them(open_desk: OpenDesk) -> None:
    texts = {f"d{n}": f"{'lamp ' * n} chairs" for n in REPEATED}
    async with open_desk() as desk:
        index = await create(desk, texts, "en")
        data = desk.services.data
        table: WordTable = FTS5Words() if data.is_sqlite else TSVectorWords()
        async with data.reading() as connection:
            terms = await table.terms(connection, index, ["lamps", "lamp", "chair", "it's", "'"])
            assert terms["lamp"] == 2
            assert terms["chair"] == 1
            firsts = {"lamp": 0, "chair": 0, "it's \\ '": 0, "nothing": 0}
            lamps, chairs, odd, nothing = await table.postings(connection, index, firsts)
            assert sorted(lamps.counts.tolist()) == list(REPEATED)
            assert chairs.counts.tolist() == [1] * len(REPEATED)
            assert (len(odd.ids), len(nothing.ids)) == (0, 0)
            lengths = await table.lengths(connection, index, first=0)
            assert set(lengths) == set(lamps.ids.tolist())
            last = max(lengths)
            assert set(await table.lengths(connection, index, first=last)) == {last}
            (part,) = await table.postings(connection, index, {"lamp": last})
            assert part.ids.tolist() == [last]


@pytest.mark.parametrize(
    ("word", "key"),
    [
        ("chair", "path"),
        ("example", "address"),
        ("19", "hyphen"),
        ("day", "hyphen"),
        ("readme", "file"),
        ("cafe", "accent"),
        ("CAFÉ", "accent"),
        ("cafe\u0301", "accent"),
        ("ähre", "umlaut"),
    ],
)
async def test_each_database_divides_words_alike(open_desk: OpenDesk, word: str, key: str) -> None:
    texts = {
        "path": "lamp/chair and/or sofa",
        "address": "shop@example.com",
        "hyphen": "covid-19 on a 14-day tour",
        "file": "readme.txt",
        "accent": "Café",
        "umlaut": "Ähre",
    }
    async with open_desk() as desk:
        await create(desk, texts, "en")
        assert await desk.keys("handbook", word, mode="lexical") == [key]


def bm25(texts: dict[str, str], query: str, *, distinct: bool) -> list[tuple[str, float]]:
    """Return the keys of texts with their scores, as the paper computes them."""
    terms = {key: Counter(re.findall(r"\w+", text)) for key, text in texts.items()}
    lengths = {key: len(count) if distinct else count.total() for key, count in terms.items()}
    average = sum(lengths.values()) / len(lengths)
    scores: dict[str, float] = {}
    for word in set(query.split()):
        keys = [key for key in texts if terms[key][word]]
        rarity = math.log((len(texts) - len(keys) + 0.5) / (len(keys) + 0.5))
        for key in keys:
            count = terms[key][word]
            share = 1.2 * (0.25 + 0.75 * lengths[key] / average)
            score = max(rarity, 1e-6) * count * 2.2 / (count + share)
            scores[key] = scores.get(key, 0.0) + score
    return sorted(scores.items(), key=lambda item: -item[1])


async def test_words_are_ranked_by_bm25(
    open_desk: OpenDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_search, "MATCHED", 0)
    draw = random.Random(5)
    texts = {
        f"d{n}": " ".join(draw.choices(TEXT.split(), k=draw.randint(1, 40))) for n in range(80)
    }
    async with open_desk() as desk:
        await create(desk, texts, "")
        is_sqlite = desk.services.data.is_sqlite
        for query in ("lamp", "red chair 42", "the return", "no such word"):
            request: dict[str, Any] = {"collection": "handbook", "query": query, "k": 80}
            result = await desk.perform("search_collection", mode="lexical", **request)
            expected = bm25(texts, query, distinct=not is_sqlite)
            scores = {each["document"]: each["score"] for each in result.passages}
            assert scores == pytest.approx(dict(expected), rel=1e-4)
            assert [each["score"] for each in result.passages] == pytest.approx(
                [score for _, score in expected], rel=1e-4
            )
