"""Vectors in memory: the ranking of all of them, without comparing each in full."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dspex.operations.storage import vector_memory
from dspex.operations.storage.arrays import Mask, best_of
from dspex.operations.storage.outline_size import outline_size
from dspex.operations.storage.vector_memory import VectorMemory, Vectors
from dspex.operations.storage.view import View

DIMENSIONS = 32


@pytest.fixture(autouse=True)
def _outlined(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make outlines of few vectors, and use them."""
    monkeypatch.setattr(vector_memory, "OUTLINED", 50)
    monkeypatch.setattr(vector_memory, "_FEW", 5)


def vectors(seed: int, count: int, *, length: float = 1.0) -> Vectors:
    """Return vectors that differ most in a few directions, as embeddings do; some are equal."""
    generator = np.random.default_rng(seed)
    rows = generator.standard_normal((count, DIMENSIONS)) * np.geomspace(1, 0.01, DIMENSIONS)
    rows = rows @ np.linalg.qr(generator.standard_normal((DIMENSIONS, DIMENSIONS)))[0]
    rows[count // 2 :: 7] = rows[0]
    rows *= length / np.linalg.norm(rows, axis=1, keepdims=True)
    return rows.astype(np.float32)


def view_of(count: int) -> View:
    return View(np.arange(count, dtype=np.int64) * 3, 1, None, None)


def ranked(rows: Vectors, query: Vectors, mask: Mask | None, limit: int) -> list[int]:
    scores = (rows.astype(np.float64) @ query).astype(np.float32)
    positions = np.arange(len(rows)) if mask is None else np.flatnonzero(mask)
    return [key for key, _ in best_of(positions * 3, scores[positions], limit)]


@given(
    seed=st.integers(0, 10**6),
    count=st.integers(1, 400),
    limit=st.integers(1, 40),
    share=st.sampled_from([None, 0.0, 0.01, 0.3, 1.0]),
    length=st.sampled_from([1.0, 1e-3, 50.0]),
)
@settings(max_examples=60, deadline=None)
def test_the_best_vectors_are_those_of_a_full_comparison(
    seed: int, count: int, limit: int, share: float | None, length: float
) -> None:
    rows, query = vectors(seed, count, length=length), vectors(seed + 1, 1)[0]
    rows[:: max(count // 5, 1)] = 0  # deleted ones
    mask = None if share is None else np.random.default_rng(seed).random(count) < share
    memory = VectorMemory(DIMENSIONS)
    for first, last in pairwise([0, count // 3, count]):
        memory.append(rows[first:last])
        memory.outline()
    ranking, scanned = memory.query(view_of(count), query).best(limit, mask)
    assert scanned == (count if mask is None else mask.sum())
    scores = dict(zip(range(0, 3 * count, 3), rows @ query, strict=True))
    expected = ranked(rows, query, mask, limit)
    assert len({key for key, _ in ranking}) == len(ranking) == len(expected)
    assert [score for _, score in ranking] == pytest.approx(
        [float(scores[key]) for key in expected], abs=1e-5 * length
    )
    assert all(mask is None or mask[key // 3] for key, _ in ranking)


def test_an_earlier_view_is_ranked_while_vectors_are_added() -> None:
    rows, query = vectors(1, 300), vectors(2, 1)[0]
    memory = VectorMemory(DIMENSIONS)
    memory.append(rows[:100])
    memory.outline()
    earlier = memory.query(view_of(100), query)
    memory.append(rows[100:])
    memory.outline()
    assert [key for key, _ in earlier.best(5, None)[0]] == ranked(rows[:100], query, None, 5)
    later = memory.query(view_of(300), query)
    assert [key for key, _ in later.best(5, None)[0]] == ranked(rows, query, None, 5)
    assert memory.nbytes == 300 * 4 * (DIMENSIONS + outline_size(DIMENSIONS) + 1)
