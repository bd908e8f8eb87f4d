"""Responses in a real Redis: known to all, asked for once, and never needed."""

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import dspex
from dspex.clock import SystemClock
from dspex.errors import ConfigurationError, ModelError, ModelUnavailableError
from dspex.execution.clients import Request, Response
from dspex.execution.clients.redis_responses import RedisResponses
from dspex.language.records import Message
from dspex.models import Caching
from dspex.session import ModelResolver
from dspex.settings import Secret, Settings, read_settings
from dspex.surfaces.cli.doctor import EXTRAS
from dspex.testing import ScriptedModel
from dspex.testing.redis import RedisServer, find_redis
from tests.support.waiting import eventually

pytest.importorskip("redis", reason="pip install 'dspex[redis]'")
pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(
        find_redis() is None,
        reason="no redis-server and no valkey-server: apt-get install redis-server",
    ),
]


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


def asking(text: str) -> Request:
    return Request(messages=(Message(role="user", content=text),))


class Counted(ScriptedModel):
    """Counts what it is asked; answers while `gate` is open."""

    def __init__(self, *replies: str) -> None:
        super().__init__(*(replies or ("yes",)))
        self.gate = asyncio.Event()
        self.gate.set()
        self.open = 0

    async def complete(self, request: Request) -> Response:
        self.open += 1
        try:
            await self.gate.wait()
            return await super().complete(request)
        finally:
            self.open -= 1


class Failing(ScriptedModel):
    """Fails once it is allowed to."""

    def __init__(self) -> None:
        super().__init__("never")
        self.gate = asyncio.Event()

    async def complete(self, request: Request) -> Response:
        self.requests.append(request)
        await self.gate.wait()
        raise ModelUnavailableError("away")


def on(redis: RedisServer, model: ScriptedModel, **options: Any) -> Caching:
    """A cached model as another process has it: with its own memory and connections."""
    return Caching(model, shared=RedisResponses(redis.url, timeout=5.0, **options))


async def test_what_one_process_has_asked_others_know(redis: RedisServer) -> None:
    first, second = Counted("one"), Counted("two")
    first_cache, second_cache = on(redis, first), on(redis, second)
    answer = await first_cache.complete(asking("q"))
    again = await second_cache.complete(asking("q"))
    assert (answer.text, again.text) == ("one", "one")
    assert again.usage.calls == 0
    assert (len(first.requests), len(second.requests)) == (1, 0)
    assert (second_cache.hits, second_cache.misses) == (1, 0)
    assert (await second_cache.complete(asking("else"))).text == "two"
    pieces = []

    async def emit(chunk: Any) -> None:
        pieces.append(chunk)

    third = on(redis, Counted("three"))
    assert (await third.stream(asking("q"), emit)).text == "one"
    assert len(pieces) == 1
    await asyncio.gather(first_cache.aclose(), second_cache.aclose(), third.aclose())


async def test_equal_requests_at_the_same_time_are_sent_once(redis: RedisServer) -> None:
    models = [Counted(f"{number}") for number in range(3)]
    caches = [on(redis, model) for model in models]
    for model in models:
        model.gate.clear()
    calls = [
        asyncio.create_task(cache.complete(asking("q"))) for cache in caches for _ in range(20)
    ]
    await eventually(lambda: sum(model.open for model in models))
    for model in models:
        model.gate.set()
    texts = {(await call).text for call in calls}
    assert len(texts) == 1
    assert sum(len(model.requests) for model in models) == 1
    assert sum(cache.misses for cache in caches) == 1
    assert sum(cache.hits for cache in caches) == 59
    assert redis.command("KEYS", "dspex:turns:*") == []


async def test_after_a_failure_the_next_one_asks(redis: RedisServer) -> None:
    failing, model = Failing(), Counted("yes")
    first_cache, second_cache = on(redis, failing), on(redis, model)
    first = asyncio.create_task(first_cache.complete(asking("q")))
    await eventually(lambda: failing.requests)
    second = asyncio.create_task(second_cache.complete(asking("q")))
    await eventually(lambda: second_cache.misses)
    assert model.requests == []
    failing.gate.set()
    with pytest.raises(ModelError):
        await first
    assert (await second).text == "yes"


