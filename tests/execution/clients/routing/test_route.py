"""Routes on a clock that the tests turn."""

import asyncio
import random
from typing import Any

import pytest

import dspex
from dspex.errors import (
    BudgetError,
    ContextTooLongError,
    DefinitionError,
    ModelError,
    ModelUnavailableError,
    RateLimitedError,
    RefusedError,
)
from dspex.execution.clients import Budget, LanguageModel, Request, Response, Retrying, ask_within
from dspex.execution.clients.caching import Caching
from dspex.execution.clients.cassette import Recording
from dspex.execution.clients.fallback import Fallback
from dspex.execution.clients.identity import identify
from dspex.execution.clients.routing import CircuitLimits, Route
from dspex.language.records import Message, Usage
from dspex.telemetry import Silent
from dspex.testing import FakeClock, ScriptedModel
from dspex.testing.contracts import LanguageModelContract

REQUEST = Request(messages=(Message("user", "hi"),))
DOWN = ModelUnavailableError("status 500", status=500)
WARM = [1.0] * 2 + [0.5] * 30  # seconds of 32 calls: their 95th percentile is 1.0
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}


class TestRoute(LanguageModelContract):
    def make(self) -> LanguageModel:
        return Route(
            ScriptedModel("Paris", capabilities=["streaming"]),
            ScriptedModel("Rome", capabilities=["streaming"]),
        )


class TestHedgedRoute(LanguageModelContract):
    def make(self) -> LanguageModel:
        model = ScriptedModel("Paris", capabilities=["streaming"])
        return Route(model, model, policy="hedged")


class SlowModel:
    """Answers after the next of `seconds`; the last one stays. `cancelled` counts."""

    capabilities = frozenset({"streaming"})

    def __init__(self, clock, *seconds, name="slow"):
        self.name = name
        self.clock = clock
        self.seconds = list(seconds)
        self.calls = self.cancelled = 0

    async def complete(self, request):
        self.calls += 1
        pause = self.seconds.pop(0) if len(self.seconds) > 1 else self.seconds[0]
        try:
            await self.clock.sleep(pause)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        usage = Usage(input_tokens=1, output_tokens=1, calls=1)
        return Response(text=self.name, usage=usage, model=self.name, finish_reason="stop")

    async def stream(self, request, emit):
        response = await self.complete(request)
        await emit(response.text)
        await self.clock.sleep(1.0)
        return response

    async def aclose(self):
        pass


def model(*replies, name="a", **more):
    return ScriptedModel(*replies, name=name, **more)


def route(*models, **more):
    more.setdefault("clock", FakeClock(jumps=True))
    return Route(*models, rng=random.Random(1), **more)


async def texts(router, calls):
    return [(await router.complete(REQUEST)).text for _ in range(calls)]


async def test_twenty_five_errors_cost_five_requests_to_the_broken_model():
    faulty, good = model(DOWN), model("ok", name="b")
    router = route(faulty, good, clock=FakeClock())
    assert await texts(router, 25) == ["ok"] * 25
    assert len(faulty.requests) == 5


async def test_a_cooldown_holds_from_the_next_call_on_and_for_as_long_as_asked():
    clock = FakeClock()
    busy = model(RateLimitedError("429", retry_after=15.0), "first")
    router = route(busy, model("second", name="b"), clock=clock)
    assert await texts(router, 3) == ["second"] * 3
    await clock.advance(14.9)
    assert await texts(router, 1) == ["second"]
    assert len(busy.requests) == 1
    await clock.advance(0.2)
    assert await texts(router, 1) == ["first"]


async def test_a_call_says_what_was_chosen_why_and_what_was_not():
    router = route(model(DOWN), model("ok", name="b"), name="main")
    response = await router.complete(REQUEST)
    assert response.route == {
        "name": "main",
        "policy": "fallback",
        "model": "b",
        "reason": "the others failed",
        "rejected": {"a": "failed in this call"},
        "failures": [{"model": "a", "error": "ModelUnavailableError: status 500"}],
    }
    assert (await router.complete(REQUEST)).span_attributes()["route"]["model"] == "b"


