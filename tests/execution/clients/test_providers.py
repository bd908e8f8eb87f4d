"""Anthropic, Gemini and the Responses protocol against a loopback server."""

import json

import msgspec
import pytest

from dspex.errors import (
    ContextTooLongError,
    ModelError,
    ModelUnavailableError,
    RateLimitedError,
    RefusedError,
)
from dspex.execution.clients import Request, ToolSpec
from dspex.execution.clients.anthropic import AnthropicModel
from dspex.execution.clients.gemini import GeminiModel
from dspex.execution.clients.responses import ResponsesModel
from dspex.language.records import Message, ToolCall
from dspex.testing import LoopbackServer, http_answer

pytestmark = pytest.mark.bridge
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
REQUEST = Request(
    messages=(
        Message("system", "Be brief."),
        Message("user", "hi"),
        Message("assistant", "", tool_calls=(ToolCall("c0", "add", {"a": 0}),)),
        Message("tool", "0", tool_call_id="c0"),
    ),
    temperature=0.5,
    max_tokens=9,
    tools=(ToolSpec("add", "adds", SCHEMA),),
    tool_choice="required",
)


def events(*data: object) -> bytes:
    body = b"".join(b"data: " + json.dumps(item).encode() + b"\n\n" for item in data)
    return (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: "
        + str(len(body)).encode()
        + b"\r\n\r\n"
        + body
    )


ANTHROPIC = {
    "content": [
        {"type": "text", "text": "Hello"},
        {"type": "tool_use", "id": "c1", "name": "add", "input": {"a": 1}},
    ],
    "stop_reason": "tool_use",
    "usage": {"input_tokens": 10, "output_tokens": 5, "cache_read_input_tokens": 90},
}
ANTHROPIC_EVENTS = [
    {
        "type": "message_start",
        "message": {"content": [], "usage": {"input_tokens": 10, "cache_read_input_tokens": 90}},
    },
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "ping"},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hel"}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "lo"}},
    {"type": "content_block_stop", "index": 0},
    {
        "type": "content_block_start",
        "index": 1,
        "content_block": {"type": "tool_use", "id": "c1", "name": "add", "input": {}},
    },
    {
        "type": "content_block_delta",
        "index": 1,
        "delta": {"type": "input_json_delta", "partial_json": '{"a"'},
    },
    {
        "type": "content_block_delta",
        "index": 1,
        "delta": {"type": "input_json_delta", "partial_json": ": 1}"},
    },
    {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 5}},
    {"type": "message_stop"},
]
GEMINI = {
    "candidates": [
        {
            "content": {
                "parts": [
                    {"text": "hm", "thought": True},
                    {"text": "Hello"},
                    {"functionCall": {"name": "add", "args": {"a": 1}}},
                ]
            },
            "finishReason": "STOP",
        }
    ],
    "usageMetadata": {
        "promptTokenCount": 100,
        "candidatesTokenCount": 5,
        "cachedContentTokenCount": 90,
    },
}
GEMINI_EVENTS = [
    {"candidates": [{"content": {"parts": [{"text": "Hel"}]}}]},
    {"candidates": [{"content": {"parts": [{"text": "lo"},
                                           {"functionCall": {"name": "add", "args": {"a": 1}}}]},
                     "finishReason": "STOP"}],
     "usageMetadata": GEMINI["usageMetadata"]},
]  # fmt: skip
RESPONSES = {
    "status": "completed",
    "output": [
        {"type": "reasoning", "content": None},
        {"type": "message", "content": [{"type": "output_text", "text": "Hello"}]},
        {"type": "function_call", "call_id": "c1", "name": "add", "arguments": '{"a": 1}'},
    ],
    "usage": {
        "input_tokens": 100,
        "output_tokens": 5,
        "input_tokens_details": {"cached_tokens": 90},
    },
}
RESPONSES_EVENTS = [
    {"type": "response.created", "response": {"output": []}},
    {"type": "response.output_text.delta", "delta": "Hel"},
    {"type": "response.output_text.delta", "delta": "lo"},
    {"type": "response.function_call_arguments.delta", "delta": '{"a"', "output_index": 2},
    {"type": "response.function_call_arguments.delta", "delta": ": 1}", "output_index": 2},
    {"type": "response.function_call_arguments.delta", "delta": "{}", "output_index": 3},
    {"type": "response.completed", "response": RESPONSES},
]
PROVIDERS = {
    "anthropic": (AnthropicModel, ANTHROPIC, ANTHROPIC_EVENTS),
    "gemini": (GeminiModel, GEMINI, GEMINI_EVENTS),
    "responses": (ResponsesModel, RESPONSES, RESPONSES_EVENTS),
}


