"""Embedders at servers, against servers on loopback that behave well or badly."""

import asyncio
import base64
import threading
from typing import Any, ClassVar

import numpy
import pytest
from aiohttp import web

from dspex.errors import (
    ContextTooLongError,
    DefinitionError,
    ModelError,
    ModelTimeoutError,
    ModelUnavailableError,
    RateLimitedError,
    RefusedError,
)
from dspex.execution.clients.embedder import Embedder
from dspex.execution.clients.gemini_embedder import GeminiEmbedder
from dspex.execution.clients.hashing_embedder import HashingEmbedder
from dspex.execution.clients.openai_embedder import OpenAIEmbedder
from dspex.execution.clients.transport import Answer, Limits, Transport
from dspex.testing import LoopbackServer, http_answer
from dspex.testing.embedders import EmbedderContract
from dspex.testing.model_server import ModelServer

pytestmark = pytest.mark.bridge


class GoogleServer(ModelServer):
    """Answers `batchEmbedContents`, too; `kinds` lists the task types."""

    def __init__(self, embedder: Embedder) -> None:
        super().__init__({}, {"m": embedder})
        self.kinds: list[str] = []
        route = "/v1/models/{model}:batchEmbedContents"
        self._runner.app.router.add_post(route, self._batch)

    async def _batch(self, http_request: web.Request) -> web.Response:
        items = (await http_request.json())["requests"]
        texts = [item["content"]["parts"][0]["text"] for item in items]
        self.kinds += [item["taskType"] for item in items]
        assert all(item["model"] == "models/m" for item in items)
        embeddings = await self.embedders["m"].embed(texts)
        rows = [row[: items[0].get("outputDimensionality")].tolist() for row in embeddings.vectors]
        return web.json_response(
            {
                "embeddings": [{"values": row} for row in rows],
                "usageMetadata": {"promptTokenCount": embeddings.usage.input_tokens},
            }
        )


@pytest.mark.parametrize("client_class", [OpenAIEmbedder, GeminiEmbedder])
class TestOverHTTP(EmbedderContract):
    @pytest.fixture(autouse=True)
    def _server(self, client_class):
        """Serve on a separate thread: the suite opens and closes its own event loops."""
        ready, finished = threading.Event(), asyncio.Event()
        values: dict[str, Any] = {}

        async def serve() -> None:
            async with GoogleServer(HashingEmbedder()) as server:
                values.update(url=server.url, loop=asyncio.get_running_loop())
                ready.set()
                await finished.wait()

        thread = threading.Thread(target=lambda: asyncio.run(serve()))
        thread.start()
        assert ready.wait(10)
        self.client, self.url = client_class, values["url"]
        yield
        values["loop"].call_soon_threadsafe(finished.set)
        thread.join(10)

    def make(self) -> OpenAIEmbedder | GeminiEmbedder:
        return self.client("m", base_url=self.url)


def reply(*rows: object, **more: object) -> bytes:
    data = [{"index": n, "embedding": row} for n, row in enumerate(rows)]
    return http_answer({"data": data, "usage": {"prompt_tokens": 8}, **more})


def binary(*values: float) -> str:
    return base64.b64encode(numpy.array(values, dtype="<f4").tobytes()).decode()


@pytest.fixture
async def client():
    """Return a function that makes embedders; the test closes them."""
    embedders: list[OpenAIEmbedder | GeminiEmbedder] = []

    def make(url: str, *, kind=OpenAIEmbedder, limits: Limits | None = None, **more: Any):
        embedders.append(kind("m", base_url=url, transport=Transport(limits), **more))
        return embedders[-1]

    yield make
    for embedder in embedders:
        await embedder.aclose()


async def test_vectors_of_any_length_become_unit_vectors_in_the_order_of_their_index(client):
    data = [{"index": 1, "embedding": [0, -2]}, {"index": 0, "embedding": [3, 4]}]
    async with LoopbackServer(http_answer({"data": data})) as server:
        embeddings = await client(server.url).embed(["a", "b"])
    assert embeddings.vectors.tolist() == [[pytest.approx(0.6), pytest.approx(0.8)], [0, -1]]