async def test_a_cancelled_request_leaves_its_turn_to_others(redis: RedisServer) -> None:
    slow, model = Counted("slow"), Counted("yes")
    slow.gate.clear()
    first_cache, second_cache = on(redis, slow), on(redis, model)
    first = asyncio.create_task(first_cache.complete(asking("q")))
    await eventually(lambda: slow.open)
    second = asyncio.create_task(second_cache.complete(asking("q")))
    first.cancel()
    assert (await second).text == "yes"


async def test_the_turn_of_a_process_that_died_ends_by_itself(redis: RedisServer) -> None:
    """Its turn is in Redis, and nobody renews it."""
    model = Counted("yes")
    cache = on(redis, model, turn=0.3)
    shared = RedisResponses(redis.url, timeout=5.0, turn=0.3)
    async with shared.turn("other"):
        pass
    from dspex.execution.clients.request_keys import request_key

    key = f"dspex:turns:1:{request_key(cache.identity, asking('q'))}"
    redis.command("SET", key, "of a dead process", "PX", "300")
    assert (await cache.complete(asking("q"))).text == "yes"
    assert redis.command("EXISTS", key) == 0


async def test_a_long_request_keeps_its_turn(redis: RedisServer) -> None:
    slow, model = Counted("slow"), Counted("yes")
    slow.gate.clear()
    first_cache, second_cache = on(redis, slow, turn=0.3), on(redis, model, turn=0.3)
    first = asyncio.create_task(first_cache.complete(asking("q")))
    await eventually(lambda: slow.open)
    second = asyncio.create_task(second_cache.complete(asking("q")))
    await SystemClock().sleep(0.9)  # three times as long as a turn without renewal
    assert model.requests == []
    slow.gate.set()
    assert {(await first).text, (await second).text} == {"slow"}


async def test_a_turn_that_others_have_by_now_is_not_deleted(redis: RedisServer) -> None:
    shared = RedisResponses(redis.url, timeout=5.0)
    async with shared.turn("k") as response:
        assert response is None
        redis.command("SET", "dspex:turns:1:k", "another")
    assert redis.command("GET", "dspex:turns:1:k") == b"another"


