"""The OpenAI client against a real server on loopback that behaves well or badly."""

import asyncio
import json

import pytest

from dspex import Predict
from dspex.errors import (
    BudgetError,
    ContextTooLongError,
    ModelError,
    ModelTimeoutError,
    ModelUnavailableError,
    RateLimitedError,
    RefusedError,
)
from dspex.execution.clients import LanguageModel, OpenAIModel, Request, Retrying, ToolSpec
from dspex.execution.clients.limiting import Limiting
from dspex.execution.clients.transport import Limits, Transport
from dspex.execution.context import RunContext
from dspex.language.records import Message, ToolCall
from dspex.telemetry import FieldDelta, Partial
from dspex.testing import FakeClock, LoopbackServer, http_answer

pytestmark = pytest.mark.bridge

REQUEST = Request(messages=(Message("user", "hi"),))
REPLY = {
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}
    ],
    "usage": {
        "prompt_tokens": 1000,
        "completion_tokens": 20,
        "prompt_tokens_details": {"cached_tokens": 500},
        "completion_tokens_details": {"reasoning_tokens": 7},
    },
}
GOOD = http_answer(REPLY)
CHAT = http_answer(
    {"choices": [{"message": {"content": "[[ ## answer ## ]]\nhello"}, "finish_reason": "stop"}]}
)
SSE_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)


def model(server: LoopbackServer, limits: Limits | None = None, **more) -> OpenAIModel:
    return OpenAIModel("m", base_url=f"{server.url}/v1", transport=Transport(limits), **more)


def event(data: object) -> bytes:
    text = data if isinstance(data, bytes) else json.dumps(data).encode()
    body = b"data: " + text + b"\n\n"
    return b"%x\r\n%s\r\n" % (len(body), body)


def delta(**fields) -> bytes:
    return event({"choices": [{"index": 0, "delta": fields, "finish_reason": None}]})


def test_a_password_in_the_url_is_sent_and_never_shown(go):
    async def main():
        async with LoopbackServer(
            http_answer({"error": {"message": "no" * 9000}}, status=500), GOOD
        ) as server:
            client = OpenAIModel("m", base_url=f"{server.url.replace('://', '://me:hidden@')}/v1")
            with pytest.raises(ModelUnavailableError) as refused:
                await client.complete(REQUEST)
            assert (await client.complete(REQUEST)).text == "hello"
            header = server.asked[0].headers["authorization"]
        with pytest.raises(ModelUnavailableError) as away:
            await client.complete(REQUEST)
        await client.aclose()
        return header, [refused.value.message, away.value.message, repr(client)]

    header, messages = go(main())
    assert header.startswith("Basic ")
    assert not any("hidden" in text or "me:" in text for text in messages)
    assert all("127.0.0.1" in text for text in messages)
    assert len(messages[0]) < 2200


def test_half_a_surrogate_pair_of_a_reply_can_be_sent_in_the_next_request(go):
    async def main():
        async with LoopbackServer(
            http_answer({"choices": [{"message": {"content": '{"a": "x\\ud83d"}'}}]})
        ) as server:
            client = model(server)
            context = RunContext(model=client, records_payloads=True)
            first = await Predict("q -> a", adapter="json").acall(context, q="?")
            again = await Predict("q -> a", adapter="json").acall(context, q=first.a)
            await client.aclose()
            return first.a, again.trace.spans, server.asked[1].body

    answer, spans, body = go(main())
    assert answer == "x\ud83d"
    assert answer in json.loads(body)["messages"][-1]["content"]
    assert "x\\ud83d" in spans[0].inputs_ref


