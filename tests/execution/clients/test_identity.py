"""A model is known by its identity: two servers that use one name are two models, everywhere."""

import json
import re

import msgspec
import pytest

import dspex
from dspex.errors import BudgetError, ConfigurationError, DefinitionError, ModelError
from dspex.execution.clients import Budget, OpenAIModel, Request, Response, ask_within
from dspex.execution.clients.address import ServerAddress, without_credentials
from dspex.execution.clients.anthropic import AnthropicModel
from dspex.execution.clients.caching import Caching
from dspex.execution.clients.cassette import Recording
from dspex.execution.clients.fallback import Fallback
from dspex.execution.clients.identity import ModelIdentity, identify
from dspex.execution.clients.local import LocalModel
from dspex.execution.clients.request_keys import key_by_name, request_key
from dspex.execution.clients.retrying import Retrying
from dspex.execution.context import RunContext
from dspex.language.records import Message, Usage
from dspex.session import ModelResolver
from dspex.settings import Settings
from dspex.testing import LoopbackServer, ScriptedModel, http_answer

REQUEST = Request(messages=(Message("user", "hi"),))


class Served(ScriptedModel):
    """A scripted model in place of one at a server."""

    def __init__(self, url, *replies, **more):
        super().__init__(*replies, name="m", **more)
        self.identity = ModelIdentity(provider="openai-compatible", base_url=url, name="m")

    async def complete(self, request):
        return msgspec.structs.replace(await super().complete(request), identity=self.identity)


@pytest.mark.parametrize(
    ("model", "label"),
    [
        (OpenAIModel("gpt-4o-mini"), "openai/gpt-4o-mini"),
        (OpenAIModel("gpt-4o-mini", name="openai/gpt-4o-mini"), "openai/gpt-4o-mini"),
        (OpenAIModel("qwen", base_url="http://Host:80/v1/"), "http://host/v1#qwen"),
        (OpenAIModel("qwen", base_url="http://host:81/v1", name="mine"), "http://host:81/v1#qwen"),
        (
            OpenAIModel("x", base_url="http://host/v1", name="openai/gpt-4o"),
            "http://host/v1#gpt-4o",
        ),
        (OpenAIModel("qwen", base_url="http://host/v1", revision="abc"), "http://host/v1#qwen@abc"),
        (AnthropicModel("claude-haiku-4-5"), "anthropic/claude-haiku-4-5"),
        (LocalModel("/models/x.gguf"), "/models/x.gguf"),
        (ScriptedModel("x", name="mine"), "mine"),
        (Retrying(OpenAIModel("gpt-4o-mini")), "openai/gpt-4o-mini"),
    ],
)
def test_the_label_of_a_model_reads_like_its_model_string(model, label):
    assert identify(model).label == label


def test_prices_depend_on_the_server_and_not_on_the_display_name():
    assert OpenAIModel("gpt-4o-mini").identity.price is not None
    assert (
        OpenAIModel("x", base_url="http://proxy/v1", name="openai/gpt-4o-mini").identity.price
        is not None
    )
    assert OpenAIModel("openai/gpt-4o-mini", base_url="http://host/v1").identity.price is None
    assert (
        OpenAIModel("openai/gpt-4o-mini", base_url="https://openrouter.ai/api/v1").identity.price
        is not None
    )


def test_a_budget_in_dollars_does_not_mistake_an_unknown_server_for_a_provider(go):
    async def main():
        model = OpenAIModel("openai/gpt-4o-mini", base_url="http://127.0.0.1:1/v1")
        with pytest.raises(
            BudgetError, match=re.escape("http://127.0.0.1:1/v1#openai/gpt-4o-mini")
        ):
            await ask_within(Budget(usd=1.0), model, REQUEST)

    go(main())


def test_one_cache_file_keeps_servers_apart(go, tmp_path):
    async def main():
        first, second = Served("http://a/v1", "from a"), Served("http://b/v1", "from b")
        for model, text in (
            (first, "from a"),
            (second, "from b"),
            (first, "from a"),
            (second, "from b"),
        ):
            cached = Caching(model, tmp_path / "cache.db")
            assert (await cached.complete(REQUEST)).text == text
            await cached.aclose()
        assert (len(first.requests), len(second.requests)) == (1, 1)

    go(main())


def test_a_fallback_model_changes_the_identity(go, tmp_path):
    async def main():
        first, second = Served("http://a/v1", "a"), Served("http://b/v1", "b")
        keys = {
            request_key(identify(model), REQUEST)
            for model in (first, Fallback(first, second), Fallback(second, first))
        }
        assert len(keys) == 3

    go(main())


