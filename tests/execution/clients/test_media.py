"""Pictures, recordings and files in the body of every protocol, and refusals before sending.

The shapes are those of the public references: OpenAI "Create chat completion" and "File inputs",
OpenAI "Responses", Anthropic "Messages" (vision, PDF support), Gemini "generateContent".
"""

import base64
import itertools
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex.errors import BudgetError, MediaError
from dspex.execution.clients import Budget, LanguageModel, OpenAIModel, Request, ask_within
from dspex.execution.clients.anthropic import AnthropicModel
from dspex.execution.clients.bounds import PromptBounds
from dspex.execution.clients.caching import Caching
from dspex.execution.clients.cassette import Recording
from dspex.execution.clients.gemini import GeminiModel
from dspex.execution.clients.identity import ModelIdentity
from dspex.execution.clients.local import LocalConfig, LocalModel
from dspex.execution.clients.media_tokens import media_tokens
from dspex.execution.clients.modalities import MODALITIES, modalities_of
from dspex.execution.clients.picture_size import picture_size
from dspex.execution.clients.request_keys import request_key
from dspex.execution.clients.responses import ResponsesModel
from dspex.language.records import Message
from dspex.language.records.message import (
    AudioPart,
    FilePart,
    ImagePart,
    MediaPart,
    Part,
    TextPart,
    join_content,
)
from dspex.testing import LoopbackServer, ScriptedModel, http_answer
from tests.support.pictures import gif, jpeg, pdf, png, wav, webp

PNG, WAV, PDF = png(), wav(), pdf()
PICTURE = ImagePart(media_type="image/png", data=PNG)
LINK = ImagePart(media_type="image/jpeg", url="https://example.org/a.jpg", detail="low")
RECORDING = AudioPart(media_type="audio/wav", data=WAV)
DOCUMENT = FilePart(media_type="application/pdf", data=PDF, name="a.pdf")
DOCUMENT_LINK = FilePart(media_type="application/pdf", url="https://example.org/a.pdf")


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def uri(media_type: str, data: bytes) -> str:
    return f"data:{media_type};base64,{b64(data)}"


SHAPES: dict[Any, dict[Any, Any]] = {
    OpenAIModel: {
        "reply": {"choices": [{"message": {"content": "ok"}}]},
        "turn": lambda body: body["messages"][1],
        "content": "content",
        "text": {"type": "text", "text": "Look:"},
        PICTURE: {"type": "image_url", "image_url": {"url": uri("image/png", PNG)}},
        LINK: {
            "type": "image_url",
            "image_url": {"url": "https://example.org/a.jpg", "detail": "low"},
        },
        RECORDING: {"type": "input_audio", "input_audio": {"data": b64(WAV), "format": "wav"}},
        DOCUMENT: {
            "type": "file",
            "file": {"filename": "a.pdf", "file_data": uri("application/pdf", PDF)},
        },
        DOCUMENT_LINK: None,
    },
    ResponsesModel: {
        "reply": {"output": [{"type": "message", "content": [{"type": "output_text"}]}]},
        "turn": lambda body: body["input"][1],
        "content": "content",
        "text": {"type": "input_text", "text": "Look:"},
        PICTURE: {
            "type": "input_image",
            "image_url": uri("image/png", PNG),
            "detail": "auto",
        },
        LINK: {"type": "input_image", "image_url": "https://example.org/a.jpg", "detail": "low"},
        RECORDING: None,
        DOCUMENT: {
            "type": "input_file",
            "filename": "a.pdf",
            "file_data": uri("application/pdf", PDF),
        },
        DOCUMENT_LINK: {"type": "input_file", "file_url": "https://example.org/a.pdf"},
    },
    AnthropicModel: {
        "reply": {"content": [{"type": "text", "text": "ok"}]},
        "turn": lambda body: body["messages"][0],
        "content": "content",
        "text": {"type": "text", "text": "Look:"},
        PICTURE: {
            "type": "image",
            "source": {"type": "base64", "media_type": "image/png", "data": b64(PNG)},
        },
        LINK: {"type": "image", "source": {"type": "url", "url": "https://example.org/a.jpg"}},
        RECORDING: None,
        DOCUMENT: {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": b64(PDF)},
            "title": "a.pdf",
        },
        DOCUMENT_LINK: {
            "type": "document",
            "source": {"type": "url", "url": "https://example.org/a.pdf"},
        },
    },
    GeminiModel: {
        "reply": {"candidates": [{"content": {"parts": [{"text": "ok"}]}}]},
        "turn": lambda body: body["contents"][0],
        "content": "parts",
        "text": {"text": "Look:"},
        PICTURE: {"inlineData": {"mimeType": "image/png", "data": b64(PNG)}},
        LINK: {"fileData": {"mimeType": "image/jpeg", "fileUri": "https://example.org/a.jpg"}},
        RECORDING: {"inlineData": {"mimeType": "audio/wav", "data": b64(WAV)}},
        DOCUMENT: {"inlineData": {"mimeType": "application/pdf", "data": b64(PDF)}},
        DOCUMENT_LINK: {
            "fileData": {"mimeType": "application/pdf", "fileUri": "https://example.org/a.pdf"}
        },
    },
}
PARTS: tuple[MediaPart, ...] = (PICTURE, LINK, RECORDING, DOCUMENT, DOCUMENT_LINK)


