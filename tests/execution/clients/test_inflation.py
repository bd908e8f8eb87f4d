"""Compressed answers are decoded within the limit of a body.

And counts of tokens that can be none are not believed.
"""

import gzip
import json
import tracemalloc
import zlib

import pytest

from dspex.errors import ModelError, ModelUnavailableError
from dspex.execution.clients import Budget, OpenAIModel, Request, ask_within
from dspex.execution.clients.anthropic import AnthropicModel
from dspex.execution.clients.endpoint import usage_of
from dspex.execution.clients.gemini import GeminiModel
from dspex.execution.clients.inflation import Inflator
from dspex.execution.clients.prices import Price
from dspex.execution.clients.responses import ResponsesModel
from dspex.execution.clients.transport import EventSplitter, Limits, Transport
from dspex.execution.context import RunContext
from dspex.execution.modules import Predict
from dspex.language.records import Message, Usage
from dspex.testing import LoopbackServer, http_answer

REQUEST = Request(messages=(Message("user", "hi"),))
REPLY = json.dumps({"choices": [{"message": {"content": "hello"}}]}).encode()
EVENT = b'data: {"choices": [{"delta": {"content": "hello"}, "finish_reason": "stop"}]}\n\n'
BARE = zlib.compressobj(wbits=-15)


def packed(body, encoding, kind="application/json", status=200):
    return http_answer(
        body, status=status, headers={"content-encoding": encoding, "content-type": kind}
    )


@pytest.mark.bridge
@pytest.mark.parametrize(
    "answer",
    [
        packed(gzip.compress(REPLY), "gzip"),
        packed(gzip.compress(REPLY[:20]) + gzip.compress(REPLY[20:]), "X-GZIP"),
        packed(zlib.compress(REPLY), "deflate"),
        packed(BARE.compress(REPLY) + BARE.flush(), "deflate"),
        packed(REPLY, "identity"),
    ],
    ids=["gzip", "two members", "zlib", "bare", "identity"],
)
def test_a_compressed_answer_is_read(go, answer):
    async def main():
        async with LoopbackServer(answer) as server:
            model = OpenAIModel("m", base_url=server.url)
            text = (await model.complete(REQUEST)).text
            await model.aclose()
            return text, server.asked[0].headers["accept-encoding"]

    assert go(main()) == ("hello", "gzip, deflate")


@pytest.mark.bridge
def test_a_compressed_stream_is_read(go):
    async def main():
        async with LoopbackServer(
            packed(gzip.compress(EVENT), "gzip", "text/event-stream")
        ) as server:
            model, pieces = OpenAIModel("m", base_url=server.url), []

            async def emit(piece):
                pieces.append(piece)

            await model.stream(REQUEST, emit)
            await model.aclose()
            return pieces

    assert go(main()) == ["hello"]


@pytest.mark.bridge
@pytest.mark.parametrize("status", [200, 400])
@pytest.mark.parametrize("kind", ["application/json", "text/event-stream"])
@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_decompression_bomb_stops_at_the_limit_and_takes_no_memory(go, status, kind, encoding):
    bomb = (gzip.compress if encoding == "gzip" else zlib.compress)(b"a" * (256 * 1024 * 1024))

    async def main():
        async with LoopbackServer(packed(bomb, encoding, kind, status)) as server:
            model = OpenAIModel(
                "m", base_url=server.url, transport=Transport(Limits(body=2 * 1024 * 1024))
            )

            async def emit(_piece):
                pass

            tracemalloc.start()
            try:
                for call in (model.complete(REQUEST), model.stream(REQUEST, emit)):
                    with pytest.raises(ModelUnavailableError, match="longer than 2097152 bytes"):
                        await call
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            await model.aclose()
            return peak

    assert go(main()) < 24 * 1024 * 1024


@pytest.mark.bridge
@pytest.mark.parametrize(
    ("answer", "message"),
    [(packed(REPLY, "br"), "in the encoding 'br'"), (packed(REPLY, "gzip"), "not gzip")],
)
def test_an_unsupported_or_wrong_encoding_is_a_model_error(go, answer, message):
    async def main():
        async with LoopbackServer(answer) as server:
            model = OpenAIModel("m", base_url=server.url)
            with pytest.raises(ModelError, match=message):
                await model.complete(REQUEST)
            await model.aclose()

    go(main())


