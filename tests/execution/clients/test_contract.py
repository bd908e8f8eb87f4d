"""The contract of a language model.

On every client that speaks HTTP and on those that replace another one.
"""

import asyncio
import threading

import msgspec
import pytest

from dspex.execution.backends.parent import Parent, WorkerModel
from dspex.execution.clients import Budget, LanguageModel, OpenAIModel, Request
from dspex.execution.clients.anthropic import AnthropicModel
from dspex.execution.clients.caching import Caching
from dspex.execution.clients.gemini import GeminiModel
from dspex.execution.clients.responses import ResponsesModel
from dspex.language.records import Message, ToolCall
from dspex.learning.optimizers.control import Control
from dspex.learning.optimizers.journal import MemoryJournal
from dspex.learning.optimizers.reply_store import ReplayedModel, ReplyStore
from dspex.testing import LoopbackServer, ScriptedModel, http_answer
from dspex.testing.contracts import LanguageModelContract
from dspex.testing.simulated import SimulatedModel

REPLIES = {
    OpenAIModel: {"choices": [{"message": {"content": "Paris"}}], "usage": {"prompt_tokens": 9}},
    AnthropicModel: {
        "content": [{"type": "text", "text": "Paris"}],
        "usage": {"input_tokens": 9, "output_tokens": 1},
    },
    GeminiModel: {
        "candidates": [{"content": {"parts": [{"text": "Paris"}]}}],
        "usageMetadata": {"promptTokenCount": 9},
    },
    ResponsesModel: {
        "output": [{"type": "message", "content": [{"type": "output_text", "text": "Paris"}]}],
        "usage": {"input_tokens": 9},
    },
}


class TestSimulated(LanguageModelContract):
    def make(self) -> LanguageModel:
        return SimulatedModel()


class TestAnswersOfASearch(LanguageModelContract):
    def make(self) -> LanguageModel:
        answers = ReplyStore(MemoryJournal(), budget=Budget(), control=Control(), concurrency=4)
        return ReplayedModel(ScriptedModel("Paris", capabilities=["streaming"]), answers)


class ParentCall:
    """Answers as the parent of a worker does."""

    def callback(self, command, args):
        assert command == "complete"
        response = asyncio.run(
            ScriptedModel("Paris", name="m").complete(msgspec.convert(args["request"], Request))
        )
        return msgspec.to_builtins(response)


class TestParent(LanguageModelContract):
    def make(self) -> LanguageModel:
        about = {"name": "m", "capabilities": ["streaming", "tools"]}
        return WorkerModel(Parent(ParentCall()), about, {})


def test_the_answers_of_a_search_keep_tool_calls_across_restarts(go):
    call = ToolCall("c", "add", {"a": 1})

    async def main():
        journal, request = MemoryJournal(), Request(messages=(Message("user", "u"),))
        calls = []
        for script in (call, "nobody is asked again"):
            answers = ReplyStore(journal, budget=Budget(), control=Control(), concurrency=1)
            for entry in await journal.entries():
                answers.restore(entry)
            model = ReplayedModel(
                ScriptedModel(script, capabilities=["tools", "streaming"]), answers
            )
            calls.append((await model.complete(request)).tool_calls)
        return calls, model.capabilities

    assert go(main()) == ([(call,)] * 2, {"tools"})


class TestCaching(LanguageModelContract):
    def make(self) -> LanguageModel:
        return Caching(ScriptedModel("Paris", capabilities=["streaming"]))


@pytest.mark.bridge
@pytest.mark.parametrize("kind", REPLIES)
class TestOverHTTP(LanguageModelContract):
    @pytest.fixture(autouse=True)
    def _served(self, kind):
        """Serve on a separate thread: the suite opens and closes its own event loops."""
        started, finished = threading.Event(), asyncio.Event()
        served = {}

        async def serve() -> None:
            async with LoopbackServer(http_answer(REPLIES[kind])) as server:
                served.update(url=server.url, loop=asyncio.get_running_loop())
                started.set()
                await finished.wait()

        thread = threading.Thread(target=lambda: asyncio.run(serve()))
        thread.start()
        assert started.wait(10)
        self.kind, self.url = kind, served["url"]
        yield
        served["loop"].call_soon_threadsafe(finished.set)
        thread.join(10)

    def make(self) -> LanguageModel:
        return self.kind("m", base_url=self.url)