def request_of(*parts: Part) -> Request:
    content = (TextPart("Look:"), *parts)
    return Request(messages=(Message("system", "Be brief."), Message("user", content)))


@pytest.mark.bridge
@pytest.mark.parametrize("part", PARTS, ids=lambda part: f"{type(part).__name__}-{part.url[-5:]}")
@pytest.mark.parametrize("client", SHAPES)
async def test_every_client_sends_the_parts_of_its_protocol(client, part):
    shapes = SHAPES[client]
    async with LoopbackServer(http_answer(shapes["reply"])) as server:
        model = client("m", base_url=server.url, media=MODALITIES)
        if shapes[part] is None:
            with pytest.raises(MediaError, match="nothing was sent"):
                await model.complete(request_of(part))
            assert server.asked == []
            return
        await model.complete(request_of(part))
        await model.aclose()
    turn = shapes["turn"](server.asked[0].json())
    assert turn["role"] == "user"
    assert turn[shapes["content"]] == [shapes["text"], shapes[part]]


@pytest.mark.bridge
@pytest.mark.parametrize("client", SHAPES)
async def test_a_client_whose_model_takes_text_only_refuses_before_sending(client):
    async with LoopbackServer(http_answer(SHAPES[client]["reply"])) as server:
        model = client("m", base_url=server.url)
        assert not model.capabilities & set(MODALITIES)
        for part in PARTS:
            with pytest.raises(MediaError, match="media_models"):
                await model.complete(request_of(part))
        await model.aclose()
    assert server.asked == []


@pytest.mark.bridge
async def test_a_text_file_is_a_text_document_for_anthropic():
    async with LoopbackServer(http_answer(SHAPES[AnthropicModel]["reply"])) as server:
        model = AnthropicModel("claude-sonnet-4-5", base_url=server.url)
        await model.complete(request_of(FilePart(media_type="text/csv", data=b"a,b\n1,2")))
        await model.aclose()
    body: Any = server.asked[0].json()
    source = {"type": "text", "media_type": "text/plain", "data": "a,b\n1,2"}
    assert body["messages"][0]["content"][1] == {"type": "document", "source": source}


async def test_only_messages_of_the_user_hold_media():
    model = OpenAIModel("gpt-4o", base_url="http://127.0.0.1:9/v1")
    with pytest.raises(MediaError, match="user messages"):
        await model.complete(Request(messages=(Message("assistant", (PICTURE,)),)))


async def test_openai_takes_wav_and_mp3_only():
    model = OpenAIModel("gpt-audio", base_url="http://127.0.0.1:9/v1")
    with pytest.raises(MediaError, match=r"audio/flac.*WAV or MP3"):
        await model.complete(request_of(AudioPart(media_type="audio/flac", data=b"fLaC")))


def test_a_local_model_sees_pictures_only_with_a_projector(tmp_path):
    assert "vision" not in LocalModel(tmp_path / "m.gguf").capabilities
    config = LocalConfig(projector=tmp_path / "mmproj.gguf")
    model = LocalModel(tmp_path / "m.gguf", config=config)
    assert "vision" in model.capabilities
    turn = model._body(request_of(PICTURE))["messages"][1]  # no such model here
    assert turn["content"][1] == SHAPES[OpenAIModel][PICTURE]


