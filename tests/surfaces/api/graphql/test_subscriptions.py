"""Subscriptions over websocket and server-sent events, on real events of the feed."""

import asyncio
import gc
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

from dspex import Prediction
from dspex.execution.backends import Backends, MockBackend, NativeBackend
from dspex.execution.context import RunContext
from dspex.operations.collections.inputs import AddDocuments, CreateCollection
from dspex.operations.domain import DOMAIN
from dspex.operations.executions.executor import Executor
from dspex.operations.framework.store import Figures, Update
from dspex.operations.programs.program_cache import ProgramCache
from dspex.surfaces.api import ServerConfig
from dspex.surfaces.api.graphql.http import _event
from dspex.surfaces.api.graphql.websocket import ProtocolMessage, _MessageChannel
from tests.surfaces.api.client import Call, Server, Socket, _scope, serving

UPDATES = """subscription($program: ID, $after: ID) {
  executionUpdates(programId: $program, after: $after) {
    cursor payload execution { id status program { name } }
  }
}"""


def follow(**variables: Any) -> dict[str, Any]:
    return {"query": UPDATES, "variables": variables}


async def opened(server: Server, payload: Any = None, **headers: str) -> Socket:
    socket = Socket(server, **headers)
    assert (await socket.event())["type"] == "websocket.accept"
    socket.send(type="connection_init", payload=payload)
    return socket


async def test_half_of_a_surrogate_pair_in_an_answer_ends_no_subscription() -> None:
    messages: list[dict[str, Any]] = []

    async def send(event: Any) -> None:
        messages.append(event)

    answer = {"data": {"text": "\ud83d"}}
    await _MessageChannel(send, send).send(ProtocolMessage("next", "1", answer))
    assert json.loads(messages[0]["text"]) == {"type": "next", "id": "1", "payload": answer}
    assert json.loads(_event(answer).partition(b"data: ")[2]) == answer