@pytest.mark.parametrize("provider", PROVIDERS)
def test_whole_and_streamed_replies_are_the_same(go, provider):
    kind, whole, chunks = PROVIDERS[provider]

    async def main():
        async with LoopbackServer(
            http_answer(whole), events(*chunks), http_answer(whole)
        ) as server:
            model, pieces = kind("m", api_key="secret", base_url=server.url), []

            async def emit(piece):
                pieces.append(piece)

            responses = [
                await model.complete(REQUEST),
                await model.stream(REQUEST, emit),
                await model.stream(REQUEST, emit),
            ]
            await model.aclose()
            assert "secret" not in repr(model)
            return responses, pieces, server.asked

    (first, second, third), pieces, requests = go(main())
    assert first.text == second.text == third.text == "Hello"
    assert pieces == ["Hel", "lo", "Hello"]
    for response in (first, second, third):
        assert [(call.name, call.arguments) for call in response.tool_calls] == [("add", {"a": 1})]
        usage = response.usage
        assert (usage.input_tokens, usage.output_tokens, usage.cached_tokens, usage.calls) == (
            100,
            5,
            90,
            1,
        )
    assert "secret" not in requests[0].path
    assert "secret" in str(requests[0].headers)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_arguments_of_a_forced_tool_call_are_streamed(go, provider):
    kind, whole, chunks = PROVIDERS[provider]
    forced = msgspec.structs.replace(REQUEST, tool_choice="add")

    async def main():
        async with LoopbackServer(events(*chunks), http_answer(whole)) as server:
            model, results = kind("m", base_url=server.url), []
            for _ in range(2):
                pieces = []

                async def emit(piece, pieces=pieces):
                    pieces.append(piece)

                response = await model.stream(forced, emit)
                results.append((json.loads("".join(pieces)), response.text))
            await model.aclose()
            return results

    assert go(main()) == [({"a": 1}, "Hello")] * 2


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (429, {"error": {"message": "busy"}}, RateLimitedError),
        (529, {"error": {"type": "overloaded_error", "message": "busy"}}, ModelUnavailableError),
        (401, {"error": {"message": "no key"}}, RefusedError),
        (400, {"error": {"message": "prompt is too long: 5 tokens"}}, ContextTooLongError),
        (200, b"<html>", ModelError),
        (200, b'{"content": 3, "candidates": 3, "output": 3}', ModelError),
    ],
)
def test_each_fault_has_its_error(go, provider, status, body, kind):
    async def main():
        async with LoopbackServer(http_answer(body, status=status)) as server:
            model = PROVIDERS[provider][0]("m", base_url=server.url)
            with pytest.raises(kind) as caught:
                await model.complete(REQUEST)
            await model.aclose()
            return type(caught.value)

    assert go(main()) is kind


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_stream_that_ends_early_or_fails_says_so(go, provider):
    kind, _, chunks = PROVIDERS[provider]
    fire = {"message": "on fire"}
    failed = {"type": "error", **(fire if provider == "responses" else {"error": fire})}

    async def main():
        async with LoopbackServer(events(*chunks[:-1]), events(*chunks[:2], failed)) as server:
            model = kind("m", base_url=server.url)

            async def emit(_piece):
                pass

            with pytest.raises(ModelUnavailableError, match="before the reply was complete"):
                await model.stream(REQUEST, emit)
            with pytest.raises(ModelUnavailableError, match="on fire"):
                await model.stream(REQUEST, emit)
            await model.aclose()

    go(main())


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_key_that_the_server_repeats_is_never_shown(go, provider):
    key = "sk-0123456789abcdef"
    kind, whole, _ = PROVIDERS[provider]
    repeated = json.loads(json.dumps(whole).replace("Hello", f"your key is {key}"))
    refused = {"error": {"message": f"Incorrect API key provided: {key}"}}
    failed = {"type": "error", "message": key, "error": {"message": key}}

    async def main():
        answers = (
            http_answer(refused, status=401),
            http_answer(repeated),
            http_answer(key.encode()),
            events(failed),
        )
        async with LoopbackServer(*answers) as server:
            model = kind("m", api_key=key, base_url=server.url)

            async def emit(_piece):
                pass

            with pytest.raises(RefusedError) as first:
                await model.complete(REQUEST)
            answer = await model.complete(REQUEST)
            with pytest.raises(ModelError) as second:
                await model.complete(REQUEST)
            with pytest.raises(ModelError) as third:
                await model.stream(REQUEST, emit)
            await model.aclose()
            return [first.value.message, answer.text, second.value.message, third.value.message]

    refused, answered, unreadable, failed = go(main())
    assert not any(key in text for text in (refused, answered, unreadable, failed))
    assert all("(secret)" in text for text in (refused, answered))
    # of a server that may be anything, nothing of what is no reply is quoted
    assert "in 8 bytes" in unreadable