def test_the_span_of_the_call_has_the_route_also_if_it_fails():
    reply = "[[ ## answer ## ]]\nyes"
    predict = dspex.Predict("question -> answer")
    with dspex.context(model=route(model(DOWN), model(reply, name="b")), adapter="chat"):
        spans: Any = predict(question="q").trace.spans
    [span] = [span for span in spans if span.kind == "model"]
    assert (span.attributes["route"]["model"], span.usage.by_model.keys()) == ("b", {"b"})
    observer = Spans()
    bad = route(model(DOWN), model(DOWN, name="b"), attempts=2)
    with dspex.context(model=bad, observer=observer), pytest.raises(ModelError):
        predict(question="q")
    [span] = [span for span in observer.spans if span.kind == "model"]
    assert [each["model"] for each in span.attributes["route"]["failures"]] == ["a", "b"]
    assert span.attributes["route"]["reason"] == "no attempts are left"


class Spans(Silent):
    def __init__(self):
        self.spans = []

    def on_span(self, span):
        self.spans.append(span)


async def test_attempts_do_not_multiply_whatever_is_wrapped_in_what():
    a, b = model(DOWN), model(DOWN, name="b")
    clock = FakeClock(jumps=True)
    inner = route(Caching(Retrying(a, clock=clock)), Retrying(b, clock=clock), attempts=5)
    for router, expected in (
        (inner, 5),
        (Retrying(inner, attempts=3, clock=clock), 3),
        (route(inner, Fallback(a, b), attempts=4), 4),
        (Retrying(Fallback(Retrying(a, clock=clock), b), attempts=4, clock=clock), 4),
    ):
        before = len(a.requests) + len(b.requests)
        with pytest.raises(ModelError):
            await router.complete(REQUEST)
        assert len(a.requests) + len(b.requests) - before <= expected
    assert len(a.requests) + len(b.requests) <= 16


async def test_a_refusal_goes_to_the_next_model_and_a_habit_of_it_moves_the_model_back():
    strict, free = model(RefusedError("policy")), model("ok", name="b")
    router = route(strict, free, clock=FakeClock())
    assert await texts(router, 9) == ["ok"] * 9
    assert len(strict.requests) == 5
    state, _ = router.explain()
    assert state.endpoints[0].circuit.opened_at is None
    assert state.endpoints[0].kinds["refusal"].reason.startswith("5 failures in a row")


async def test_a_refused_call_is_asked_once_of_each_model():
    strict = [model(RefusedError("policy"), name=name) for name in "ab"]
    with pytest.raises(RefusedError):
        await route(*strict).complete(REQUEST)
    assert [len(each.requests) for each in strict] == [1, 1]


async def test_a_prompt_that_is_too_long_goes_to_the_next_model_and_is_nobodys_failure():
    router = route(model(ContextTooLongError("8k")), model("ok", name="b"))
    assert await texts(router, 9) == ["ok"] * 9
    assert not router.explain()[0].endpoints[0].kinds


async def test_cut_replies_and_missed_schemas_are_counted_and_returned():
    cut = Response(text="lon", usage=Usage(calls=1), model="a", finish_reason="length")
    router = route(model(cut), model("whole", name="b"), clock=FakeClock())
    assert await texts(router, 6) == ["lon"] * 5 + ["whole"]
    request = Request(messages=REQUEST.messages, response_schema=SCHEMA)
    router = route(model("{}"), model('{"a": "x"}', name="b"), clock=FakeClock())
    replies = [(await router.complete(request)).text for _ in range(6)]
    assert replies == ["{}"] * 5 + ['{"a": "x"}']
    assert await texts(router, 1) == ["{}"]  # without a schema it is as good as any


async def test_a_limit_of_the_request_is_not_a_cut_reply():
    cut = Response(text="lon", usage=Usage(calls=1), model="a", finish_reason="length")
    router = route(model(cut), model("whole", name="b"))
    request = Request(messages=REQUEST.messages, max_tokens=3)
    assert {(await router.complete(request)).text for _ in range(9)} == {"lon"}


