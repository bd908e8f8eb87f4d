"""Each attempt of Retry is a new request, on every model, also where replies are given again."""

import asyncio

import msgspec
import pytest

import dspex
from dspex.errors import ExecutionError
from dspex.execution.backends import IsolatedBackend
from dspex.execution.clients import Budget, Request
from dspex.execution.clients.caching import Caching
from dspex.execution.clients.cassette import Recording
from dspex.execution.context import RunContext
from dspex.execution.modules import Predict, ReAct, Retry
from dspex.language.records import Message, ToolCall
from dspex.learning.optimizers.control import Control
from dspex.learning.optimizers.journal import MemoryJournal
from dspex.learning.optimizers.reply_store import ReplayedModel, ReplyStore
from dspex.testing import ScriptedModel


def chat(answer):
    return f"[[ ## answer ## ]]\n{answer}"


def accepted(prediction):
    return prediction.answer == "yes"


@pytest.mark.parametrize(
    "settings", [{}, {"temperature": 0.0}, {"seed": 3}, {"temperature": 1.2, "seed": 3}]
)
@pytest.mark.parametrize("capabilities", [[], ["seed"]])
def test_behind_a_cache_every_attempt_is_asked(settings, capabilities):
    model = ScriptedModel(*map(chat, ["no", "still no", "yes"]), capabilities=capabilities)
    cached = Caching(model)
    retry = Retry(Predict("q -> answer", **settings), accept=accepted)
    for _ in range(2):  # the second run is answered from the cache, attempt by attempt
        assert retry(RunContext(model=cached), q="?").answer == "yes"
    assert len({request.rollout for request in model.requests}) == 3
    assert (cached.hits, cached.misses) == (3, 3)
    first, *others = model.requests
    assert first.temperature == settings.get("temperature")
    heat = settings.get("temperature")
    assert {request.temperature for request in others} == {None if heat is None else max(heat, 0.7)}
    if capabilities:
        assert [(request.seed or 0) - (first.seed or 0) for request in model.requests] == [0, 1, 2]


def test_a_model_that_a_predictor_names_itself_is_asked_anew_too():
    model = ScriptedModel(*map(chat, ["no", "yes"]))
    cached = Caching(model)
    by_object = Retry(Predict("q -> answer", model=cached), accept=accepted)
    assert by_object(RunContext(), q="?").answer == "yes"
    by_name = Retry(Predict("q -> answer", model="any/name"), accept=accepted)
    assert by_name(RunContext(models=lambda _: cached), q="?").answer == "yes"
    assert len(model.requests) == 2


def test_attempts_within_attempts_are_all_different():
    model = ScriptedModel(*map(chat, ["1", "2", "3", "4", "5", "6"]))
    inner = Retry(Predict("q -> answer"), attempts=3, accept=lambda _: False)
    with pytest.raises(ExecutionError):
        Retry(inner, attempts=2)(RunContext(model=Caching(model)), q="?")
    assert len({request.rollout for request in model.requests}) == 6


def test_an_agent_with_native_tools_is_run_anew():
    def lookup(city: str) -> str:
        """Look up the weather of a city."""
        return f"{city}: 21"

    calls = [ToolCall("1", "lookup", {"city": "Paris"}), ToolCall("2", "finish", {"answer": "no"})]
    again = [calls[0], ToolCall("2", "finish", {"answer": "yes"})]
    model = ScriptedModel(*calls, *again, capabilities=["tools"])
    retry = Retry(ReAct("q -> answer", [lookup]), accept=accepted)
    assert retry(RunContext(model=Caching(model)), q="?").answer == "yes"
    assert len(model.requests) == 4


async def test_a_search_asks_every_attempt_once():
    model, journal = ScriptedModel(*map(chat, ["no", "yes"])), MemoryJournal()
    retry = Retry(Predict("q -> answer"), accept=accepted)
    for _ in range(2):
        async with ReplyStore(
            journal, budget=Budget(), control=Control(), concurrency=1
        ) as answers:
            for entry in await journal.entries():
                answers.restore(entry)
            answered = ReplayedModel(model, answers)
            assert (await retry.acall(RunContext(model=answered), q="?")).answer == "yes"
    assert len(model.requests) == 2


def test_a_cassette_replays_every_attempt(tmp_path):
    retry, file = Retry(Predict("q -> answer"), accept=accepted), tmp_path / "replies.jsonl"
    for mode in ("record", "replay", "replay"):
        model = Recording(ScriptedModel(*map(chat, ["no", "yes"])), file, mode=mode)
        assert retry(RunContext(model=model), q="?").answer == "yes"


def test_a_first_attempt_is_the_request_that_it_always_was():
    assert "rollout" not in msgspec.to_builtins(Request(messages=(Message("user", "?"),)))


@pytest.mark.bridge
async def test_a_retry_in_a_worker_is_asked_anew_behind_the_cache_of_this_process():
    program = Retry(
        dspex.Predict("q -> answer: int", repairs=0, adapter="json"), attempts=3
    ).to_program("again")

    model = ScriptedModel("no json", '{"answer": 7}', "no json", '{"answer": 8}')
    cached = Caching(model)
    async with asyncio.timeout(60), IsolatedBackend() as backend:
        handle = await backend.create_program(program)
        contexts = [RunContext(model=cached, rollout=rollout) for rollout in (0, 0, 1)]
        answers = [
            (await backend.execute_program(handle, {"q": "?"}, context)).answer
            for context in contexts
        ]
    answers, rollouts = answers, [request.rollout for request in model.requests]
    assert answers == [7, 7, 8]
    assert len(set(rollouts)) == 4