async def test_the_request_has_model_texts_dimensions_and_key(client):
    async with LoopbackServer(reply([1, 0, 0])) as server:
        await client(server.url, dimensions=3, api_key="k" * 20).embed(["a"], "query")
    (request,) = server.asked
    assert request.path == "/embeddings"
    assert request.json() == {"model": "m", "input": ["a"], "dimensions": 3}
    assert request.headers["authorization"] == f"Bearer {'k' * 20}"


async def test_vectors_in_base64_are_read(client):
    async with LoopbackServer(reply(binary(0, 5)), reply("AAA")) as server:
        embedder = client(server.url)
        assert (await embedder.embed(["a"])).vectors.tolist() == [[0, 1]]
        with pytest.raises(ModelError, match="not a model reply"):
            await embedder.embed(["a"])


async def test_openai_is_asked_for_base64_and_other_servers_are_not():
    class Captured(Transport):
        bodies: ClassVar[list[bytes]] = []

        async def post(self, url, body, headers):
            self.bodies.append(body)
            return Answer(200, {}, b'{"data":[{"embedding":[1]}]}')

    for url in ("https://api.openai.com/v1", "http://127.0.0.1:1/v1"):
        await OpenAIEmbedder("m", base_url=url, transport=Captured()).embed(["a"])
    assert [b'"encoding_format":"base64"' in body for body in Captured.bodies] == [True, False]


async def test_usage_has_tokens_and_the_price_of_the_model(client):
    async with LoopbackServer(reply([1, 0])) as server:
        url = server.url
        embedder = client(url, name="openai/text-embedding-3-small")
        embeddings = await embedder.embed(["a"])
    assert embeddings.usage.input_tokens == 8
    assert embeddings.usage.cost_usd == pytest.approx(8 * 0.02e-6)
    assert embeddings.model == f"{url}#text-embedding-3-small"
    async with LoopbackServer(reply([1, 0])) as server:
        assert (await client(server.url).embed(["a"])).usage.cost_usd is None


async def test_many_texts_are_sent_in_batches_and_stay_in_order(client):
    async with GoogleServer(HashingEmbedder()) as server:
        texts = [f"text {n}" for n in range(250)]
        embedder = client(server.url)
        embeddings = await embedder.embed(texts)
        large = await embedder.embed(["x" * 150_000] * 3)
    assert abs(embeddings.vectors - (await HashingEmbedder().embed(texts)).vectors).max() < 1e-6
    assert (embeddings.usage.calls, large.usage.calls) == (3, 3)


async def test_google_is_told_what_the_texts_are_for(client):
    async with GoogleServer(HashingEmbedder()) as server:
        embedder = client(server.url, kind=GeminiEmbedder, dimensions=16)
        await embedder.embed(["a"], "query")
        embeddings = await embedder.embed(["b"])
    assert server.kinds == ["RETRIEVAL_QUERY", "RETRIEVAL_DOCUMENT"]
    assert embeddings.vectors.shape == (1, 16)


async def test_a_reply_of_google_without_counts_has_an_unknown_cost(client):
    async with LoopbackServer(http_answer({"embeddings": [{"values": [1, 0]}]})) as server:
        embeddings = await client(server.url, kind=GeminiEmbedder).embed(["a"])
    assert (embeddings.usage.calls, embeddings.usage.cost_usd) == (1, None)