def test_a_request_has_all_settings_and_the_reply_has_usage_and_cost(go):
    async def main():
        async with LoopbackServer(GOOD) as server:
            client = model(server, api_key="sk-1", name="openai/gpt-4o-mini")
            request = Request(
                messages=(Message("system", "s"), Message("user", "u")),
                temperature=0.5,
                max_tokens=9,
                stop=("x",),
                seed=3,
                response_schema={"type": "object"},
            )
            response = await client.complete(request)
            await client.aclose()
            return response, server.asked[0], repr(client)

    response, http_request, text = go(main())
    assert http_request.path == "/v1/chat/completions"
    assert http_request.headers["authorization"] == "Bearer sk-1"
    assert "sk-1" not in text
    assert http_request.json() == {
        "model": "m",
        "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}],
        "temperature": 0.5,
        "max_tokens": 9,
        "seed": 3,
        "stop": ["x"],
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "outputs", "strict": True, "schema": {"type": "object"}},
        },
    }
    usage = response.usage
    assert (response.text, response.model, response.finish_reason) == (
        "hello",
        "openai/gpt-4o-mini",
        "stop",
    )
    assert (
        usage.input_tokens,
        usage.output_tokens,
        usage.cached_tokens,
        usage.reasoning_tokens,
    ) == (1000, 20, 500, 7)
    assert usage.cost_usd == pytest.approx((500 * 0.15 + 500 * 0.075 + 20 * 0.6) / 1e6)


def test_an_unknown_price_is_none(go):
    async def main():
        async with LoopbackServer(GOOD) as server:
            client = model(server)
            response = await client.complete(REQUEST)
            await client.aclose()
            return response.usage.cost_usd

    assert go(main()) is None


