"""Backends evict the least recently used programs."""

import asyncio

import pytest

from dspex.errors import NotFoundError
from dspex.execution.backends import HybridBackend, MockBackend, NativeBackend
from dspex.execution.backends.handle_cache import LIMIT, HandleCache
from dspex.execution.context import RunContext
from dspex.execution.workers.loaded import LoadedPrograms
from dspex.testing.backends import answering, predicting


def test_the_one_that_was_not_asked_for_the_longest_is_forgotten():
    cache = HandleCache(limit=2)
    for name in ("a", "b"):
        cache.put(name, name.upper())
    assert cache.touch("a")
    assert cache.handles() == ["a", "b"]  # in the order of their creation
    cache.put("c", "C")
    assert cache.handles() == ["a", "c"]
    assert not cache.touch("b")
    with pytest.raises(NotFoundError, match="create it first"):
        cache.get("b")
    assert cache.get("a") == "A"
    cache.put("b", "B")
    assert cache.handles() == ["a", "b"]


def test_what_is_in_use_is_not_given_up():
    loaded = LoadedPrograms(1)
    with loaded.use("a"):
        loaded.add("a")
        loaded.add("b")
        assert loaded.take_surplus() == ["b"]
        assert "a" in loaded
    loaded.add("c")
    assert loaded.take_surplus() == ["a"]
    assert len(loaded) == 1


@pytest.mark.parametrize(
    "backend", [NativeBackend(), MockBackend(), HybridBackend({"mock": MockBackend()})]
)
async def test_a_search_through_many_programs_leaves_a_bounded_number_behind(backend):
    first = predicting("question -> answer: int")
    context = RunContext(model=answering({"answer": 3}))
    for n in range(LIMIT + 40):
        handle = await backend.create_program(predicting(f"question -> answer: int[le={n + 10}]"))
        running = backend.execute_program(handle, {"question": "?"}, context)
        if n == 0:
            under_way = asyncio.ensure_future(running)
            await asyncio.sleep(0)
        elif n % 50 == 0:
            assert (await running).answer is not None
        else:
            running.close()
    assert len(await backend.list_programs()) == LIMIT
    assert (await under_way).answer is not None
    again = await backend.create_program(first)
    assert (await backend.execute_program(again, {"question": "?"}, context)).answer is not None
