"""A connection is bounded before a key is looked at.

What it sends, how slowly, and how many there are.
"""

import asyncio
import resource
import socket
from dataclasses import replace
from ipaddress import ip_network

import pytest

from dspex.surfaces.api.connections import ConnectionLimits, granted_limits
from tests.surfaces.api.connections.wire import PATIENT, SHORT, wired

pytestmark = pytest.mark.bridge
START = b"POST / HTTP/1.1\r\nhost: x\r\n"
CHUNKED = START + b"transfer-encoding: chunked\r\n\r\n"
MOST = 64 * 1024 * 1024
TAKEN = 16 * 1024 * 1024
"""What the buffers of two sockets on loopback may swallow."""
FLOODS = {
    "header lines": (START, b"x-a: b\r\n" * 4096),
    "one header": (START + b"x-a: ", b"b" * 32768),
    "one name": (START, b"b" * 32768),
    "a request line": (b"GET /", b"b" * 32768),
    "trailers": (CHUNKED + b"1\r\nx\r\n0\r\n", b"x-a: b\r\n" * 4096),
    "one trailer": (CHUNKED + b"1\r\nx\r\n0\r\nx-a: ", b"b" * 32768),
    "a chunk extension": (CHUNKED + b"1;", b"b" * 32768),
    "requests behind one another": (b"", b"GET / HTTP/1.1\r\nhost: x\r\n\r\n" * 1000),
}


@pytest.mark.parametrize("name", FLOODS)
async def test_an_endless_head_is_refused_before_it_is_held(name: str) -> None:
    first, more = FLOODS[name]

    async with wired() as wire:
        client = await wire.connect()
        client.writer.write(first)
        assert await client.flood(more, most=MOST) < TAKEN
        assert await client.is_ended()
        assert (await (await wire.connect()).ask())[0] == 200


@pytest.mark.parametrize(
    "data",
    [
        START + b"".join(b"x-%d: a\r\n" % n for n in range(200)) + b"\r\n",
        START + b"x-a: " + b"b" * 40_000 + b"\r\n\r\n",
        b"GET /" + b"b" * 40_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n",
        CHUNKED + b"1\r\nx\r\n0\r\n" + b"".join(b"x-%d: a\r\n" % n for n in range(200)) + b"\r\n",
    ],
    ids=["many headers", "a long header", "a long line", "many trailers"],
)
async def test_a_head_beyond_the_limits_is_a_431_that_says_so(data: bytes) -> None:
    async with wired() as wire:
        status, body = await (await wire.connect()).ask(data)
        assert (status, b"head_too_large" in body) == (431, True)