FAULTS = {
    "500": (http_answer({"error": {"message": "boom"}}, status=500), ModelUnavailableError, "boom"),
    "429": (
        http_answer({"error": "slow down"}, status=429, headers={"Retry-After": "7"}),
        RateLimitedError,
        "slow",
    ),
    "401": (http_answer({"error": {"message": "bad key"}}, status=401), RefusedError, "API key"),
    "404 with HTML": (http_answer(b"<html>no</html>", status=404), RefusedError, "model's name"),
    "too long": (
        http_answer({"error": {"message": "x", "code": "context_length_exceeded"}}, status=400),
        ContextTooLongError,
        "400",
    ),
    "HTML": (
        http_answer(b"<!doctype html><p>hi", headers={"content-type": "text/html"}),
        ModelError,
        "not a model reply",
    ),
    "garbage": (http_answer(b"\x00\x01\x02"), ModelError, "not a model reply"),
    "another JSON": (http_answer({"choices": []}), ModelError, "not a model reply"),
    "wrong schema": (
        http_answer({"choices": [{"message": {"content": 3}}]}),
        ModelError,
        "not a model reply",
    ),
    "invalid UTF-8": (
        http_answer(b'{"choices":[{"message":{"content":"\xff\xfe"}}]}'),
        ModelError,
        "not a model reply",
    ),
    "refusal": (
        http_answer({"choices": [{"message": {"refusal": "never"}}]}),
        RefusedError,
        "never",
    ),
    "redirect": (
        http_answer(b"", status=302, headers={"location": "http://x/"}),
        RefusedError,
        "302",
    ),
    "dropped": (("drop",), ModelUnavailableError, "disconnected"),
    "reset": (("reset",), ModelUnavailableError, "reach"),
    "reset mid-body": ((GOOD[:-10], "reset"), ModelUnavailableError, "reach"),
    "cut off": ((GOOD[:-10], "drop"), ModelUnavailableError, "reach"),
    "no HTTP": ((b"SSH-2.0-nope\r\n\r\n", "drop"), ModelUnavailableError, "reach"),
    "endless body": (
        (b"HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n",),
        ModelUnavailableError,
        "longer than 4096",
    ),
    "endless chunks": (
        (
            SSE_HEAD.replace(b"text/event-stream", b"text/html"),
            *[b"400\r\n" + b"x" * 1024 + b"\r\n"] * 8,
        ),
        ModelUnavailableError,
        "longer than 4096",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_has_its_error_and_the_next_call_works(go, fault):
    script, kind, message = FAULTS[fault]

    async def main():
        async with LoopbackServer(script, GOOD) as server:
            client = model(server, Limits(body=4096))
            with pytest.raises(kind, match=message) as caught:
                await client.complete(REQUEST)
            response = await client.complete(REQUEST)
            await client.aclose()
            await server.until_open(0)
            return type(caught.value), response.text

    assert go(main()) == (kind, "hello")


@pytest.mark.parametrize(
    "before", [b"", b"HTTP/1.1 200 OK\r\n", GOOD[:-5]], ids=["no byte", "slow header", "slow body"]
)
def test_a_silent_server_is_a_timeout_and_its_connection_is_closed(go, before):
    async def main():
        async with LoopbackServer((before, asyncio.Event()), GOOD) as server:
            client = model(server, Limits(read=0.05))
            with pytest.raises(ModelTimeoutError):
                await client.complete(REQUEST)
            await server.until_open(0)
            text = (await client.complete(REQUEST)).text
            await client.aclose()
            return text

    assert go(main()) == "hello"


def test_a_closed_port_is_unavailable_and_the_error_names_the_url(go):
    async def main():
        async with LoopbackServer(GOOD) as server:
            url = server.url
        client = OpenAIModel("m", base_url=url)
        with pytest.raises(ModelUnavailableError, match=url):
            await client.complete(REQUEST)
        await client.aclose()

    go(main())


def test_a_cancelled_caller_frees_the_connection(go):
    async def main():
        async with LoopbackServer((asyncio.Event(),), GOOD) as server:
            client = model(server)
            task = asyncio.create_task(client.complete(REQUEST))
            await server.until_asked(1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await server.until_open(0)
            text = (await client.complete(REQUEST)).text
            await client.aclose()
            return text

    assert go(main()) == "hello"


def test_connections_are_reused(go):
    async def main():
        async with LoopbackServer(GOOD) as server:
            client = model(server)
            for _ in range(5):
                await client.complete(REQUEST)
            await client.aclose()
            return server.accepted

    assert go(main()) == 1


def test_retrying_respects_retry_after_and_then_succeeds(go):
    busy = http_answer({"error": "busy"}, status=429, headers={"Retry-After": "7"})
    clock = FakeClock(jumps=True)

    async def main():
        async with LoopbackServer(busy, ("drop",), GOOD) as server:
            client = Retrying(model(server), clock=clock)
            text = (await client.complete(REQUEST)).text
            await client.aclose()
            return text

    assert go(main()) == "hello"
    first, second = clock.slept
    assert 7 <= first <= 7.5
    assert 0 <= second <= 1


def test_a_stream_emits_its_chunks_and_returns_the_whole_reply(go):
    last = event({"choices": [{"delta": {}, "finish_reason": "stop"}]})
    usage = event({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2}})
    torn = delta(content="lo ü")
    script = (
        SSE_HEAD + delta(role="assistant", content="Hel"),
        torn[:45],
        torn[45:],
        last + usage,
        b"0\r\n\r\n",
    )

    async def main():
        async with LoopbackServer(script, GOOD) as server:
            client, pieces = model(server), []

            async def emit(piece):
                pieces.append(piece)

            response = await client.stream(REQUEST, emit)
            body = server.asked[0].json()
            await client.complete(REQUEST)
            await client.aclose()
            return response, pieces, body, server.accepted

    response, pieces, body, accepted = go(main())
    assert body["stream"] is True
    assert pieces == ["Hel", "lo ü"]
    assert (response.text, response.finish_reason, response.usage.input_tokens) == (
        "Hello ü",
        "stop",
        5,
    )
    assert accepted == 1


@pytest.mark.parametrize(
    ("script", "kind", "message"),
    [
        ((SSE_HEAD + delta(content="He"), "drop"), ModelUnavailableError, "reach"),
        (
            (SSE_HEAD + delta(content="He") + b"0\r\n\r\n",),
            ModelUnavailableError,
            "before the reply was complete",
        ),
        (
            (SSE_HEAD + event({"error": {"message": "gpu on fire"}}) + b"0\r\n\r\n",),
            ModelUnavailableError,
            "gpu on fire",
        ),
        ((SSE_HEAD + event(b"{]") + b"0\r\n\r\n",), ModelError, "not a model reply"),
        (
            (SSE_HEAD + event(b'{"choices":[{"delta":{"content":"\xff"}}]}') + b"0\r\n\r\n",),
            ModelError,
            "not a model reply",
        ),
        ((SSE_HEAD + delta(content="x" * 900) * 9,), ModelUnavailableError, "longer than 4096"),
        (http_answer({"error": "busy"}, status=429), RateLimitedError, "busy"),
    ],
    ids=["dropped", "truncated", "error event", "garbage", "invalid UTF-8", "endless", "429"],
)
def test_each_fault_of_a_stream_has_its_error(go, script, kind, message):
    async def main():
        async with LoopbackServer(script, GOOD) as server:
            client = model(server, Limits(body=4096))

            async def emit(_piece):
                pass

            with pytest.raises(kind, match=message):
                await client.stream(REQUEST, emit)
            await client.complete(REQUEST)
            await client.aclose()
            await server.until_open(0)

    go(main())


def test_a_server_that_does_not_stream_is_emitted_as_one_chunk(go):
    async def main():
        async with LoopbackServer(GOOD) as server:
            client, pieces = model(server), []

            async def emit(piece):
                pieces.append(piece)

            response = await client.stream(REQUEST, emit)
            await client.aclose()
            return pieces, response.text

    assert go(main()) == (["hello"], "hello")


def test_tool_calls_are_sent_and_received_whole_and_streamed(go):
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    whole = http_answer(
        {
            "choices": [
                {"message": {"content": None, "tool_calls": [call]}, "finish_reason": "tool_calls"}
            ]
        }
    )
    parts = [
        delta(tool_calls=[{"index": 0, "id": "c1", "function": {"name": "add", "arguments": ""}}]),
        delta(tool_calls=[{"index": 0, "function": {"arguments": '{"a"'}}]),
        delta(tool_calls=[{"index": 0, "function": {"arguments": ": 1}"}}]),
        event(b"[DONE]"),
    ]
    request = Request(
        messages=(
            Message("user", "u"),
            Message("assistant", "", tool_calls=(ToolCall("c0", "add", {"a": 0}),)),
            Message("tool", "0", tool_call_id="c0"),
        ),
        tools=(ToolSpec("add", "adds", {"type": "object"}),),
        tool_choice="required",
    )

    async def main():
        async with LoopbackServer(whole, SSE_HEAD + b"".join(parts) + b"0\r\n\r\n") as server:
            client = model(server)

            async def emit(_piece):
                raise AssertionError("there is no text")

            replies = (
                (await client.complete(request)).tool_calls,
                (await client.stream(request, emit)).tool_calls,
            )
            await client.aclose()
            return replies, server.asked[0].json()

    (first, second), body = go(main())
    assert first == second == (ToolCall("c1", "add", {"a": 1}),)
    assert body["messages"][1:] == [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": "c0",
                    "type": "function",
                    "function": {"name": "add", "arguments": '{"a":0}'},
                }
            ],
        },
        {"role": "tool", "content": "0", "tool_call_id": "c0"},
    ]
    assert body["tools"] == [
        {
            "type": "function",
            "function": {"name": "add", "description": "adds", "parameters": {"type": "object"}},
        }
    ]
    assert body["tool_choice"] == "required"