def test_a_body_decodes_the_same_from_chunks_of_any_size():
    body = gzip.compress(REPLY) + gzip.compress(b" ")
    for size in (1, 2, 7, len(body)):
        inflator = Inflator("gzip", "a server")
        parts = [body[start : start + size] for start in range(0, len(body), size)]
        assert (
            b"".join(content for part in parts for content in inflator.feed(part)) == REPLY + b" "
        )


def test_an_event_in_thousands_of_chunks_is_joined_once():
    splitter = EventSplitter()
    assert not [
        data for _ in range(20_000) for data in splitter.feed(b"data: x" if _ == 0 else b"y" * 1000)
    ]
    (data,) = splitter.feed(b"\n\n")
    assert len(data) == 1 + 19_999 * 1000


FREE = Price(((0, 1.0),), ((0, 1.0),), ((0, 1.0),))
BAD = (-1, -(10**21), 10**21)


@pytest.mark.parametrize("count", BAD)
def test_an_implausible_count_is_ignored_and_reported(count):
    for input_counts, output_counts in (
        ((count,), (1,)),
        ((1,), (count,)),
        ((1, count), (1,)),
        ((5, count), (1,)),
    ):
        usage, ignored = usage_of(FREE, input_counts=input_counts, output_counts=output_counts)
        assert usage == Usage(calls=1, cost_usd=None)
        assert ignored is not None
    for more in ({"cached": count}, {"reasoning": count}, {"cached": 11}):
        usage, ignored = usage_of(FREE, input_counts=(10,), output_counts=(1,), **more)
        assert (usage.input_tokens, usage.cached_tokens, usage.reasoning_tokens) == (10, 0, 0)
        assert usage.cost_usd == pytest.approx(11e-6)
        assert ignored is not None
    assert usage_of(FREE, input_counts=(10,), output_counts=(1,), cached=10)[1] is None


@pytest.mark.bridge
@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (
            OpenAIModel,
            {"choices": [{"message": {"content": "x"}}], "usage": {"prompt_tokens": -(10**21)}},
        ),
        (
            AnthropicModel,
            {
                "content": [{"type": "text", "text": "x"}],
                "usage": {"input_tokens": -5, "output_tokens": 9},
            },
        ),
        (
            GeminiModel,
            {
                "candidates": [{"content": {"parts": [{"text": "x"}]}}],
                "usageMetadata": {"promptTokenCount": 10**30},
            },
        ),
        (
            ResponsesModel,
            {
                "output": [{"type": "message", "content": [{"type": "output_text", "text": "x"}]}],
                "usage": {"input_tokens": 1, "output_tokens": -7},
            },
        ),
    ],
)
def test_every_client_ignores_implausible_counts(go, kind, body):
    async def main():
        async with LoopbackServer(http_answer(body)) as server:
            model, budget = kind("m", base_url=server.url), Budget(tokens=100_000)
            response = await ask_within(budget, model, REQUEST)
            await model.aclose()
            return response, budget

    response, budget = go(main())
    assert response.usage == Usage(calls=1, cost_usd=None)
    assert response.span_attributes()["ignored_usage"] == response.ignored
    assert budget.lost.tokens > 0  # booked with all that it may have used


@pytest.mark.bridge
def test_the_span_of_a_call_says_what_was_ignored(go):
    body = {
        "choices": [{"message": {"content": "[[ ## a ## ]]\nx"}}],
        "usage": {"prompt_tokens": -7},
    }

    async def main():
        async with LoopbackServer(http_answer(body)) as server:
            model = OpenAIModel("m", base_url=server.url)
            prediction = await Predict("q -> a").acall(RunContext(model=model), q="?")
            await model.aclose()
            return [span for span in prediction.trace.spans if span.kind == "model"]

    (span,) = go(main())
    assert "-7" in str(span.attributes["ignored_usage"])


@pytest.mark.bridge
@pytest.mark.parametrize(
    ("text", "seconds"), [("1e400", None), ("nan", None), ("1e9", 86_400.0), ("-3", 0.0)]
)
def test_retry_after_is_a_finite_number_of_at_most_a_day(go, text, seconds):
    async def main():
        answer = http_answer(
            {"error": {"message": "slow down"}}, status=429, headers={"retry-after": text}
        )
        async with LoopbackServer(answer) as server:
            model = OpenAIModel("m", base_url=server.url)
            with pytest.raises(ModelError) as caught:
                await model.complete(REQUEST)
            await model.aclose()
            return caught.value.retry_after

    assert go(main()) == seconds