async def test_texts_that_google_might_cut_are_refused(client):
    async with LoopbackServer(b"") as server:
        with pytest.raises(ContextTooLongError, match="has 6001 characters"):
            await client(server.url, kind=GeminiEmbedder).embed(["x" * 6001])
    assert server.asked == []


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (reply([1, 0]), "1 vectors for 2 texts"),
        (reply([1, 0], [0, 1], [1, 1]), "3 vectors for 2 texts"),
        (reply([1, 0], [0, 1, 0]), r"vectors of \[2, 3\] dimensions"),
        (reply([], []), r"vectors of \[0\] dimensions"),
        (reply([0, 0], [1, 0]), "no direction"),
        (reply([1, 0], ["NaN", 0]), "not a model reply"),
        (reply([1, 0], None), "not a model reply"),
        (reply([1, 0], binary(numpy.nan, 1)), "no direction"),
        (reply([1, 0], binary(numpy.inf, 1)), "no direction"),
        (http_answer({"data": [{"index": 0, "embedding": [1]}] * 2}), "2 vectors for 2 texts"),
        (http_answer({"choices": []}), "not a model reply"),
        (http_answer(b"<html>"), "not a model reply"),
    ],
)
async def test_a_reply_that_is_not_a_vector_for_each_text_is_a_typed_error(client, answer, message):
    async with LoopbackServer(answer) as server:
        with pytest.raises(ModelError, match=message):
            await client(server.url).embed(["a", "b"])


async def test_a_server_that_changes_its_dimensions_is_an_error(client):
    async with LoopbackServer(reply([1, 0]), reply([1, 0, 0]), reply([0, 1])) as server:
        embedder = client(server.url)
        assert embedder.dimensions is None
        await embedder.embed(["a"])
        with pytest.raises(ModelError, match=r"\[3\] dimensions instead of 2; is it another model"):
            await embedder.embed(["a"])
        assert (await embedder.embed(["a"])).vectors.tolist() == [[0, 1]]


async def test_a_server_that_ignores_the_dimensions_is_an_error(client):
    async with LoopbackServer(reply([1, 0, 0])) as server:
        with pytest.raises(ModelError, match="instead of 2"):
            await client(server.url, dimensions=2).embed(["a"])


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, {"error": {"message": "maximum context length is 8192"}}, ContextTooLongError),
        (401, {"error": {"message": "bad key"}}, RefusedError),
        (429, {"error": {"message": "slow down"}}, RateLimitedError),
        (503, {"error": {"message": "overloaded"}}, ModelUnavailableError),
    ],
)
async def test_failures_have_the_same_classes_as_those_of_models(client, status, body, kind):
    async with LoopbackServer(http_answer(body, status=status)) as server:
        with pytest.raises(kind):
            await client(server.url).embed(["a"])


async def test_a_server_that_is_down_or_slow_is_a_typed_error(client):
    async with LoopbackServer([asyncio.Event()]) as server:
        with pytest.raises(ModelTimeoutError):
            await client(server.url, limits=Limits(read=0.05)).embed(["a"])
        embedder = client(server.url)
    with pytest.raises(ModelUnavailableError, match="cannot reach"):
        await embedder.embed(["a"])


async def test_a_password_in_the_url_is_sent_and_never_shown(client):
    async with LoopbackServer(http_answer({"error": "hidden"}, status=500), reply([1])) as server:
        embedder = client(server.url.replace("://", "://me:hidden@"))
        with pytest.raises(ModelUnavailableError) as error:
            await embedder.embed(["a"])
        await embedder.embed(["a"])
    assert server.asked[0].headers["authorization"].startswith("Basic ")
    texts = [error.value.message, repr(embedder), embedder.fingerprint, embedder.identity.label]
    assert not any("hidden" in text for text in texts)


def test_the_fingerprint_follows_model_server_revision_and_dimensions():
    embedders = [
        OpenAIEmbedder("m"),
        OpenAIEmbedder("n"),
        OpenAIEmbedder("m", base_url="http://127.0.0.1:1/v1"),
        OpenAIEmbedder("m", revision="2"),
        OpenAIEmbedder("m", dimensions=8),
        GeminiEmbedder("m"),
    ]
    assert len({embedder.fingerprint for embedder in embedders}) == len(embedders)
    assert OpenAIEmbedder("m", api_key="k").fingerprint == embedders[0].fingerprint
    assert all("127" not in embedder.fingerprint for embedder in embedders)


def test_dimensions_below_one_are_refused():
    with pytest.raises(DefinitionError, match="at least 1 dimension"):
        OpenAIEmbedder("m", dimensions=0)