async def test_a_subscription_keeps_nothing_of_the_events_that_it_has_shown(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        program = await server.give_program("one")
        await server.give_key("k", "read", "execute")
        socket = await opened(server, {"Authorization": f"Bearer {server.keys['k']}"})
        assert (await socket.message())["type"] == "connection_ack"
        before = await _run(server, "one")
        socket.send(
            id="1",
            type="subscribe",
            payload=follow(program=str(program.id), after=_cursor(before)),
        )
        counts = []
        for _ in range(12):
            await _run(server, "one")
            for _ in range(2):  # it began, and it ended
                assert (await socket.message())["type"] == "next"
            gc.collect()
            counts.append(sum(type(part).__name__ == "FieldDetails" for part in gc.get_objects()))
        assert max(counts[6:]) <= max(counts[:6])


async def test_a_subscription_over_a_websocket_shows_each_execution_of_its_program(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as server:
        item, another = await server.give_program("one"), await server.give_program("other")
        await server.give_key("k", "read", "execute")
        socket = await opened(server, {"Authorization": f"Bearer {server.keys['k']}"})
        assert (await socket.message())["type"] == "connection_ack"
        socket.send(type="ping")
        assert (await socket.message())["type"] == "pong"
        before = await _run(server, "one")
        socket.send(
            id="1", type="subscribe", payload=follow(program=str(item.id), after=_cursor(before))
        )
        await _run(server, "other")
        ran = await _run(server, "one")
        values: dict[str, Any] = {}
        while ran["id"] not in values or values[ran["id"]]["status"] != "COMPLETED":
            message = await socket.message()
            assert (message["id"], message["type"]) == ("1", "next")
            result = message["payload"]["data"]["executionUpdates"]["execution"]
            assert result["program"] == {"name": "one"}
            values[result["id"]] = result
        socket.send(id="1", type="complete")
        socket.send(id="2", type="subscribe", payload={"query": "{ programs { totalCount } }"})
        assert (await socket.message())["payload"] == {"data": {"programs": {"totalCount": 2}}}
        assert await socket.message() == {"type": "complete", "id": "2"}
        await socket.close()
        del another


async def _run(server: Server, name: str) -> Any:
    answer = await server.ask(
        "POST", f"/v1/programs/{name}/execute", key="k", body={"inputs": {"q": "?"}}
    )
    assert answer.status == 200
    return answer.json


def _cursor(row: Any) -> str:
    """A cursor from before the row's events: ids are ordered by time."""
    return str(row["id"])


async def test_server_sent_events_give_the_same_until_the_client_goes(tmp_path: Path) -> None:
    async with serving(tmp_path, ServerConfig()) as server:
        await server.give_program("one")
        first = await _run(server, "one")
        removed, parts = asyncio.Event(), asyncio.Queue[bytes]()
        body = json.dumps(follow(after=_cursor(first))).encode()
        scope = _scope(
            "http",
            "/graphql/stream",
            {"host": "127.0.0.1", "content-type": "application/json"},
            method="POST",
        )
        received = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def receive() -> Any:
            for message in received:
                return message
            await removed.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                assert (b"content-type", b"text/event-stream") in message["headers"]
            elif message["body"]:
                parts.put_nowait(message["body"])

        task = asyncio.ensure_future(server.app(scope, receive, send))
        ran = await _run(server, "one")
        while True:
            event, _, data = (await parts.get()).decode().partition("\n")
            assert event == "event: next"
            result = json.loads(data.removeprefix("data: "))["data"]["executionUpdates"][
                "execution"
            ]
            if result["id"] == ran["id"]:
                break
        removed.set()
        await task


async def test_a_websocket_without_a_key_or_from_another_site_is_closed(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        for payload in (None, {}, {"authorization": "nonsense"}, {"authorization": 7}, []):
            socket = await opened(server, payload)
            event = await socket.event()
            assert (event["type"], event["code"]) == ("websocket.close", 4403)
            await socket.task
        foreign = Socket(server, origin="https://evil.example")
        assert (await foreign.event())["type"] == "websocket.close"
        await foreign.task


async def test_what_is_no_message_closes_a_websocket_with_the_code_of_the_protocol(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path, ServerConfig()) as server:
        wrong: list[tuple[list[dict[str, Any]], int]] = [
            ([{"type": "subscribe", "id": "1", "payload": {"query": "{ __typename }"}}], 4401),
            ([{"type": "connection_init"}, {"type": "connection_init"}], 4429),
            ([{"type": "connection_init"}, {"type": "nonsense"}], 4400),
            (
                [
                    {"type": "connection_init"},
                    {"type": "subscribe", "id": "1", "payload": {"query": 7}},
                ],
                4400,
            ),
            (
                [
                    {"type": "connection_init"},
                    *[{"type": "subscribe", "id": "1", "payload": follow()}] * 2,
                ],
                4409,
            ),
        ]
        for messages, code in wrong:
            socket = Socket(server)
            await socket.event()
            for message in messages:
                socket.send(**message)
            while (event := await socket.event())["type"] == "websocket.send":
                continue
            assert event["code"] == code, messages
            await socket.task


async def test_a_wrong_subscription_is_one_error_and_the_socket_stays(tmp_path: Path) -> None:
    async with serving(tmp_path, ServerConfig()) as server:
        socket = await opened(server)
        await socket.message()
        for payload in (
            follow(program="no id"),
            {"query": "subscription { nothing }"},
            {"query": "{{{"},
        ):
            socket.send(id="1", type="subscribe", payload=payload)
            message = await socket.message()
            assert (message["type"], message["id"]) == ("error", "1")
            assert message["payload"][0]["message"]
        await socket.close()


M = 'mutation { executeProgram(input: {program: "slow", inputs: {q: "?"}}) { status } }'


class Never(MockBackend):
    """A backend that does not answer."""

    async def execute_program(
        self, handle: Any, inputs: Mapping[str, Any], context: RunContext
    ) -> Prediction:
        await asyncio.Event().wait()
        raise AssertionError


async def test_a_mutation_has_its_time_on_every_way_and_is_cancelled_then(tmp_path: Path) -> None:
    async with serving(tmp_path, ServerConfig(timeout_s=0.2)) as server:
        await server.give_program("slow")
        dependencies = server.services.operations.dependencies
        dependencies.services[Executor].program_cache = ProgramCache(
            dependencies.store,
            backends=Backends({"mock": Never(), "native": NativeBackend()}),
            clock=dependencies.clock,
        )
        assert (await server.ask("POST", "/graphql", body={"query": M})).status == 504
        socket = await opened(server)
        await socket.message()
        socket.send(id="1", type="subscribe", payload={"query": M})
        update = await socket.message()
        await socket.close()
        call = Call(server, "/graphql/stream", {"query": M})
        await call.part()
        streamed = json.loads(
            (await call.part())["body"].decode().removeprefix("event: next\ndata: ")
        )
        await call.task
        for errors in (update["payload"], streamed["errors"]):
            assert errors[0]["extensions"]["code"] == "timeout"
        assert (
            await server.services.operations.count(DOMAIN["execution"], {"status": "cancelled"})
            == 3
        )


async def test_a_stream_whose_body_never_comes_ends(tmp_path: Path) -> None:
    async with serving(tmp_path, ServerConfig(timeout_s=0.1)) as server:
        messages: list[Any] = []

        async def receive() -> Any:
            await asyncio.Event().wait()

        async def send(message: Any) -> None:
            messages.append(message)

        headers = {"host": "127.0.0.1", "content-type": "application/json"}
        await server.app(_scope("http", "/graphql/stream", headers, method="POST"), receive, send)
        assert messages[0]["status"] == 504


async def test_a_subscription_goes_on_behind_rows_that_are_gone_and_texts_that_are_no_unicode(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path, ServerConfig()) as server:
        await server.give_program("one")
        removed, odd = await _run(server, "one"), await _run(server, "one")
        figures = server.services.operations.services[Figures]
        assert figures is not None
        await figures.prune(DOMAIN["execution"], {"id": UUID(removed["id"])}, before=None, keep=0)
        change = Update(
            resource=DOMAIN["execution"],
            id=UUID(odd["id"]),
            values={"outputs": {"n": "\ud800"}},
        )
        await server.services.operations.dependencies.store.write(change)
        everything = (
            "subscription($after: ID) { executionUpdates(after: $after) { execution { id "
            "outputs } } }"
        )
        request = {"query": everything, "variables": {"after": str(UUID(int=0))}}
        socket = await opened(server)
        await socket.message()
        socket.send(id="1", type="subscribe", payload=request)
        update = (await socket.message())["payload"]
        await socket.close()
        call = Call(server, "/graphql/stream", request)
        await call.part()
        streamed = json.loads(
            (await call.part())["body"].decode().removeprefix("event: next\ndata: ")
        )
        call.go()
        await call.task
        expected = {
            "executionUpdates": {"execution": {"id": odd["id"], "outputs": {"n": "\ud800"}}}
        }
        assert update == streamed == {"data": expected}


async def test_the_progress_of_an_ingestion_can_be_followed(tmp_path: Path) -> None:
    query = (
        "subscription($after: ID) { ingestionUpdates(after: $after) "
        "{ payload ingestion { id status collection { name } } } }"
    )
    async with serving(tmp_path, ServerConfig()) as server:
        await server.perform("create_collection", CreateCollection(name="c", embedder="none"))
        documents = [{"key": "a", "text": "lamp"}]
        request = AddDocuments(collection="c", documents=documents)
        job = await server.perform("add_documents", request)
        variables = {"after": str(UUID(int=0))}
        socket = await opened(server)
        await socket.message()
        socket.send(id="1", type="subscribe", payload={"query": query, "variables": variables})
        update = (await socket.message())["payload"]["data"]["ingestionUpdates"]
        assert update["payload"]["status"] == "queued"
        assert update["ingestion"]["id"] == str(job.id)
        assert update["ingestion"]["collection"] == {"name": "c"}
        await socket.close()
