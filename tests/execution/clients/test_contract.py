"""The contract of a language model, on every client that speaks HTTP and on the wrapper that answers from memory."""

import asyncio
import threading

import pytest

from dspex.execution.clients import LanguageModel, OpenAIModel
from dspex.execution.clients.anthropic import AnthropicModel
from dspex.execution.clients.caching import Caching
from dspex.execution.clients.gemini import GeminiModel
from dspex.execution.clients.responses import ResponsesModel
from dspex.testing import LoopbackServer, ScriptedModel, http_answer
from dspex.testing.contracts import LanguageModelContract

REPLIES = {
    OpenAIModel: {"choices": [{"message": {"content": "Paris"}}], "usage": {"prompt_tokens": 9}},
    AnthropicModel: {"content": [{"type": "text", "text": "Paris"}], "usage": {"input_tokens": 9, "output_tokens": 1}},
    GeminiModel: {
        "candidates": [{"content": {"parts": [{"text": "Paris"}]}}],
        "usageMetadata": {"promptTokenCount": 9},
    },
    ResponsesModel: {
        "output": [{"type": "message", "content": [{"type": "output_text", "text": "Paris"}]}],
        "usage": {"input_tokens": 9},
    },
}


class TestCaching(LanguageModelContract):
    def make(self) -> LanguageModel:
        return Caching(ScriptedModel("Paris", capabilities=["streaming"]))


@pytest.mark.bridge
@pytest.mark.parametrize("kind", REPLIES)
class TestOverHTTP(LanguageModelContract):
    @pytest.fixture(autouse=True)
    def _served(self, kind):
        """Serve on a thread of its own: the suite opens and closes event loops of its own."""
        started, ended = threading.Event(), asyncio.Event()
        found = {}

        async def serve() -> None:
            async with LoopbackServer(http_answer(REPLIES[kind])) as server:
                found.update(url=server.url, loop=asyncio.get_running_loop())
                started.set()
                await ended.wait()

        thread = threading.Thread(target=lambda: asyncio.run(serve()))
        thread.start()
        assert started.wait(10)
        self.kind, self.url = kind, found["url"]
        yield
        found["loop"].call_soon_threadsafe(ended.set)
        thread.join(10)

    def make(self) -> LanguageModel:
        return self.kind("m", base_url=self.url)