async def test_calls_wait_for_one_probe_and_go_on_when_it_succeeds():
    clock = FakeClock()
    only = model(*[DOWN] * 5, "ok")
    router = route(only, attempts=1, clock=clock, patience=10)
    for _ in range(5):
        with pytest.raises(ModelUnavailableError):
            await router.complete(REQUEST)
    calls = [asyncio.ensure_future(router.complete(REQUEST)) for _ in range(20)]
    await clock.advance(4.9)
    assert len(only.requests) == 5
    await clock.advance(0.2)
    assert {call.result().text for call in calls} == {"ok"}


async def test_without_a_model_in_time_the_error_says_what_is_open():
    router = route(model(RateLimitedError("429", retry_after=60.0)), attempts=1, clock=FakeClock())
    with pytest.raises(RateLimitedError):
        await router.complete(REQUEST)
    with pytest.raises(
        ModelUnavailableError, match=r"a: open for 60\.0 s more: rate limit"
    ) as info:
        await router.complete(REQUEST)
    assert info.value.retry_after == 60.0


async def test_a_stream_goes_to_another_model_before_the_first_chunk_only():
    chunks = []

    class Breaks(ScriptedModel):
        async def stream(self, request, emit):
            await emit("half")
            raise DOWN

    async def emit(text):
        chunks.append(text)

    good = model("whole", name="b", capabilities=["streaming"])
    router = route(model(DOWN, capabilities=["streaming"]), good)
    assert (await router.stream(REQUEST, emit)).text == "whole"
    assert "".join(chunks) == "whole"
    with pytest.raises(ModelUnavailableError):
        await route(Breaks("x", capabilities=["streaming"]), good).stream(REQUEST, emit)
    assert chunks[-1] == "half"


def test_capabilities_and_identity_are_those_of_fallback():
    a, b = model("x", capabilities=["seed", "tools"]), model("x", name="b", capabilities=["seed"])
    router = route(a, b)
    assert router.capabilities == {"seed"}
    assert identify(router) == identify(Fallback(a, b))
    assert repr(router) == f"Route({a!r}, {b!r}, policy='fallback')"


async def test_a_cache_and_a_recording_keep_the_reply_of_a_route(tmp_path):
    router = route(model(DOWN), model("ok", name="b"))
    cache = Caching(router)
    assert (await cache.complete(REQUEST)).route is not None
    assert (await cache.complete(REQUEST)).route is None
    recording = Recording(router, tmp_path / "calls.jsonl", mode="record")
    response = await recording.complete(REQUEST)
    again = Recording(router, tmp_path / "calls.jsonl", mode="replay")
    assert await again.complete(REQUEST) == response


async def test_every_attempt_is_reserved_for_the_model_that_makes_it():
    budget = Budget(calls=3)
    router = route(model(DOWN), model("ok", name="b"))
    assert (await ask_within(budget, router, REQUEST)).text == "ok"
    assert (budget.spent.calls, budget.lost.calls) == (2, 1)
    with pytest.raises(BudgetError):
        await ask_within(budget, route(model(DOWN), model(DOWN, name="b")), REQUEST)
    assert budget.spent.calls == 3


async def hedged(clock, *models, calls=32, **more):
    router = route(*models, policy="hedged", clock=clock, **more)
    for _ in range(calls):
        call = asyncio.ensure_future(router.complete(REQUEST))
        await clock.settle()
        await clock.advance(1.0)
        assert call.done()
    return router


async def test_a_late_reply_is_raced_and_the_loser_is_cancelled_and_counted():
    clock, budget = FakeClock(), Budget(calls=1000, tokens=1_000_000)
    first = SlowModel(clock, *WARM, 500.0, name="a")
    second = SlowModel(clock, 0.5, name="b")
    router = await hedged(clock, first, second)
    call = asyncio.ensure_future(ask_within(budget, router, REQUEST))
    await clock.settle()
    await clock.advance(0.9)
    assert second.calls == 0
    await clock.advance(0.7)
    response: Any = call.result()
    assert (response.text, response.route["model"], response.route["hedge"]) == ("b", "b", "b")
    assert first.cancelled == 1
    assert (budget.spent.calls, budget.lost.calls) == (2, 1)
    assert budget.lost.tokens > 4096
    assert not budget._open


