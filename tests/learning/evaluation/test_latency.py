"""The times of rows are those of the program and its model, whoever answers and whoever waits."""

import asyncio

import pytest

import dspex
from dspex.errors import ModelUnavailableError
from dspex.execution.clients import Budget, Response, Retrying
from dspex.execution.clients.caching import Caching
from dspex.execution.clients.limiting import Limiting
from dspex.execution.context import RunContext
from dspex.language.records import Span, Trace, Usage
from dspex.learning.evaluation.latency import run_seconds
from dspex.learning.optimizers import Control
from dspex.learning.optimizers.journal import MemoryJournal
from dspex.learning.optimizers.reply_store import ReplayedModel, ReplyStore
from dspex.testing import FakeClock

ROWS = dspex.Dataset.from_rows([{"question": f"q{n}", "answer": "x"} for n in range(6)])
PROGRAM = dspex.Predict("question -> answer")


class Taking:
    """Takes two seconds of a clock for every answer."""

    name = "taking"
    capabilities = frozenset()

    def __init__(self, clock, *, failures=0):
        self.clock, self.failures, self.calls = clock, failures, 0

    async def complete(self, request):
        self.calls += 1
        await self.clock.advance(2)
        if self.calls <= self.failures:
            raise ModelUnavailableError("down")
        return Response(text="[[ ## answer ## ]]\nx", usage=Usage(calls=1), model=self.name)

    async def aclose(self):
        pass


async def scored(model, clock, *, concurrency=1):
    context = RunContext(model=model, clock=clock)
    report = await dspex.aevaluate(
        PROGRAM, ROWS, dspex.exact_match, context=context, concurrency=concurrency
    )
    assert report.mean == 1.0
    return [row.seconds for row in report.rows]


def searching(clock, journal, control=None, *, concurrency=1):
    budget = Budget(clock=clock)
    return ReplyStore(journal, budget=budget, control=control or Control(), concurrency=concurrency)


async def test_answers_of_a_search_that_are_given_again_count_with_the_time_they_took():
    clock, journal = FakeClock(), MemoryJournal()
    model = Taking(clock)
    async with searching(clock, journal) as replies:
        first = await scored(ReplayedModel(model, replies), clock)
        again = await scored(ReplayedModel(model, replies), clock)
    resumed = searching(clock, journal)
    for entry in await journal.entries():
        resumed.restore(entry)
    async with resumed:
        later = await scored(ReplayedModel(model, resumed), clock)
    assert model.calls == 6
    assert (first, again, later) == ([2.0] * 6,) * 3


async def test_waiting_for_a_turn_does_not_count():
    clock = FakeClock()
    async with searching(clock, MemoryJournal(), concurrency=1) as replies:
        gated = await scored(ReplayedModel(Taking(clock), replies), clock, concurrency=6)
    limited = await scored(
        Limiting(Taking(clock), concurrency=1, clock=clock), clock, concurrency=6
    )
    assert (gated, limited) == ([2.0] * 6,) * 2


async def test_a_pause_does_not_count_and_takes_no_time_of_the_budget():
    clock, control = FakeClock(), Control()

    class Pausing(Taking):
        async def complete(self, request):
            if self.calls == 2:
                control.pause()
            return await super().complete(request)

    async with searching(clock, MemoryJournal(), control) as replies:
        replies.budget.seconds = 20
        replies.budget.begin()
        work = asyncio.create_task(
            scored(ReplayedModel(Pausing(clock), replies), clock, concurrency=2)
        )
        while replies._paused_at is None:
            await asyncio.sleep(0)
        await clock.advance(1000)
        assert replies.remaining_seconds() == pytest.approx(14)
        control.resume()
        seconds, elapsed = await work, replies.budget.elapsed
    assert seconds == [2.0] * 6
    assert elapsed == pytest.approx(12)


async def test_attempts_before_the_answer_and_the_waits_between_them_do_not_count():
    clock = FakeClock(jumps=True)
    assert (await scored(Retrying(Taking(clock, failures=2), clock=clock), clock)) == [2.0] * 6


async def test_a_cache_remembers_how_long_an_answer_took(tmp_path):
    clock, file = FakeClock(), tmp_path / "answers.db"
    await scored(Caching(Taking(clock), file, clock=clock), clock)
    cached = Caching(Taking(clock), file, clock=clock)
    result = await scored(cached, clock)
    await cached.aclose()
    assert result == [2.0] * 6


@pytest.mark.parametrize(
    ("calls", "wall", "seconds"),
    [
        ([], 5.0, 5.0),
        ([(1, 4, 2.0)], 5.0, 4.0),  # waited for a second
        ([(1, 2, 2.0), (2, 3, 1.0)], 5.0, 6.0),  # one after the other
        ([(1, 4, 2.0), (1, 4, 3.0)], 5.0, 5.0),  # side by side
        ([(1, 3, 2.0), (1, 2, 1.0), (2, 4, 1.5)], 5.0, 4.5),  # the longer of two chains
        ([(1, 1, 2.0)], 0.0, 2.0),  # out of a cache
    ],
)
def test_the_longest_chain_of_calls_counts_with_what_lies_outside_of_them(calls, wall, seconds):
    spans = tuple(
        Span(
            trace_id="t",
            span_id=number,
            parent_id=None,
            kind="model",
            name="m",
            path="",
            start_ns=start * 10**9,
            end_ns=end * 10**9,
            attributes={"seconds": took},
        )
        for number, (start, end, took) in enumerate(calls)
    )
    assert run_seconds(Trace(spans=spans), wall) == seconds
