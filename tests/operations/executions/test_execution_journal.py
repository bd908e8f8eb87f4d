"""The model of an execution that may wait is like any other, and repeats what it answered."""

import asyncio

from dspex.execution.clients import Request
from dspex.language.records import Message
from dspex.operations.executions.execution_journal import JournaledModel
from dspex.testing import ScriptedModel
from dspex.testing.contracts import LanguageModelContract


class MemoryRun:
    """A durable run whose results are in a dictionary."""

    def __init__(self):
        self.results = {}
        self.replies = {}

    async def ask(self, question):
        raise NotImplementedError

    async def recall(self, kind, key):
        queue = self.replies.get((kind, key()))
        return queue.pop(0) if queue else None

    async def perform(self, kind, key, call, *, encode):
        result = await call
        self.results.setdefault((kind, key()), []).append(encode(result))
        return result


class TestJournaled(LanguageModelContract):
    def make(self):
        return JournaledModel(ScriptedModel("Paris", capabilities=["streaming"]), MemoryRun())


async def test_equal_requests_are_repeated_in_their_order():
    request = Request(messages=(Message("user", "?"),))
    run = MemoryRun()
    first = JournaledModel(ScriptedModel("one", "two"), run)
    assert [(await first.complete(request)).text for _ in range(2)] == ["one", "two"]
    run.replies = {key: list(results) for key, results in run.results.items()}
    model = ScriptedModel("three")
    again = JournaledModel(model, run)
    chunks: asyncio.Queue[str] = asyncio.Queue()
    texts = [(await again.stream(request, chunks.put)).text for _ in range(3)]
    assert texts == ["one", "two", "three"]
    assert [chunks.get_nowait() for _ in range(chunks.qsize())] == texts
    assert len(model.requests) == 1
