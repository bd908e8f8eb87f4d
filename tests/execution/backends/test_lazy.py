"""The lazy backend, with a fake pool."""

import asyncio
import contextlib

import pytest

from dspex.errors import NotFoundError, RestartLimitError, WorkerLostError, WorkerStartError
from dspex.execution.backends import LazyBackend, MockBackend
from dspex.execution.context import RunContext
from dspex.execution.workers import PoolStats
from dspex.testing.backends import BackendContract, predicting


class Pooled(MockBackend):
    """A backend that logs its starts and stops, and fails on request."""

    def __init__(self, lives, *, fails_to_start=False, gives_up=False):
        super().__init__()
        self.lives, self.fails, self.gives_up = lives, fails_to_start, gives_up

    async def __aenter__(self):
        self.lives.append("begun")
        await asyncio.sleep(0)
        if self.fails:
            raise WorkerStartError("no interpreter")
        return self

    async def __aexit__(self, *error):
        self.lives.append("ended")

    async def execute_program(self, handle, inputs, context):
        if self.gives_up:
            raise RestartLimitError("gave up")
        return await super().execute_program(handle, inputs, context)

    def stats(self):
        return PoolStats(
            name="p", breaker="closed", queued=0, answered=0, failed=0, rejected=0, restarts=0
        )


class TestLazy(BackendContract):
    def make(self):
        return contextlib.aclosing(LazyBackend("mock", frozenset(), lambda: Pooled([])))


def test_nothing_is_made_before_the_first_use_and_all_ends_with_it(go):
    lives = []

    async def main():
        lazy = LazyBackend("x", frozenset(), lambda: Pooled(lives))
        assert lazy.stats() is None
        assert await lazy.list_programs() == []
        assert lives == []
        await asyncio.gather(*(lazy.create_program(predicting()) for _ in range(5)))
        stats = lazy.stats()
        assert stats is not None
        assert stats.name == "p"
        await lazy.aclose()
        assert lives == ["begun", "ended"]
        with pytest.raises(WorkerLostError, match="has ended"):
            await lazy.create_program(predicting())

    go(main())


def test_a_pool_that_gave_up_is_replaced_at_the_next_use_and_its_handles_stay_valid(go):
    lives, backends = [], []

    def make():
        backends.append(Pooled(lives, gives_up=not backends))
        return backends[-1]

    async def main():
        lazy = LazyBackend("x", frozenset(), make)
        handle = await lazy.create_program(predicting())
        with pytest.raises(RestartLimitError):
            await lazy.execute_program(handle, {"question": "?"}, RunContext())
        assert lives == ["begun", "ended"]
        assert (
            await lazy.execute_program(handle, {"question": "?"}, RunContext())
        ).answer is not None
        assert len(backends) == 2
        await lazy.delete_program(handle)
        with pytest.raises(NotFoundError):
            await lazy.execute_program(handle, {"question": "?"}, RunContext())
        await lazy.aclose()

    go(main())


def test_a_start_that_fails_leaves_nothing_and_is_tried_again(go):
    lives, backends = [], []

    def make():
        backends.append(Pooled(lives, fails_to_start=not backends))
        return backends[-1]

    async def main():
        lazy = LazyBackend("x", frozenset(), make)
        with pytest.raises(WorkerStartError):
            await lazy.create_program(predicting())
        assert lives == ["begun", "ended"]
        assert await lazy.create_program(predicting())
        await lazy.aclose()

    go(main())