def test_the_tools_adapter_streams_its_fields_from_the_arguments_of_the_call(go):
    call = {"id": "c1", "function": {"name": "answer", "arguments": ""}}
    parts = [delta(tool_calls=[{"index": 0, **call}])]
    parts += [
        delta(tool_calls=[{"index": 0, "function": {"arguments": piece}}])
        for piece in ('{"a": "Pa', 'ris", "n": ', "3}")
    ]
    script = (
        SSE_HEAD
        + b"".join(parts)
        + event({"choices": [{"delta": {}, "finish_reason": "stop"}]})
        + b"0\r\n\r\n"
    )

    async def main():
        async with LoopbackServer(script) as server:
            client = model(server)
            stream = Predict("q -> a, n: int", adapter="tools").stream(
                RunContext(model=client), q="q"
            )
            events = [events async for events in stream]
            await client.aclose()
            return events

    events = go(main())
    assert [item.text for item in events if isinstance(item, FieldDelta)] == ["Pa", "ris"]
    assert [item.outputs for item in events if isinstance(item, Partial)][-1] == {
        "a": "Paris",
        "n": 3,
    }
    assert dict(events[-1].prediction) == {"a": "Paris", "n": 3}


def test_the_protocol_is_fulfilled():
    client: LanguageModel = OpenAIModel("m")
    assert {"tools", "streaming", "response_schema"} <= client.capabilities


