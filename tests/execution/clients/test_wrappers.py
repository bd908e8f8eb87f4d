import asyncio
import sqlite3
import threading

import pytest

from dspex.errors import (
    BudgetError,
    ConfigurationError,
    ModelError,
    ModelUnavailableError,
    RateLimitedError,
    StorageError,
)
from dspex.execution.clients import Budget, Budgeted, LanguageModel, Request, Response
from dspex.execution.clients.caching import Caching, ResponseStore
from dspex.execution.clients.cassette import Recording
from dspex.execution.clients.fallback import Fallback
from dspex.execution.clients.limiting import Limiting
from dspex.execution.clients.named_model import AttemptTimeout
from dspex.execution.clients.prices import Price
from dspex.execution.clients.request_keys import request_key
from dspex.execution.clients.rollout import Repetition, Rollout
from dspex.language.records import Message, Usage
from dspex.testing import FakeClock, ScriptedModel
from dspex.testing.contracts import LanguageModelContract


def make_request(text: str = "hi", **more) -> Request:
    return Request(messages=(Message("user", text),), **more)


async def settled(call):
    return (await asyncio.gather(call, return_exceptions=True))[0]


class TestBudgeted(LanguageModelContract):
    def make(self) -> LanguageModel:
        return Budgeted(ScriptedModel("Paris", capabilities=["streaming"]), Budget(calls=100))


class TestFallback(LanguageModelContract):
    def make(self) -> LanguageModel:
        return Fallback(ScriptedModel("Paris"), ScriptedModel("Rome"))


class TestLimiting(LanguageModelContract):
    def make(self) -> LanguageModel:
        return Limiting(
            ScriptedModel("Paris", capabilities=["streaming"]),
            requests_per_minute=6000,
            concurrency=2,
        )


class TestRepetition(LanguageModelContract):
    def make(self) -> LanguageModel:
        return Repetition(ScriptedModel("Paris"), 1)


class TestTimeLimit(LanguageModelContract):
    def make(self) -> LanguageModel:
        return AttemptTimeout(ScriptedModel("Paris", capabilities=["streaming"]), 60.0)


class TestRollout(LanguageModelContract):
    def make(self):
        return Rollout(ScriptedModel("Paris"), 1)


class TestRecording(LanguageModelContract):
    @pytest.fixture(autouse=True)
    def _path(self, tmp_path):
        self.path = tmp_path / "calls.jsonl"

    def make(self) -> LanguageModel:
        return Recording(
            ScriptedModel("Paris", capabilities=["streaming"]), self.path, mode="record"
        )


def test_a_repeated_request_is_answered_from_memory_at_no_cost(go):
    model = ScriptedModel("one", "two", cost_usd=0.5)
    cached = Caching(model)

    async def main():
        return [
            await cached.complete(make_request()),
            await cached.complete(make_request()),
            await cached.complete(make_request("other")),
        ]

    first, again, second = go(main())
    assert [r.text for r in (first, again, second)] == ["one", "one", "two"]
    assert (first.usage.calls, first.usage.cost_usd) == (1, 0.5)
    assert again.usage == Usage()
    assert (cached.hits, cached.misses, len(model.requests)) == (1, 2, 2)


def test_different_settings_have_different_keys():
    keys = {
        request_key("m", request)
        for request in (
            make_request(),
            make_request(temperature=0.5),
            make_request(seed=1),
            make_request(json_mode=True),
            make_request(stop=("x",)),
        )
    }
    assert len(keys | {request_key("other", make_request())}) == 6
    assert request_key("m", make_request()) == request_key("m", make_request())


def test_the_file_keeps_answers_for_another_process_and_memory_forgets_the_oldest(go, tmp_path):
    async def main():
        first = Caching(ScriptedModel("one", "two"), tmp_path / "a" / "cache.db", entries=1)
        await first.complete(make_request("a"))
        await first.complete(make_request("b"))
        await first.aclose()
        second = Caching(ScriptedModel(ModelError("not asked")), tmp_path / "a" / "cache.db")
        texts = [(await second.complete(make_request(text))).text for text in ("a", "b")]
        await second.aclose()
        return texts

    assert go(main()) == ["one", "two"]


def test_an_invalid_cache_file_is_a_storage_error(go, tmp_path):
    (tmp_path / "cache.db").write_text(
        "this is no database, and long enough to be seen as none" * 20
    )
    cached = Caching(ScriptedModel("x"), tmp_path / "cache.db")
    with pytest.raises(StorageError, match="cannot be read"):
        go(cached.complete(make_request()))