def sent(go, kind, whole) -> dict:
    async def main():
        async with LoopbackServer(http_answer(whole)) as server:
            model = kind("m", base_url=server.url)
            await model.complete(REQUEST)
            await model.aclose()
            return server.asked[0].json()

    return go(main())


def test_the_request_body_for_anthropic(go):
    assert sent(go, AnthropicModel, ANTHROPIC) == {
        "model": "m",
        "max_tokens": 9,
        "system": "Be brief.",
        "temperature": 0.5,
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "hi"}]},
            {
                "role": "assistant",
                "content": [{"type": "tool_use", "id": "c0", "name": "add", "input": {"a": 0}}],
            },
            {
                "role": "user",
                "content": [{"type": "tool_result", "tool_use_id": "c0", "content": "0"}],
            },
        ],
        "tools": [{"name": "add", "description": "adds", "input_schema": SCHEMA}],
        "tool_choice": {"type": "any"},
    }


def test_the_request_body_for_gemini(go):
    assert sent(go, GeminiModel, GEMINI) == {
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "generationConfig": {"temperature": 0.5, "maxOutputTokens": 9},
        "contents": [
            {"role": "user", "parts": [{"text": "hi"}]},
            {"role": "model", "parts": [{"functionCall": {"name": "add", "args": {"a": 0}}}]},
            {
                "role": "user",
                "parts": [{"functionResponse": {"name": "add", "response": {"result": "0"}}}],
            },
        ],
        "tools": [
            {
                "functionDeclarations": [
                    {"name": "add", "description": "adds", "parametersJsonSchema": SCHEMA}
                ]
            }
        ],
        "toolConfig": {"functionCallingConfig": {"mode": "ANY"}},
    }


def test_the_request_body_for_the_responses_protocol(go):
    assert sent(go, ResponsesModel, RESPONSES) == {
        "model": "m",
        "store": False,
        "temperature": 0.5,
        "max_output_tokens": 9,
        "input": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "hi"},
            {"type": "function_call", "call_id": "c0", "name": "add", "arguments": '{"a":0}'},
            {"type": "function_call_output", "call_id": "c0", "output": "0"},
        ],
        "tools": [
            {
                "type": "function",
                "name": "add",
                "description": "adds",
                "parameters": SCHEMA,
                "strict": False,
            }
        ],
        "tool_choice": "required",
    }


def test_a_blocked_prompt_is_a_refusal(go):
    async def main():
        async with LoopbackServer(
            http_answer({"promptFeedback": {"blockReason": "SAFETY"}})
        ) as server:
            model = GeminiModel("m", base_url=server.url)
            with pytest.raises(RefusedError, match="SAFETY"):
                await model.complete(REQUEST)
            await model.aclose()

    go(main())
