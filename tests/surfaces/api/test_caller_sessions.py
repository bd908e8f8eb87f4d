"""Callers while they stay: their keys end, their operations are counted, and they leave."""

import asyncio
import gc
import json
from pathlib import Path
from typing import Any

import pytest

from dspex.operations.domain import DOMAIN
from dspex.operations.executions.actions import execute_record
from dspex.operations.framework.store import Query
from dspex.operations.programs.stored_programs import find_program
from dspex.operations.tenancy.actions import RevokeApiKey
from dspex.surfaces.api import ServerConfig
from dspex.testing import FakeClock
from tests.surfaces.api.client import Call, Server, Socket, serving
from tests.surfaces.api.graphql.test_subscriptions import follow, opened

EXECUTE = 'mutation { executeProgram(input: {program: "n", inputs: {q: "?"}%s}) { id status } }'
MAKE_KEY = 'mutation { createApiKey(input: {name: "more", scopes: ["admin"]}) { key } }'


async def _ready(server: Server, key: str) -> Socket:
    socket = await opened(server, {"authorization": server.keys[key]})
    assert (await socket.message())["type"] == "connection_ack"
    return socket


async def _rows(server: Server, resource: str = "execution") -> Any:
    return await server.services.operations.list(DOMAIN[resource], Query())


async def test_an_operation_on_an_open_websocket_needs_a_key_that_holds_still(
    tmp_path: Path,
) -> None:
    clock = FakeClock()
    async with serving(tmp_path, clock=clock) as server:
        await server.give_program()
        for name in ("idle", "k"):
            await server.give_key(name, "admin")
        socket = await _ready(server, "k")
        socket.send(id="1", type="subscribe", payload={"query": EXECUTE % ""})
        assert (await socket.message())["payload"]["data"]["executeProgram"][
            "status"
        ] == "COMPLETED"
        await server.perform("revoke_api_key", RevokeApiKey(name="k"))
        # Past the second for which a key is remembered, and before anybody has looked again by
        # itself.
        server.services.keys._cache.clear()
        for number, query in enumerate((EXECUTE % "", MAKE_KEY)):
            socket.send(id=f"after {number}", type="subscribe", payload={"query": query})
        while (event := await socket.event())["type"] == "websocket.send":
            assert "after" not in event["text"]
        assert (event["code"], event["reason"]) == (
            4403,
            "Forbidden: this key is unknown, revoked or expired",
        )
        await socket.task
        assert len(await _rows(server)) == 1
        assert {row.name for row in await _rows(server, "api_key")} == {"idle", "k"}


async def test_an_idle_websocket_and_a_stream_end_with_their_key(tmp_path: Path) -> None:
    clock = FakeClock()
    async with serving(tmp_path, clock=clock) as server:
        await server.give_program()
        await server.give_key("k", "read")
        socket = await _ready(server, "k")
        stream = Call(server, "/graphql/stream", follow(), key="k")
        assert (await stream.part())["status"] == 200
        await server.perform("revoke_api_key", RevokeApiKey(name="k"))
        for _ in range(4):
            await clock.advance(0.5)
        assert (await socket.event())["code"] == 4403
        first, last = [
            line for line in (await stream.part())["body"].decode().split("\n\n") if line
        ]
        data = json.loads(first.removeprefix("event: next\ndata: "))["errors"][0]
        assert data["extensions"] == {
            "type": None,
            "code": "unauthenticated",
            "retryable": False,
        }
        assert last == "event: complete\ndata:"
        await asyncio.gather(socket.task, stream.task)


async def test_a_stream_tells_nothing_under_a_key_that_allows_something_else_now(
    tmp_path: Path,
) -> None:
    clock = FakeClock()
    async with serving(tmp_path, clock=clock) as server:
        await server.give_program()
        await server.give_key("k", "read")
        stream = Call(server, "/graphql/stream", follow(), key="k")
        await stream.part()
        database = server.services.data
        async with database.writing() as connection:
            await connection.exec_driver_sql("UPDATE api_keys SET scopes = '[\"execute\"]'")
        server.services.keys._cache.clear()
        await server.ask("GET", "/healthz")
        operations = server.services.operations
        await execute_record(operations, await find_program(operations, name="n"), {"q": "?"})
        text = (await stream.part())["body"].decode()
        assert "what this key allows has changed" in text
        assert "executionUpdates" not in text
        await stream.task