def test_one_cassette_keeps_servers_apart(go, tmp_path):
    async def main():
        file = tmp_path / "replies.jsonl"
        for url in ("http://a/v1", "http://b/v1"):
            await Recording(Served(url, f"from {url}"), file, mode="record").complete(REQUEST)
        for url in ("http://b/v1", "http://a/v1"):
            assert (
                await Recording(Served(url, "new"), file, mode="replay").complete(REQUEST)
            ).text == f"from {url}"

    go(main())


def test_a_cassette_written_before_models_had_an_identity_answers_by_the_name(go, tmp_path):
    async def main():
        file = tmp_path / "old.jsonl"
        reply = {
            "text": "old",
            "usage": msgspec.to_builtins(Usage(calls=1)),
            "model": "m",
            "finish_reason": "stop",
        }
        line = {
            "key": key_by_name("m", REQUEST),
            "request": msgspec.to_builtins(REQUEST),
            "response": reply,
        }
        file.write_text(json.dumps(line) + "\n")
        assert (
            await Recording(Served("http://a/v1", "new"), file, mode="replay").complete(REQUEST)
        ).text == "old"

    go(main())


def test_usage_of_two_servers_with_one_name_is_booked_separately():
    class Both(dspex.Module):
        def __init__(self):
            self.first = dspex.Predict("q -> a", model=Served("http://a/v1", "[[ ## a ## ]]\nx"))
            self.second = dspex.Predict("q -> a", model=Served("http://b/v1", "[[ ## a ## ]]\ny"))

        async def forward(self, q):
            return {"a": (await self.first.acall(q=q)).a + (await self.second.acall(q=q)).a}

    prediction = Both()(q="?")
    assert prediction.a == "xy"
    assert {label: usage.calls for label, usage in prediction.usage.by_model.items()} == {
        "http://a/v1#m": 1,
        "http://b/v1#m": 1,
    }


def test_a_response_of_the_previous_version_can_be_read():
    old = {
        "text": "x",
        "usage": {"calls": 1},
        "model": "m",
        "finish_reason": None,
        "tool_calls": [],
        "seconds": None,
    }
    assert msgspec.convert(old, Response).label == "m"


def test_a_model_string_keeps_its_display_name():
    model = ModelResolver(Settings())("http://host:1/v1#qwen")
    assert (model.name, identify(model).label) == ("qwen", "http://host:1/v1#qwen")


@pytest.mark.parametrize(
    ("url", "base_url", "secrets"),
    [
        ("https://user:k3y-1@Host/v1", "https://host/v1", {"k3y-1"}),
        ("https://k3y-1@host:8443/v1/", "https://host:8443/v1", {"k3y-1"}),
        ("https://host/v1?key=k3y-1&api-version=2", "https://host/v1?api-version=2", {"k3y-1"}),
        ("https://u:p%40ss-1@[::1]:9/v1", "https://[::1]:9/v1", {"p@ss-1", "p%40ss-1"}),
    ],
)
def test_credentials_are_removed_when_a_url_is_parsed(url, base_url, secrets):
    address = ServerAddress.of(url)
    assert address.base_url == base_url
    assert secrets <= set(address.secrets)
    assert not any(
        secret in text for secret in secrets for text in (repr(address), address.public_url("x"))
    )
    assert without_credentials(f"{url}#name") == f"{base_url}#name"


def test_a_malformed_url_is_refused_without_repeating_it():
    with pytest.raises(ConfigurationError) as caught:
        ServerAddress.of("http://me:hidden@host:port/v1")
    assert "hidden" not in str(caught.value)
    assert "hidden" not in without_credentials("http://me:hidden@host:port/v1#m")


def test_errors_do_not_quote_a_service_that_is_not_http(go):
    async def main():
        async with LoopbackServer(b"SSH-2.0-intranet-secret\r\n\r\n") as server:
            model = OpenAIModel(
                "m", base_url=f"http://me:hidden-1@{server.url.split('/')[2]}/v1?token=hidden-2"
            )
            with pytest.raises(ModelError) as caught:
                await model.complete(REQUEST)
            await model.aclose()
            return f"{caught.value.message} {model!r}"

    message = go(main())
    assert "intranet" not in message
    assert "hidden" not in message


def test_a_predictor_with_credentials_in_its_url_runs_and_cannot_be_stored(go):
    async def main():
        reply = http_answer({"choices": [{"message": {"content": "[[ ## a ## ]]\nyes"}}]})
        async with LoopbackServer(reply) as server:
            url = f"http://me:hidden-1@{server.url.split('/')[2]}/v1#m"
            ask, resolver = dspex.Predict("q -> a", model=url), ModelResolver(Settings())
            answer = (await ask.acall(RunContext(models=resolver), q="?")).a
            await resolver.aclose()
            with pytest.raises(DefinitionError, match="DSPEX_API_KEY") as caught:
                ask.state()
            return answer, caught.value.message

    answer, message = go(main())
    assert answer == "yes"
    assert "hidden" not in message