async def test_what_is_not_http_is_a_400_in_the_form_of_every_refusal(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with wired() as wire:
        status, body = await (await wire.connect()).ask(b"NONSENSE\r\n\r\n")
        assert (status, b'"code": "malformed"' in body) == (400, True)
    assert not caplog.records  # else anybody fills the log


async def test_heads_bodies_and_trailers_within_the_limits_are_taken() -> None:
    async with wired() as wire:
        client = await wire.connect()
        head = START + b"".join(b"x-%d: a\r\n" % n for n in range(80)) + b"x-long: " + b"b" * 20_000
        assert (await client.ask(head + b"\r\ncontent-length: 5\r\n\r\nhello"))[0] == 200
        chunks = b"".join(b"%x;ext=1\r\n" % 50_000 + b"y" * 50_000 + b"\r\n" for _ in range(40))
        status, body = await client.ask(CHUNKED + chunks + b"0\r\nx-sum: 1\r\n\r\n")
        assert (status, b'"length": 2000000' in body) == (200, True)
        whole = START + b"content-length: 100000\r\n\r\n" + b"z" * 100_000
        half = b"GET / HTTP/1.1\r\nhost:"
        assert (await client.ask(whole + half))[0] == 200  # the next one begins in the same packet
        assert (await client.ask(b" x\r\n\r\n"))[0] == 200
        client.writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n" * 20)
        assert [(await client.answer())[0] for _ in range(20)] == [200] * 20


@pytest.mark.parametrize(
    "data",
    [b"", START, START + b"content-length: 9\r\n\r\nhalf", CHUNKED, b"\r\n\r\n"],
    ids=["nothing", "half a head", "half a body", "no chunk", "empty lines"],
)
async def test_who_does_not_send_in_time_is_ended(data: bytes) -> None:
    async with wired(SHORT) as wire:
        client = await wire.connect()
        client.writer.write(data)
        assert await client.is_ended()


async def test_an_idle_connection_is_ended_and_so_is_one_that_trickles_between_requests() -> None:
    async def trickle(writer: asyncio.StreamWriter, finished: asyncio.Event) -> None:
        while not finished.is_set():
            writer.write(b"\r\n")
            try:
                async with asyncio.timeout(0.05):
                    await finished.wait()
            except TimeoutError:
                continue

    async with wired(SHORT) as wire:
        idle, busy, finished = await wire.connect(), await wire.connect(), asyncio.Event()
        assert [(await client.ask())[0] for client in (idle, busy)] == [200, 200]
        async with asyncio.TaskGroup() as group:
            group.create_task(trickle(busy.writer, finished))
            assert await busy.is_ended()
            finished.set()
        assert await idle.is_ended()


async def test_a_body_that_goes_on_after_its_answer_is_ended() -> None:
    async with wired(replace(SHORT, body_s=60)) as wire:
        client = await wire.connect()
        data = b"POST /early HTTP/1.1\r\nhost: x\r\ncontent-length: 100000000000\r\n\r\n"
        assert (await client.ask(data))[0] == 200
        await client.flood(b"x" * 65536, most=1 << 40)


async def test_who_does_not_read_the_answer_is_ended_and_a_slow_reader_gets_all_of_it() -> None:
    async with wired(SHORT) as wire:
        lazy, slow = await wire.connect(limit=1024), await wire.connect(limit=1024)
        for client in (lazy, slow):
            client.writer.write(b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n")
        status, body = await slow.answer()
        assert (status, len(body)) == (200, 30_000_000)
        assert await slow.is_ended()
        while wire.server.server_state.connections:  # that of the one who reads nothing
            client = await wire.connect()
            await client.ask(b"GET / HTTP/1.0\r\n\r\n")
            await client.is_ended()
            client.writer.close()  # a slow machine makes more of them than a process may open


async def test_connections_that_only_wait_make_room_and_those_that_work_do_not() -> None:
    limits = replace(PATIENT, total=20, per_address=20)

    async with wired(limits) as wire:
        working = [await wire.connect() for _ in range(10)]
        for client in working:
            client.writer.write(START + b"content-length: 5\r\n\r\nhell")
        idle = [await wire.connect() for _ in range(40)]
        assert (await (await wire.connect()).ask())[0] == 200
        assert await idle[0].is_ended()
        for client in working:
            assert (await client.ask(b"o"))[0] == 200


async def test_beyond_the_limit_of_connections_that_work_a_new_one_is_told() -> None:
    async with wired(replace(PATIENT, total=4, per_address=4)) as wire:
        for _ in range(4):
            client = await wire.connect()
            client.writer.write(START + b"expect: 100-continue\r\ncontent-length: 5\r\n\r\n")
            await client.reader.readuntil(b"\r\n\r\n")
        status, body = await (await wire.connect()).answer()
        assert (status, b"too_many_connections" in body) == (503, True)


async def test_an_address_has_its_own_limit_unless_it_is_that_of_a_proxy() -> None:
    async def statuses(limits: ConnectionLimits) -> list[int]:
        async with wired(limits) as wire:
            for _ in range(2):
                client = await wire.connect()
                client.writer.write(START + b"expect: 100-continue\r\ncontent-length: 5\r\n\r\n")
                await client.reader.readuntil(b"\r\n\r\n")
            elsewhere = await wire.connect(local_addr=("127.0.0.2", 0))
            mine = await wire.connect()
            mine.writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            return [(await elsewhere.ask())[0], (await mine.answer())[0]]

    limits = replace(PATIENT, per_address=2)
    assert await statuses(limits) == [200, 503]
    assert await statuses(replace(limits, proxies=(ip_network("127.0.0.1"),))) == [200, 200]


async def test_a_forwarded_address_is_believed_of_a_configured_proxy_only() -> None:
    data = b"GET / HTTP/1.1\r\nhost: x\r\nx-forwarded-for: 10.9.8.7\r\n\r\n"

    async with wired() as wire:
        assert b'"client": "127.0.0.1"' in (await (await wire.connect()).ask(data))[1]
    async with wired(replace(PATIENT, proxies=(ip_network("127.0.0.0/8"),))) as wire:
        assert b'"client": "10.9.8.7"' in (await (await wire.connect()).ask(data))[1]


UPGRADE = (
    b"GET / HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: "
    b"websocket\r\nsec-websocket-version: 13\r\n"
    b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


async def test_a_websocket_is_a_connection_and_its_pings_are_not_answered_into_a_full_buffer() -> (
    None
):
    ping = b"\x89\xfd" + b"\0" * 4 + b"p" * 125

    async with wired(replace(SHORT, total=2, per_address=2)) as wire:
        client = await wire.connect(limit=1024)
        client.writer.write(UPGRADE)
        await client.reader.readuntil(b"\r\n\r\n")
        [connection] = wire.server.server_state.connections
        assert (await (await wire.connect()).ask())[0] == 200
        assert await client.flood(ping * 512, most=MOST) < MOST
        assert connection.transport.get_write_buffer_size() < 2 * 1024 * 1024


def test_the_descriptor_limit_is_raised_as_far_as_the_system_allows() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
        assert granted_limits(total=400).total == 400
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 912
        fitting = granted_limits(total=10_000_000, per_address=10_000_000)
        assert fitting.per_address < fitting.total < resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_listener_is_still_answered_beside_a_thousand_idle_connections() -> None:
    async with wired(replace(PATIENT, total=200, per_address=100)) as wire:
        crowd = []
        for _ in range(300):
            crowd.append(socket.create_connection(("127.0.0.1", wire.port)))
        try:
            for _ in range(20):
                client = await wire.connect(local_addr=("127.0.0.3", 0))
                assert (await client.ask())[0] == 200
            assert len(wire.server.server_state.connections) <= 200
        finally:
            for each in crowd:
                each.close()