async def test_operations_on_a_websocket_are_counted_like_requests(tmp_path: Path) -> None:
    async with serving(tmp_path, clock=FakeClock()) as server:
        await server.give_program()
        await server.give_key("k", "execute", requests_per_minute=3)
        socket = await _ready(server, "k")
        for number in range(5):
            socket.send(id=str(number), type="subscribe", payload={"query": EXECUTE % ""})
        update = [await socket.message() for _ in range(5 + 2)]
        refused = [message["payload"][0] for message in update if message["type"] == "error"]
        assert len(refused) == 3
        about = {"type": None, "code": "too_many_requests", "retryable": True, "retryAfter": 20}
        assert refused[0] == {"message": "more than 3 requests a minute", "extensions": about}
        assert len(await _rows(server)) == 2
        await socket.close()


async def test_a_websocket_runs_as_much_at_once_as_its_key_may(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        await server.give_program()
        await server.give_key("k", "execute", concurrency=1)
        gate = _held(server)
        socket = await _ready(server, "k")
        for number in range(3):
            socket.send(id=str(number), type="subscribe", payload={"query": EXECUTE % ""})
        for _ in range(2):
            message = await socket.message()
            assert message["payload"][0]["message"] == "more than 1 request at once"
        assert (
            await server.ask("POST", "/graphql", key="k", body={"query": EXECUTE % ""})
        ).status == 429
        gate.set()
        assert (await socket.message())["payload"]["data"]["executeProgram"][
            "status"
        ] == "COMPLETED"
        await socket.close()


async def test_a_wrong_key_in_a_websocket_is_a_guess(tmp_path: Path) -> None:
    async with serving(tmp_path, clock=FakeClock()) as server:
        for number in range(10):
            socket = await opened(server, {"authorization": f"dspx_{number:032x}_x"})
            assert (await socket.event())["code"] == 4403
            await socket.task
        assert (
            await server.ask("GET", "/v1/programs", key="dspx_" + "1" * 32 + "_x")
        ).status == 429


def _held(server: Server, started: asyncio.Event | None = None) -> asyncio.Event:
    """Make the mock backend wait for the event that is returned.

    `begun` is set when a run waits.
    """
    gate, mock = asyncio.Event(), server.services.backends["mock"]
    answer = mock.execute_program

    async def held(*args: Any) -> Any:
        if started is not None:
            started.set()
        await gate.wait()
        return await answer(*args)

    mock.execute_program = held  # type: ignore[method-assign, assignment]
    return gate


@pytest.mark.parametrize("key", [None, "again"])
@pytest.mark.parametrize("way", ["rest", "graphql", "websocket"])
async def test_an_execution_whose_caller_leaves_is_cancelled_unless_its_key_asks_for_it_again(
    tmp_path: Path, way: str, key: str | None
) -> None:
    async with serving(tmp_path, ServerConfig()) as server:
        await server.give_program()
        started = asyncio.Event()
        gate = _held(server, started)
        query = {"query": EXECUTE % ("" if key is None else f', idempotencyKey: "{key}"')}
        if way == "websocket":
            caller: Call | Socket = (socket := await opened(server))
            socket.send(id="1", type="subscribe", payload=query)
        elif way == "graphql":
            caller = Call(server, "/graphql", query)
        else:
            headers = {} if key is None else {"idempotency_key": key}
            caller = Call(server, "/v1/programs/n/execute", {"inputs": {"q": "?"}}, **headers)
        await started.wait()
        caller.go()
        await caller.gone.wait()
        if key is not None:
            assert [row.status for row in await _rows(server)] == ["running"]
            gate.set()
        await caller.task
        [row] = await _rows(server)
        assert row.status == ("cancelled" if key is None else "completed")


async def test_the_collector_leaves_alone_what_lasts_as_long_as_the_server(tmp_path: Path) -> None:
    before = gc.get_threshold()
    async with serving(tmp_path):
        assert gc.get_freeze_count() > 0
        assert gc.get_threshold()[0] == 5_000
    assert gc.get_freeze_count() == 0
    assert gc.get_threshold() == before