async def test_a_local_model_without_one_refuses_before_it_is_loaded(tmp_path):
    with pytest.raises(MediaError):
        await LocalModel(tmp_path / "missing.gguf").complete(request_of(PICTURE))


@pytest.mark.parametrize(
    ("name", "takes"),
    [
        ("gpt-4o-mini", "vision documents"),
        ("gpt-4o-audio-preview", "audio"),
        ("gpt-5.2", "vision documents"),
        ("o1-mini", ""),
        ("o3", "vision documents"),
        ("gpt-3.5-turbo", ""),
        ("claude-sonnet-4-5", "vision documents"),
        ("anthropic/claude-3-haiku", "vision documents"),
        ("claude-2.1", ""),
        ("gemini-2.5-flash", "vision audio documents"),
        ("gemini-embedding-001", ""),
        ("llava:13b", "vision"),
        ("Qwen/Qwen2.5-VL-7B-Instruct", "vision"),
        ("gemma3:4b", "vision"),
        ("gemma3-270m", ""),
        ("meta-llama/Llama-3.3-70B", ""),
        ("deepseek-chat", ""),
    ],
)
def test_what_a_model_takes_follows_from_its_name(name, takes):
    assert modalities_of(name) == set(takes.split())
    assert modalities_of(name, ["vision"]) == {"vision"}


TEXT = Request(messages=(Message("system", "s"), Message("user", "u")), temperature=0.5)


def test_the_keys_of_text_requests_are_those_of_earlier_versions():
    model = ModelIdentity(provider="openai", name="gpt-4o-mini")
    key = "bf30170bde81b7646c23dff1a1c3bc0b188d20590cb3463b418075189ebb89ec"
    assert request_key(model, TEXT) == key


def test_the_key_of_a_picture_depends_on_its_bytes():
    model = ModelIdentity(provider="openai", name="gpt-4o-mini")
    requests = [
        request_of(ImagePart(media_type="image/png", data=data)) for data in (PNG, png(shade=1))
    ]
    assert len({request_key(model, request) for request in (*requests, TEXT)}) == 3
    assert request_key(model, requests[0]) == request_key(model, request_of(PICTURE))


async def test_caches_and_recordings_answer_pictures_and_hold_no_bytes(tmp_path: Path):
    large = ImagePart(media_type="image/png", data=png(64, 64) + bytes(100_000))
    path = tmp_path / "replies.jsonl"
    model = ScriptedModel("a", "b", capabilities=MODALITIES)
    recording = Recording(model, path, mode="record")
    await recording.complete(request_of(large))
    assert path.stat().st_size < 2000
    line = json.loads(path.read_text())
    content = line["request"]["messages"][1]["content"]
    assert content[0] == {"type": "text", "text": "Look:"}
    assert (content[1]["size"], len(content[1]["sha256"])) == (len(large.data), 64)
    replay = Recording(ScriptedModel("never", name="scripted"), path, mode="replay")
    assert (await replay.complete(request_of(large))).text == "a"
    cache = Caching(ScriptedModel("x", "y", capabilities=MODALITIES), tmp_path / "cache.sqlite")
    assert [(await cache.complete(request_of(large))).text for _ in range(2)] == ["x", "x"]
    assert (await cache.complete(request_of(PICTURE))).text == "y"
    await cache.aclose()
    assert sum(file.stat().st_size for file in tmp_path.glob("cache.sqlite*")) < 100_000


@pytest.mark.parametrize("make", [png, jpeg, gif, webp])
@given(width=st.integers(1, 400), height=st.integers(1, 400))
def test_the_size_of_a_picture_is_read_from_its_header(make, width, height):
    assert picture_size(make(width, height)) == (width, height)
    if make is webp:
        for kind in ("VP8L", "VP8 "):
            assert picture_size(webp(width, height, kind=kind)) == (width, height)


@given(st.binary(max_size=64), st.sampled_from([b"", PNG[:16], b"\xff\xd8\xff", b"RIFF0000WEBP"]))
def test_a_damaged_header_has_no_size_and_raises_nothing(data, start):
    size = picture_size(start + data)
    assert size is None or min(size) > 0