def test_closing_the_file_does_not_block_the_loop(go, tmp_path):
    async def main():
        cached, gate = Caching(ScriptedModel("x"), tmp_path / "cache.db"), threading.Event()
        store = cached._cache._store
        assert isinstance(store, ResponseStore)
        writing = store._thread.submit(gate.wait, 5)
        closing = asyncio.create_task(cached.aclose())
        await asyncio.sleep(0)
        gate.set()
        await closing
        return writing.result()

    assert go(main())


def test_failures_are_not_cached(go):
    cached = Caching(ScriptedModel(ModelError("no"), "yes"))

    async def main():
        with pytest.raises(ModelError):
            await cached.complete(make_request())
        return (await cached.complete(make_request())).text

    assert go(main()) == "yes"


def test_many_requests_at_once_respect_the_concurrency(go):
    class Counting(ScriptedModel):
        now = most = 0

        async def complete(self, request):
            self.now += 1
            self.most = max(self.most, self.now)
            await asyncio.sleep(0)
            self.now -= 1
            return await super().complete(request)

    model = Counting("x")
    limited = Limiting(model, concurrency=3)

    async def main():
        await asyncio.gather(*(limited.complete(make_request()) for _ in range(20)))

    go(main())
    assert (model.most, len(model.requests)) == (3, 20)


def test_concurrency_halves_on_429_and_grows_back(go):
    limited = Limiting(
        ScriptedModel(RateLimitedError("busy"), "ok"), concurrency=8, clock=FakeClock(jumps=True)
    )

    async def main():
        with pytest.raises(RateLimitedError):
            await limited.complete(make_request())
        after = limited.concurrency
        for _ in range(40):
            await limited.complete(make_request())
        return after, limited.concurrency

    assert go(main()) == (4, 8)


def test_retry_after_delays_all_requests(go):
    clock = FakeClock(jumps=True)
    limited = Limiting(ScriptedModel(RateLimitedError("busy", retry_after=20.0), "ok"), clock=clock)

    async def main():
        with pytest.raises(RateLimitedError):
            await limited.complete(make_request())
        await limited.complete(make_request())

    go(main())
    assert clock.slept == [pytest.approx(20.0)]


def test_retry_after_delays_requests_that_are_already_waiting(go):
    clock = FakeClock()

    async def main():
        gate = asyncio.Event()

        class Busy(ScriptedModel):
            async def complete(self, request):
                await gate.wait()
                return await super().complete(request)

        model = Busy(RateLimitedError("busy", retry_after=60.0), "ok")
        limited = Limiting(model, requests_per_minute=6, clock=clock)
        first, second = (asyncio.create_task(limited.complete(make_request())) for _ in range(2))
        await clock.advance(0)
        assert clock.slept == [pytest.approx(10.0)]
        gate.set()
        with pytest.raises(RateLimitedError):
            await first
        await clock.advance(11)
        assert len(model.requests) == 1
        await clock.advance(50)
        return (await second).text

    assert go(main()) == "ok"


@pytest.mark.parametrize("limits", [{"requests_per_minute": 60}, {"tokens_per_minute": 600}])
def test_no_minute_exceeds_its_limit(go, limits):
    clock = FakeClock(jumps=True)
    reply = Response(text="x", usage=Usage(input_tokens=10, calls=1), model="m")
    limited = Limiting(ScriptedModel(reply), clock=clock, **limits)
    times = []

    async def main():
        for _ in range(180):
            await limited.complete(make_request("x" * 40))
            times.append(clock.monotonic_ns() / 1e9)

    go(main())
    for start in times:
        assert sum(start <= time < start + 60 for time in times) <= 60 * 1.15
    assert times[-1] > 150