@pytest.mark.parametrize("fault", ["kill", "suspend"])
async def test_without_redis_models_are_asked_at_once_and_with_it_again_known(
    redis: RedisServer, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    model = Counted("yes")
    cache = Caching(model, shared=RedisResponses(redis.url, timeout=0.3))
    await cache.complete(asking("before"))
    getattr(redis, fault)()
    with caplog.at_level(logging.WARNING, "dspex.cache"):
        answers = await asyncio.gather(*(cache.complete(asking(f"q{n}")) for n in range(100)))
    assert {answer.text for answer in answers} == {"yes"}
    assert len(model.requests) == 101
    warnings = [record for record in caplog.records if "cannot be used" in record.message]
    assert len(warnings) == 1
    if fault == "kill":
        redis.start()
    else:
        redis.resume()

    async def is_stored() -> bool:
        before = len(model.requests)
        await Caching(model, shared=RedisResponses(redis.url, timeout=5.0)).complete(
            asking("after")
        )
        return len(model.requests) == before

    await eventually(is_stored)

    async def is_used() -> bool:
        before = len(model.requests)
        cache._cache._memory.clear()
        await cache.complete(asking("after"))
        return len(model.requests) == before

    await eventually(is_used)


async def test_a_value_of_another_form_counts_as_missing(redis: RedisServer) -> None:
    cache = on(redis, Counted("yes"))
    from dspex.execution.clients.request_keys import request_key

    key = f"dspex:responses:1:{request_key(cache.identity, asking('q'))}"
    for value in (b"no JSON", b'{"text": 7}', b"\xff\xfe"):
        redis.command("SET", key, value)
        cache._cache._memory.clear()
        assert (await cache.complete(asking("q"))).text == "yes"
        redis.command("DEL", key)


async def test_responses_are_forgotten_after_a_while(redis: RedisServer) -> None:
    cache = on(redis, Counted("yes"), keep=100.0)
    await cache.complete(asking("q"))
    (key,) = redis.command("KEYS", "dspex:responses:*")
    assert 90_000 < redis.command("PTTL", key) <= 100_000
    assert b"q" not in redis.command("GET", key).replace(b"seq", b"")


async def test_a_wrong_password_is_shown_nowhere_and_stops_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with RedisServer(password="right") as server:
        wrong = server.url.replace(":right@", ":verysecret@")
        shared = RedisResponses(wrong, timeout=5.0)
        with caplog.at_level(logging.WARNING, "dspex.cache"):
            cached = Caching(Counted("yes"), shared=shared)
            assert (await cached.complete(asking("q"))).text == "yes"
        assert "verysecret" not in caplog.text
        assert "verysecret" not in shared.address
        with pytest.raises(ConfigurationError, match="cannot be used") as caught:
            await shared.ping()
        assert "verysecret" not in str(caught.value)
        await RedisResponses(server.url, timeout=5.0).ping()


@pytest.mark.parametrize(
    "url",
    [
        "http://user:verysecret@host",
        "redis://:very#secret@host:6379/0",
        "redis://:very/secret@host:6379/0",
        "redis://:very[secret@host:6379/0",
        "redis://:verysecret@host:verysecret/0",
        "redis://:verysecret@host/verysecret",
        "redis://host/0?verysecret=1",
        "redis://:verysecret@/0",
        "unix://:very#secret@/run/redis.sock",
        "unix://",
    ],
)
def test_an_address_that_clients_misread_is_refused_and_not_quoted(
    url: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match="the address of Redis must be") as caught:
        RedisResponses(url)
    assert "secret" not in str(caught.value)
    with pytest.raises(ConfigurationError, match="DSPEX_REDIS_URL") as caught:
        read_settings({"DSPEX_REDIS_URL": url}, folder=tmp_path)
    assert "secret" not in str(caught.value)


async def test_special_characters_of_a_password_are_encoded() -> None:
    with RedisServer(password="a#b/c@d[e") as server:
        assert ":a%23b%2Fc%40d%5Be@" in server.url
        await RedisResponses(server.url, timeout=5.0).ping()


async def test_no_later_call_waits_for_a_server_that_does_not_answer(redis: RedisServer) -> None:
    cache = Caching(Counted("yes"), shared=RedisResponses(redis.url, timeout=1.0))
    redis.suspend()
    await cache.complete(asking("first"))
    clock = SystemClock()
    started = clock.monotonic_ns()
    for number in range(30):
        await cache.complete(asking(f"later {number}"))
        await clock.sleep(0.05)  # a second and a half in all, in which it is tried again
    assert clock.monotonic_ns() - started < 4e9
    redis.resume()


async def test_a_named_model_is_cached_in_the_redis_of_the_settings(
    redis: RedisServer, tmp_path: Path
) -> None:
    settings = Settings(
        models={"main": {"model": "http://127.0.0.1:9/v1#m", "cache": "redis"}},
        redis_url=Secret(redis.url),
        state_dir=tmp_path,
    )
    model: Any = ModelResolver(settings)("main")
    assert isinstance(model, Caching)
    with pytest.raises(ConfigurationError, match="DSPEX_REDIS_URL"):
        ModelResolver(Settings(models=settings.models, state_dir=tmp_path))("main")
    from_environment = read_settings({"DSPEX_REDIS_URL": redis.url}, folder=tmp_path)
    assert from_environment.redis_url is not None
    assert redis.url not in repr(from_environment)
    assert EXTRAS["redis"] == ("redis",)


def test_a_file_and_a_shared_store_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="not in both"):
        Caching(ScriptedModel("x"), tmp_path / "x.db", shared=RedisResponses("redis://localhost"))


async def test_a_program_on_two_servers_asks_once(redis: RedisServer) -> None:
    reply = "[[ ## answer ## ]]\nParis\n\n[[ ## completed ## ]]"
    models = [Counted(reply), Counted(reply)]
    program = dspex.Predict("question -> answer")
    for model in models:
        with dspex.context(model=on(redis, model)):
            assert (await program.acall(question="capital of France?")).answer == "Paris"
    assert [len(model.requests) for model in models] == [1, 0]