def test_a_slow_trickle_exceeds_the_total_timeout(go):
    async def main():
        async with LoopbackServer(
            (GOOD[:20], asyncio.Event()), (GOOD[:-5], asyncio.Event()), GOOD
        ) as server:
            client = model(server, Limits(read=60, total=0.05))
            for _ in ("header", "body"):
                with pytest.raises(ModelTimeoutError, match=r"0\.05 s in all"):
                    await client.complete(REQUEST)
                await server.until_open(0)
            await client.aclose()
            patient = model(server)
            text = (await patient.complete(REQUEST)).text
            await patient.aclose()
            return text

    assert go(main()) == "hello"


@pytest.mark.parametrize("status", [429, 500, 503])
def test_many_refusals_at_once_end_in_answers_or_errors_without_leaks(go, status):
    kind = RateLimitedError if status == 429 else ModelUnavailableError
    headers = {"Retry-After": "3"} if status == 429 else {}
    bad = http_answer({"error": "busy"}, status=status, headers=headers)

    async def main():
        async with LoopbackServer(*[bad] * 60, GOOD) as server:
            clock = FakeClock(jumps=True)
            limited = Limiting(model(server), concurrency=8, clock=clock)
            hasty, patient = (
                Retrying(limited, attempts=2, clock=clock),
                Retrying(limited, attempts=90, clock=clock),
            )
            calls = [client.complete(REQUEST) for client in (hasty, patient) for _ in range(10)]
            results = await asyncio.gather(*calls, return_exceptions=True)
            after = limited.concurrency
            for _ in range(60):
                await limited.complete(REQUEST)
            await patient.aclose()
            await server.until_open(0)
            return results, after, limited.concurrency, server.accepted

    results, after, grown, accepted = go(main())
    assert [type(result) for result in results[:10]] == [kind] * 10
    assert [result.text for result in results[10:]] == ["hello"] * 10
    assert (after < 8) == (status == 429)
    assert grown == 8
    assert accepted <= 8


def test_a_deadline_that_passes_while_queued_is_a_budget_error_and_the_queue_goes_on(go):
    async def main():
        gate = asyncio.Event()
        async with LoopbackServer((gate, CHAT), CHAT) as server:
            limited = Limiting(model(server), concurrency=1)
            context, ask = RunContext(model=limited), Predict("question -> answer")
            first = asyncio.create_task(ask.acall(context, question="first"))
            await server.until_asked(1)
            last = asyncio.create_task(ask.acall(context, question="last"))
            with pytest.raises(BudgetError, match="deadline") as caught:
                await ask.acall(context.within(0.05), question="too late")
            count = len(server.asked)
            gate.set()
            answers = [(await task).answer for task in (first, last)]
            await limited.aclose()
            await server.until_open(0)
            return caught.value.context["limit"], count, answers, len(server.asked)

    assert go(main()) == ("time", 1, ["hello", "hello"], 2)


def test_a_caller_cancelled_while_queued_is_not_sent_and_the_queue_goes_on(go):
    async def main():
        gate = asyncio.Event()
        async with LoopbackServer((gate, GOOD), GOOD) as server:
            limited = Limiting(model(server), concurrency=1)
            tasks = [asyncio.create_task(limited.complete(REQUEST)) for _ in range(3)]
            await server.until_asked(1)
            tasks[1].cancel()
            gate.set()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            await limited.aclose()
            await server.until_open(0)
            return [type(result).__name__ for result in results], len(server.asked)

    assert go(main()) == (["Response", "CancelledError", "Response"], 2)