def test_a_cancelled_waiter_gives_its_place_to_the_next(go):
    async def main():
        gate = asyncio.Event()

        class Waits(ScriptedModel):
            async def complete(self, request):
                await gate.wait()
                return await super().complete(request)

        limited = Limiting(Waits("x"), concurrency=1)
        tasks = [asyncio.create_task(limited.complete(make_request())) for _ in range(3)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        gate.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    first, second, third = go(main())
    assert isinstance(second, asyncio.CancelledError)
    assert first.text == third.text == "x"


def test_a_slot_of_a_cancelled_waiter_is_not_lost(go):
    async def main():
        limited = Limiting(ScriptedModel("x"), concurrency=1)
        first = asyncio.create_task(limited.complete(make_request()))
        second = asyncio.create_task(limited.complete(make_request()))
        await first
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        return (await limited.complete(make_request())).text

    assert go(main()) == "x"


def test_the_next_model_answers_after_a_failure_and_the_response_names_it(go):
    model = Fallback(
        ScriptedModel(ModelUnavailableError("down"), name="a"), ScriptedModel("yes", name="b")
    )
    response = go(model.complete(make_request()))
    assert (model.name, response.model, response.text) == ("a", "b", "yes")
    both = Fallback(
        ScriptedModel(ModelUnavailableError("first")), ScriptedModel(ModelUnavailableError("last"))
    )
    with pytest.raises(ModelUnavailableError, match="last"):
        go(both.complete(make_request()))


def test_a_call_beyond_the_budget_is_not_made(go):
    model = ScriptedModel("four words of reply")
    budget = Budget(calls=2)

    async def main():
        limited = Budgeted(model, budget)
        await limited.complete(make_request())
        await limited.complete(make_request())
        with pytest.raises(BudgetError, match="2 calls"):
            await limited.complete(make_request())

    go(main())
    assert len(model.requests) == budget.spent.calls == 2


def test_calls_in_progress_count_against_the_budget(go):
    budget = Budget(calls=3)
    model = ScriptedModel("x")

    async def main():
        limited = Budgeted(model, budget)
        return await asyncio.gather(
            *(limited.complete(make_request()) for _ in range(10)), return_exceptions=True
        )

    results = go(main())
    assert sum(isinstance(result, BudgetError) for result in results) == 7
    assert len(model.requests) == 3


def test_limits_on_dollars_and_tokens_are_never_exceeded(go):
    price = Price(((0, 1e6),), ((0, 1e6),), ((0, 1e6),))  # a dollar a token

    class Costs(ScriptedModel):
        async def complete(self, request):
            await super().complete(request)
            usage = Usage(input_tokens=1, output_tokens=3, calls=1, cost_usd=4.0)
            return Response(text="a b c", usage=usage, model=self.name)

    for budget in (Budget(usd=150.0, price=lambda _: price), Budget(tokens=150)):
        limited = Budgeted(Costs("x"), budget)

        async def main(limited=limited):
            results = [
                await settled(limited.complete(make_request("hi", max_tokens=3))) for _ in range(50)
            ]
            assert isinstance(results[-1], BudgetError)

        go(main())
        assert 60 <= budget.spent.total_tokens <= 150


def test_a_budget_in_dollars_needs_a_price(go):
    with pytest.raises(BudgetError, match="unknown"):
        go(
            Budgeted(ScriptedModel("x", name="nobody/knows"), Budget(usd=1.0)).complete(
                make_request()
            )
        )


def test_recorded_answers_are_replayed_in_order_without_calls(go, tmp_path):
    path = tmp_path / "calls.jsonl"

    async def main():
        live = Recording(ScriptedModel("one", "two", "three"), path, mode="record")
        for text in ("a", "a", "b"):
            await live.complete(make_request(text))
        replayed = Recording(ScriptedModel(ModelError("asked")), path, mode="replay")
        texts = [
            (await replayed.complete(make_request(text))).text for text in ("a", "a", "a", "b")
        ]
        with pytest.raises(ModelError, match="has no answer"):
            await replayed.complete(make_request("new"))
        return texts

    assert go(main()) == ["one", "two", "two", "three"]
    with pytest.raises(ConfigurationError, match="record it first"):
        Recording(ScriptedModel("x"), tmp_path / "none", mode="replay")
    path.write_text("not json\n")
    with pytest.raises(ConfigurationError, match="not a recording"):
        Recording(ScriptedModel("x"), path)


def test_wrappers_compose(go, tmp_path):
    budget = Budget(calls=1)
    model = Caching(
        Budgeted(Limiting(ScriptedModel("x"), concurrency=1), budget), tmp_path / "c.db"
    )

    async def main():
        texts = [(await model.complete(make_request())).text for _ in range(3)]
        await model.aclose()
        return texts

    assert go(main()) == ["x"] * 3
    assert sqlite3.connect(tmp_path / "c.db").execute(
        "SELECT count(*) FROM responses"
    ).fetchone() == (1,)
