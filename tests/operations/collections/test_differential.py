"""Searches of random documents, beside bm25s and an exact comparison of all vectors."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from itertools import count
from typing import Any

import bm25s
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dspex.execution.clients.hashing_embedder import HashingEmbedder
from dspex.execution.retrieval.fusion import fuse
from dspex.execution.retrieval.words import remove_accents, split_words, words_of
from dspex.operations.storage import sqlite_search
from tests.operations.collections.conftest import Desk, OpenDesk

PIECES = (
    *("lamp", "LAMP", "lamps", "Café", "cafe", "cafe\u0301", "naïve", "Ähre", "straße", "ПРИВЕТ"),
    *(
        "привет",
        "λόγος",
        "日本語",
        "ไทย",
        "\u263a",
        "lamp/chair",
        "and/or",
        "covid-19",
        "14-day",
        "3.5",
    ),
    *(
        "shop@example.com",
        "www.example.com/lamp",
        "chair_leg",
        "don't",
        "x'y",
        '"',
        "\\",
        "%",
        "&|!:*",
    ),
    *("the", "a", "is", "of", "-7", "1e5", "v1.2.3", "file.txt", "<b>lamp</b>", "(", "NEAR", "OR"),
)
SEPARATORS = (" ", "  ", "\n", "\t", ", ", " \u2013 ", ". ")
CONDITIONS: tuple[tuple[Mapping[str, Any] | None, Callable[[Mapping[str, Any]], bool]], ...] = (
    (None, lambda _: True),
    ({"year": 2}, lambda m: m.get("year") == 2),
    ({"year": {"gte": 1, "lt": 3}}, lambda m: 1 <= m.get("year", -1) < 3),
    ({"year": {"ne": 1}}, lambda m: m.get("year") != 1),
    ({"tag": {"in": ["ü", "' OR 1=1 --"]}}, lambda m: m.get("tag") in {"ü", "' OR 1=1 --"}),
    ({"tag": {"exists": False}, "year": {"lte": 2}}, lambda m: "tag" not in m and m["year"] <= 2),
    ({"' OR 1=1 --": 1}, lambda _: False),
)
LETTERS = st.characters(
    min_codepoint=0x20,
    max_codepoint=0x17E,
    exclude_characters="\x7f\xaa\xb2\xb3\xb5\xb9\xba\xbc\xbd\xbe",
)
pieces = st.lists(st.sampled_from(PIECES) | st.text(LETTERS, max_size=6), min_size=1, max_size=9)
metadata = st.fixed_dictionaries(
    {"year": st.integers(0, 4)}, optional={"tag": st.sampled_from(["ü", "' OR 1=1 --", "x"])}
)
rows = st.lists(
    st.tuples(st.integers(0, 25), pieces, st.sampled_from(SEPARATORS), metadata), max_size=25
)


def words_of_text(text: str) -> list[str]:
    return split_words(remove_accents(text))


def text_of(pieces: Sequence[str], separator: str, *, repeats: bool) -> str:
    """Return a text of pieces; without `repeats`, those with a word of an earlier one are left out.

    PostgreSQL counts the different words of a text as its length.
    """
    parts: list[str] = []
    for piece in pieces:
        words = words_of_text(separator.join([*parts, piece]))
        if repeats or len(words) == len(set(words)):
            parts.append(piece)
    return separator.join(parts)


def scores_by_bm25s(texts: Mapping[str, str], query: str) -> dict[str, float]:
    """Return the scores of texts that have a word of the query, as bm25s computes them."""
    words = {key: words_of_text(text) for key, text in texts.items()}
    # "café" and "cafe" are two words of a query, and one term
    query_words = [word for each in words_of(query) for word in words_of_text(each)]
    terms = [word for word in query_words if any(word in row for row in words.values())]
    if not terms:
        return {}
    index = bm25s.BM25(method="robertson", k1=1.2, b=0.75, dtype="float64")
    index.index(list(words.values()), show_progress=False)
    scores = dict(zip(words, index.get_scores(terms).tolist(), strict=True))
    # its formula leaves out a constant factor
    return {key: 2.2 * scores[key] for key, row in words.items() if {*terms} & {*row}}


async def cosines(texts: Mapping[str, str], query: str) -> dict[str, float]:
    vectors = (await HashingEmbedder().embed([*texts.values(), query])).vectors.astype(np.float64)
    return dict(zip(texts, (vectors[:-1] @ vectors[-1]).tolist(), strict=True))


def check_best(ranking: Mapping[str, float], expected: Mapping[str, float], k: int) -> None:
    """Check that a ranking has the best `k` with their scores, best first; ties in any order."""
    best = sorted(expected.values(), reverse=True)[:k]
    assert list(ranking.values()) == pytest.approx(best, abs=1e-4)
    assert ranking == pytest.approx({key: expected[key] for key in ranking}, abs=1e-4)


class Documents:
    """A collection with documents, some of which have replaced earlier ones."""

    def __init__(self, desk: Desk, name: str) -> None:
        self.desk = desk
        self.name = name
        self.texts: dict[str, str] = {}
        self.metadata: dict[str, Mapping[str, Any]] = {}

    async def fill(self, rows: Sequence[tuple[str, str, Mapping[str, Any]]]) -> None:
        await self.desk.perform("create_collection", name=self.name, embedder="hash")
        half = len(rows) // 2
        for part in (rows[:half], rows[half:]):
            request = {key: (text, metadata) for key, text, metadata in part}
            self.texts |= {key: text for key, (text, _) in request.items()}
            self.metadata |= {key: metadata for key, (_, metadata) in request.items()}
            documents = [
                {"key": key, "text": text, "metadata": metadata}
                for key, (text, metadata) in request.items()
            ]
            if documents:
                await self.desk.perform("add_documents", collection=self.name, documents=documents)

    async def ranking(self, mode: str, query: str, **values: Any) -> dict[str, float]:
        request = {"collection": self.name, "query": query, "mode": mode, **values}
        result = await self.desk.perform("search_collection", **request)
        assert result.exact
        return {each["document"]: each["score"] for each in result.passages}

    async def check(self, query: str) -> None:
        by_words = scores_by_bm25s(self.texts, query)
        by_meaning = await cosines(self.texts, query)
        for where, passes in CONDITIONS:
            keys = {key for key, metadata in self.metadata.items() if passes(metadata)}
            rankings: list[list[str]] = []
            for mode, scores in (("lexical", by_words), ("dense", by_meaning)):
                expected = {key: score for key, score in scores.items() if key in keys}
                for k in (3, 50):
                    ranking = await self.ranking(mode, query, k=k, where=where)
                    check_best(ranking, expected, k)
                rankings.append(list(ranking))
            hybrid = await self.ranking("hybrid", query, k=50, weight=0.3, where=where)
            if rankings[0]:
                assert hybrid == pytest.approx(dict(fuse(rankings[0], rankings[1], 0.3)))


def test_searches_rank_as_bm25s_and_an_exact_comparison_do(
    open_desk: OpenDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_search, "MATCHED", 0)  # words are ranked in memory
    numbers = count()
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        desk = runner.run(stack.enter_async_context(open_desk()))
        is_sqlite = desk.services.data.is_sqlite

        @settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(rows=rows, queries=st.lists(pieces, min_size=1, max_size=2))
        def check(rows: Any, queries: list[list[str]]) -> None:
            texts = [
                (f"d{number}", text_of(pieces, separator, repeats=is_sqlite), metadata)
                for number, pieces, separator, metadata in rows
            ]
            documents = Documents(desk, f"c{next(numbers)}")
            runner.run(documents.fill([row for row in texts if row[1].strip()]))
            for query in queries:
                if " ".join(query).strip():
                    runner.run(documents.check(" ".join(query)))

        try:
            check()
        finally:
            runner.run(stack.aclose())