@pytest.mark.parametrize(
    ("model", "size", "tokens"),
    [
        ("openai/gpt-4o", (1024, 1024), 765),  # the examples of OpenAI's guide
        ("openai/gpt-4o", (2048, 4096), 1105),
        ("openai/gpt-4.1-mini", (1024, 1024), 1659),
        ("openai/gpt-4o-mini", (512, 512), 8500),
        ("anthropic/claude-sonnet-4-5", (1000, 1000), 1334),  # the examples of Anthropic's guide
        ("anthropic/claude-sonnet-4-5", (200, 200), 54),
        ("anthropic/claude-sonnet-4-5", (8000, 8000), 1600),
        ("gemini/gemini-2.5-flash", (384, 384), 258),
        ("gemini/gemini-2.5-flash", (960, 540), 1548),  # the example of Google's guide
        ("http://127.0.0.1:1/v1#llava", (280, 280), 100),
    ],
)
def test_pictures_count_by_the_rule_of_the_provider(model, size, tokens):
    assert media_tokens(model, ImagePart(media_type="image/png", data=png(*size))) == tokens


def test_recordings_and_files_count_by_length_and_pages():
    recording = AudioPart(media_type="audio/wav", data=wav(10.0))
    assert media_tokens("gemini/gemini-2.5-flash", recording) == 11 * 32  # with its header
    files = [FilePart(media_type="application/pdf", data=pdf(pages)) for pages in (1, 3)]
    tokens = [media_tokens("anthropic/claude-sonnet-4-5", file) for file in files]
    assert tokens[1] == 3 * tokens[0]
    assert media_tokens("m", FilePart(media_type="text/plain", data=b"x" * 50)) == 50


def test_a_bound_on_a_prompt_counts_its_pictures():
    bounds = PromptBounds()
    text, picture = (
        bounds.of("openai/gpt-4o", request_of(*parts))
        for parts in ((), (ImagePart(media_type="image/png", data=png(1024, 1024)),))
    )
    assert 765 <= picture - text < 765 + 64


async def test_a_budget_reserves_the_tokens_of_pictures():
    picture = ImagePart(media_type="image/png", data=png(1024, 1024))
    model: LanguageModel = ScriptedModel("a", name="openai/gpt-4o", capabilities=["vision"])
    for tokens, fits in ((700, False), (1400, True)):
        request = msgspec.structs.replace(request_of(picture), max_tokens=10)
        if fits:
            await ask_within(Budget(tokens=tokens), model, request)
        else:
            with pytest.raises(BudgetError):
                await ask_within(Budget(tokens=tokens), model, request)


async def test_a_refusal_costs_nothing():
    budget = Budget(calls=1)
    model = OpenAIModel("m", base_url="http://127.0.0.1:9/v1")
    with pytest.raises(MediaError):
        await ask_within(budget, model, request_of(PICTURE))
    assert budget.spent.calls == 0


TEXTS = st.text(max_size=20)
MEDIA = st.one_of(
    st.builds(
        ImagePart,
        media_type=st.just("image/png"),
        data=st.binary(min_size=1, max_size=50),
        detail=st.sampled_from([None, "low"]),
    ),
    st.builds(AudioPart, media_type=st.just("audio/wav"), data=st.binary(min_size=1, max_size=50)),
    st.builds(FilePart, url=st.just("https://example.org/x"), name=st.none() | TEXTS),
)
CONTENTS = TEXTS | st.lists(st.builds(TextPart, TEXTS) | MEDIA, max_size=5).map(tuple)


@given(CONTENTS)
def test_messages_survive_their_encodings(content):
    message = Message("user", content)
    assert msgspec.json.decode(msgspec.json.encode(message), type=Message) == message
    assert msgspec.convert(msgspec.to_builtins(message), Message) == message
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(message), type=Message) == message


@given(st.lists(CONTENTS, max_size=5))
def test_joined_content_keeps_text_and_media_in_order(contents):
    joined = join_content(*contents)
    texts = [Message("user", content).text for content in contents]
    assert Message("user", joined).text == "".join(texts)
    assert isinstance(joined, str) or not any(
        isinstance(left, TextPart) and isinstance(right, TextPart)
        for left, right in itertools.pairwise(joined)
    )