async def test_the_winner_may_be_the_first_one_after_all():
    clock, budget = FakeClock(), Budget(calls=1000)
    first = SlowModel(clock, *WARM, 3.0, name="a")
    second = SlowModel(clock, 100.0, name="b")
    router = await hedged(clock, first, second)
    call = asyncio.ensure_future(ask_within(budget, router, REQUEST))
    await clock.settle()
    await clock.advance(3.1)
    assert (call.result().text, second.cancelled) == ("a", 1)
    assert (budget.spent.calls, budget.lost.calls, len(budget._open)) == (2, 1, 0)


async def test_a_budget_without_room_for_a_hedge_gets_none():
    clock, budget = FakeClock(), Budget(calls=1)
    first = SlowModel(clock, *WARM, 3.0, name="a")
    second = SlowModel(clock, 0.1, name="b")
    router = await hedged(clock, first, second)
    call = asyncio.ensure_future(ask_within(budget, router, REQUEST))
    await clock.settle()
    await clock.advance(3.1)
    assert (call.result().text, second.calls, budget.spent.calls) == ("a", 0, 1)
    assert (budget.lost.calls, len(budget._open)) == (0, 0)


async def test_a_cancelled_race_leaves_nothing_behind():
    clock, budget = FakeClock(), Budget(calls=1000)
    first = SlowModel(clock, *WARM, 100.0, name="a")
    second = SlowModel(clock, 100.0, name="b")
    router = await hedged(clock, first, second)
    call = asyncio.ensure_future(ask_within(budget, router, REQUEST))
    await clock.settle()
    await clock.advance(2.0)
    call.cancel()
    await clock.settle()
    assert call.cancelled()
    assert (first.cancelled, second.cancelled, len(budget._open)) == (1, 1, 0)
    assert clock.sleepers == 0


async def test_a_hedged_stream_belongs_to_whoever_sends_the_first_chunk():
    clock, chunks = FakeClock(), []
    first = SlowModel(clock, *WARM, 50.0, name="a")
    second = SlowModel(clock, 0.5, name="b")
    router = route(first, second, policy="hedged", clock=clock)

    async def emit(text):
        chunks.append(text)

    for _ in range(33):
        call = asyncio.ensure_future(router.stream(REQUEST, emit))
        await clock.settle()
        await clock.advance(3.0)
        assert call.done()
    assert chunks == ["a"] * 32 + ["b"]
    assert first.cancelled == 1


async def test_extra_requests_are_a_tenth_of_all_calls():
    clock = FakeClock()
    first, second = SlowModel(clock, 1.0, name="a"), SlowModel(clock, 0.9, name="b")
    router = await hedged(clock, first, second, calls=16)
    first.seconds = [3.0]  # always later than what it was: only the share holds it back
    for _ in range(20):
        call = asyncio.ensure_future(router.complete(REQUEST))
        await clock.settle()
        await clock.advance(4.0)
        assert call.done()
    assert 1 <= second.calls <= 4


@pytest.mark.parametrize(
    "more",
    [
        {"policy": "random"},
        {"weights": [1]},
        {"weights": [1, 0]},
        {"attempts": 0},
        {"attempts": 1.5},
        {"patience": -1},
        {"percentile": 95},
        {"hedge_share": float("nan")},
    ],
)
def test_numbers_out_of_range_are_refused(more):
    with pytest.raises(DefinitionError, match=next(iter(more)).rstrip("s")):
        Route(model("x"), model("y"), **more)


async def test_a_shared_route_opens_once_for_a_hundred_calls_at_a_time():
    faulty = model(DOWN)
    router = route(faulty, model("ok", name="b"), clock=FakeClock(), circuit=CircuitLimits())
    replies = await asyncio.gather(*(router.complete(REQUEST) for _ in range(100)))
    assert {reply.text for reply in replies} == {"ok"}
    assert len(faulty.requests) <= 100
    before = len(faulty.requests)
    await asyncio.gather(*(router.complete(REQUEST) for _ in range(100)))
    assert len(faulty.requests) == before
