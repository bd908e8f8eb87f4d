import random

import pytest

from dspex.errors import ModelUnavailableError, RateLimitedError, RefusedError
from dspex.execution.clients import LanguageModel, Request, Retrying
from dspex.language.records import Message
from dspex.testing import FakeClock, ScriptedModel
from dspex.testing.contracts import LanguageModelContract

REQUEST = Request(messages=(Message("user", "hi"),))
DOWN = ModelUnavailableError("down")


class TestScripted(LanguageModelContract):
    def make(self) -> LanguageModel:
        return ScriptedModel("Paris")


class TestScriptedStreaming(LanguageModelContract):
    def make(self) -> LanguageModel:
        return ScriptedModel("Paris, of course", capabilities=["streaming"])


class TestRetrying(LanguageModelContract):
    def make(self) -> LanguageModel:
        return Retrying(ScriptedModel("Paris", capabilities=["streaming"]))


def test_waits_are_random_below_a_limit_that_doubles(go):
    clock, model = FakeClock(jumps=True), ScriptedModel(DOWN, DOWN, DOWN, "yes")
    retrying = Retrying(model, first=2.0, clock=clock, rng=random.Random(1))
    assert go(retrying.complete(REQUEST)).text == "yes"
    assert all(0 <= wait <= 2.0 * 2**n for n, wait in enumerate(clock.slept))
    assert len(set(clock.slept)) == len(clock.slept) == 3


def test_the_last_error_is_raised_after_all_attempts(go):
    model = ScriptedModel(DOWN)
    with pytest.raises(ModelUnavailableError):
        go(Retrying(model, attempts=3, clock=FakeClock(jumps=True)).complete(REQUEST))
    assert len(model.requests) == 3


def test_errors_that_are_not_retryable_are_not_retried(go):
    model = ScriptedModel(RefusedError("no"))
    with pytest.raises(RefusedError):
        go(Retrying(model, clock=FakeClock(jumps=True)).complete(REQUEST))
    assert len(model.requests) == 1


def test_a_retry_after_above_the_limit_raises(go):
    model = ScriptedModel(RateLimitedError("later", retry_after=3600.0))
    with pytest.raises(RateLimitedError):
        go(Retrying(model, clock=FakeClock(jumps=True)).complete(REQUEST))
    assert len(model.requests) == 1


def test_a_stream_is_not_retried_after_its_first_chunk(go):
    class Breaks(ScriptedModel):
        async def stream(self, request, emit):
            self.requests.append(request)
            await emit("Hel")
            raise DOWN

    model = Breaks("x", capabilities=["streaming"])
    pieces = []

    async def emit(piece):
        pieces.append(piece)

    with pytest.raises(ModelUnavailableError):
        go(Retrying(model, clock=FakeClock(jumps=True)).stream(REQUEST, emit))
    assert (pieces, len(model.requests)) == (["Hel"], 1)
