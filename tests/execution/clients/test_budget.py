"""What a budget promises: whatever calls, failures, retries and concurrency there are.

It is never passed.
"""

import asyncio
import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import dspex
from dspex.errors import (
    BudgetError,
    ModelError,
    ModelTimeoutError,
    ModelUnavailableError,
    RateLimitedError,
)
from dspex.execution.clients import Budget, Budgeted, Request, Response, Retrying
from dspex.execution.clients.budget import Spend
from dspex.execution.clients.budgeted import ask_within
from dspex.execution.clients.fallback import Fallback
from dspex.execution.clients.prices import Price
from dspex.language.records import Message, Usage
from dspex.sync import run
from dspex.testing import FakeClock, ScriptedModel
from tests.support.properties import examples

PRICE = Price(((0, 1.0),), ((0, 4.0),), ((0, 0.1),))


def make_request(text="hi", **more):
    return Request(messages=(Message("system", "Answer."), Message("user", text)), **more)


class LimitedModel(ScriptedModel):
    """A model whose replies are known to end at 512 tokens."""

    reply_limit = 512


class Costly:
    """Counts what it really uses: at most a token for a byte, and a reply of up to its limit.

    It may fail.
    """

    name = "costly"
    capabilities = frozenset()

    def __init__(self, seed, *, failing=0.0, wordy=300):
        self.rng = random.Random(seed)
        self.failing, self.wordy = failing, wordy
        self.calls = self.tokens = 0
        self.usd = 0.0

    async def complete(self, request):
        self.calls += 1
        for _ in range(self.rng.randrange(4)):
            await asyncio.sleep(0)
        size = sum(len(message.content.encode()) for message in request.messages)
        input_tokens = self.rng.randint(size // 5, size) if self.failing else size
        output_tokens = min(self.rng.randrange(self.wordy), request.max_tokens or 10**9)
        if self.rng.random() < self.failing:
            error = self.rng.choice([ModelTimeoutError, RateLimitedError, ModelUnavailableError])
            if error is not RateLimitedError:
                self._use(input_tokens, output_tokens)  # answered, but the answer did not come
            raise error("no answer", retry_after=0.0)
        cost = self._use(input_tokens, output_tokens)
        reason = "length" if output_tokens == request.max_tokens else "stop"
        usage = Usage(
            input_tokens=input_tokens, output_tokens=output_tokens, calls=1, cost_usd=cost
        )
        return Response(text="x", usage=usage, model=self.name, finish_reason=reason)

    def _use(self, input_tokens, output_tokens):
        cost = PRICE.cost(input_tokens, output_tokens)
        self.tokens += input_tokens + output_tokens
        self.usd += cost
        return cost

    async def aclose(self):
        pass


LIMITS = st.fixed_dictionaries(
    {},
    optional={
        "calls": st.integers(1, 60),
        "tokens": st.integers(1, 20_000),
        "usd": st.floats(1e-6, 0.05),
    },
)
TEXTS = st.builds(str.__mul__, st.sampled_from(["word ", "问题", "x"]), st.integers(0, 300))
CALLS = st.lists(st.tuples(TEXTS, st.sampled_from([None, 1, 40, 600])), min_size=1, max_size=25)
AWAY = st.sampled_from([0.0, 0.3, 0.9])


@examples(80)
@given(
    limits=LIMITS,
    calls=CALLS,
    seed=st.integers(0, 99),
    failing=AWAY,
    wordy=st.sampled_from([5, 300, 9000]),
)
def test_no_limit_is_ever_exceeded(limits, calls, seed, failing, wordy):
    costly = Costly(seed, failing=failing, wordy=wordy)
    at_once = 1 + seed % 9
    budget = Budget(**limits, price=lambda _: PRICE)
    clock = FakeClock(jumps=True)
    client = Retrying(costly, clock=clock, rng=random.Random(seed))
    model = Fallback(Retrying(costly, clock=clock, rng=random.Random(seed)), client)

    async def main():
        gate = asyncio.Semaphore(at_once)

        async def one(text, limit):
            async with gate:
                return await ask_within(budget, model, make_request(text, max_tokens=limit))

        return await asyncio.gather(*(one(*call) for call in calls), return_exceptions=True)

    results = run(main())
    assert all(isinstance(result, Response | BudgetError | ModelError) for result in results)
    assert budget.spent.calls == costly.calls <= limits.get("calls", 10**9)
    assert costly.tokens <= limits.get("tokens", 10**9)
    assert costly.usd <= limits.get("usd", 10**9) * (1 + 1e-9)
    if not limits:
        assert not any(isinstance(result, BudgetError) for result in results)


@pytest.mark.parametrize("limits", [{"tokens": 20_000}, {"usd": 0.02}])
async def test_most_of_a_budget_is_used_before_it_ends(limits):
    costly = Costly(1, wordy=100)
    budget = Budget(**limits, price=lambda _: PRICE)

    gate = asyncio.Semaphore(8)

    async def one(n):
        async with gate:
            return await ask_within(budget, costly, make_request(f"{n} " + "word " * 40))

    results = await asyncio.gather(*(one(n) for n in range(400)), return_exceptions=True)
    assert isinstance(results[-1], BudgetError)
    used = costly.tokens if "tokens" in limits else costly.usd
    limit = next(iter(limits.values()))
    assert 0.95 * limit < used <= limit


def test_every_attempt_of_retries_and_fallbacks_counts_as_a_call():
    down = ScriptedModel(ModelUnavailableError("down", status=500), name="a")
    clock = FakeClock(jumps=True)
    fallback = ScriptedModel(ModelUnavailableError("down"), name="b")
    model = Fallback(Retrying(down, clock=clock), Retrying(fallback, clock=clock))
    budget = Budget(calls=6)
    with pytest.raises(BudgetError, match="6 calls"):
        run(ask_within(budget, model, make_request()))
    assert (
        len(down.requests) + len(fallback.requests) == budget.spent.calls == budget.lost.calls == 6
    )


async def test_a_refused_request_costs_no_tokens_and_a_lost_answer_costs_its_reservation():
    budget = Budget(tokens=10_000)
    model = ScriptedModel(
        ModelUnavailableError("no", status=500), ModelTimeoutError("silent"), "fine"
    )

    for _ in range(2):
        with pytest.raises(ModelError):
            await ask_within(budget, model, make_request(max_tokens=700))
    await ask_within(budget, model, make_request(max_tokens=700))
    assert budget.spent.calls == 3
    assert (budget.lost.calls, budget.spent.total_tokens < 10, 700 < budget.lost.tokens < 1000) == (
        2,
        True,
        True,
    )


def test_a_reply_that_the_budget_truncates_is_an_error():
    costly = Costly(0, wordy=5000)
    with pytest.raises(BudgetError, match="needed more"):
        run(ask_within(Budget(tokens=400), costly, make_request()))
    assert costly.tokens <= 400


def test_a_request_gets_a_reply_limit_only_if_tokens_or_dollars_are_limited():
    model, limited = ScriptedModel("x"), LimitedModel("x")
    run(ask_within(Budget(calls=5), model, make_request()))
    run(ask_within(Budget(tokens=50_000), model, make_request()))
    run(ask_within(Budget(tokens=50_000), model, make_request(max_tokens=9)))
    run(ask_within(Budget(tokens=50_000), Retrying(limited), make_request()))
    assert [request.max_tokens for request in model.requests] == [None, 4096, 9]
    assert [request.max_tokens for request in limited.requests] == [None]


async def test_an_answer_without_token_counts_is_booked_with_its_reservation():
    uncounted = ScriptedModel(Response(text="x", usage=Usage(calls=1), model="m"))
    budget = Budget(tokens=3000)

    for _ in range(2):
        await ask_within(budget, uncounted, make_request(max_tokens=1000))
    with pytest.raises(BudgetError):
        await ask_within(budget, uncounted, make_request(max_tokens=1000))
    assert budget.spent.calls == 2
    assert 2000 < budget.lost.tokens <= 3000


async def test_an_unknown_cost_keeps_the_earlier_cost():
    budget = Budget(usd=1.0, price=lambda _: PRICE)
    usage = Usage(input_tokens=10, output_tokens=5, calls=1, cost_usd=None)
    model = ScriptedModel(Response(text="x", usage=usage, model="m"))
    budget.book(Usage(calls=1, cost_usd=0.9999))

    async def main():
        while True:
            await ask_within(budget, model, make_request(max_tokens=10))

    with pytest.raises(BudgetError, match="1 usd"):
        await main()
    assert len(model.requests) < 5


async def test_a_budget_nested_in_itself_counts_a_call_once_and_does_not_deadlock():
    budget, model = Budget(calls=2), ScriptedModel("x")
    nested = Budgeted(Budgeted(model, budget), budget)

    await nested.complete(make_request())
    await nested.complete(make_request())
    with pytest.raises(BudgetError):
        await nested.complete(make_request())
    assert len(model.requests) == budget.spent.calls == 2


async def test_prompt_bounds_are_tight_after_a_prompt_with_the_same_prefix():
    class Counted(Costly):
        async def complete(self, request):
            input_tokens = sum(len(message.content) // 4 + 4 for message in request.messages)
            usage = Usage(input_tokens=input_tokens, output_tokens=5, calls=1)
            return Response(text="x", usage=usage, model=self.name)

    budget = Budget(tokens=10**6)
    long = Message("system", "A demonstration. " * 500)

    request = Request(messages=(long, Message("user", "one")), max_tokens=5)
    first = await budget.admit(request, "costly")
    budget.settle(first, await Counted(0).complete(request))
    by_bytes, after = (
        first.tokens,
        (
            await budget.admit(
                msgspec.structs.replace(request, messages=(long, Message("user", "two"))), "costly"
            )
        ).tokens,
    )
    assert by_bytes > 8500
    assert 2130 < after < 2200


def test_time_running_out_cancels_calls_in_progress_and_refuses_new_ones():
    never = asyncio.Event

    class Slow(Costly):
        cancelled = 0

        async def complete(self, request):
            self.calls += 1
            try:
                await never().wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise

    model, budget = Slow(0), Budget(seconds=0.05)

    async def main():
        return await asyncio.gather(
            *(ask_within(budget, model, make_request()) for _ in range(3)), return_exceptions=True
        )

    results = run(main())
    assert [error.context["limit"] for error in results] == ["seconds"] * 3
    assert model.cancelled == model.calls == budget.spent.calls == 3
    with pytest.raises(BudgetError, match="seconds is used up"):
        run(ask_within(budget, ScriptedModel("x"), make_request()))


async def test_no_call_is_started_that_would_have_to_be_faster_than_every_earlier_one():
    clock = FakeClock()
    budget = Budget(seconds=25, clock=clock)

    class Steady(Costly):
        async def complete(self, request):
            await clock.advance(10)
            return await super().complete(request)

    model = Steady(0)

    await ask_within(budget, model, make_request())
    await ask_within(budget, model, make_request())
    with pytest.raises(BudgetError, match="25 seconds"):
        await ask_within(budget, model, make_request())
    assert model.calls == 2


def test_a_budget_of_a_context_holds_for_retries_inside():
    down = ScriptedModel(ModelUnavailableError("down", status=500))
    model = Retrying(down, clock=FakeClock(jumps=True))
    with dspex.context(model=model, budget=Budget(calls=2)), pytest.raises(BudgetError):
        dspex.Predict("question -> answer")(question="?")
    assert len(down.requests) == 2


async def test_calls_do_not_wait_for_the_withheld_amount():
    budget, model = Budget(calls=5, tokens=10_000), ScriptedModel("x")

    budget.keep(Spend(calls=4))
    await ask_within(budget, model, make_request())
    with pytest.raises(BudgetError, match=r"5 calls .* 5 are spent or reserved"):
        await ask_within(budget, model, make_request())
    budget.keep(Spend(tokens=9_990))
    with pytest.raises(BudgetError, match="tokens"):
        await ask_within(budget, model, make_request())
    budget.keep(Spend())
    await ask_within(budget, model, make_request())
    assert len(model.requests) == 2
