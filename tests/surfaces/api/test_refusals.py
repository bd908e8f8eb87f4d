"""What is refused, by both surfaces, so that a caller knows what to do."""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from dspex.errors import StorageError
from dspex.operations.executions.actions import execute_record
from dspex.operations.tenancy.actions import ArchiveWorkspace
from dspex.surfaces.api import ServerConfig
from dspex.surfaces.api.addresses import host_name
from tests.surfaces.api.client import Server, Socket, serving
from tests.surfaces.api.graphql.test_subscriptions import follow, opened


async def _refused(server: Server, action: str, body: dict[str, Any]) -> Any:
    answer = await server.ask("POST", f"/v1/actions/{action}", body=body)
    assert answer.status in {409, 422}, answer.body
    return answer.json["error"]


@pytest.mark.parametrize("name", ["a/b", "", " ", "n" * 201, " n", "n\n", "a\x00b", "..", "\u200b"])
async def test_a_program_has_a_name_by_which_it_can_be_called(tmp_path: Path, name: str) -> None:
    async with serving(tmp_path, ServerConfig()) as server:
        error = await _refused(server, "create_program", {"name": name, "signature": "q -> a"})
        assert error["type"] == "InvalidError"
        # U+0000 is refused in any text
        assert [field["path"] for field in error["fields"]] in (["name"], [])
        await server.give_program("größer als 50%")
        path = "/v1/programs/größer als 50%/execute"
        assert (await server.ask("POST", path, body={"inputs": {"q": "?"}})).status == 200


async def test_an_unknown_field_of_an_execution_names_the_one_that_may_be_meant(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path, ServerConfig()) as server:
        await server.give_program("n")
        body = {"inputs": {"q": "?"}, "timeuot": 5}
        error = (await server.ask("POST", "/v1/programs/n/execute", body=body)).json["error"]
        assert error["message"] == "timeuot: there is no such field. Did you mean 'timeout'?"
        assert error["fields"][0]["value"] == "5"


async def test_inputs_beside_the_field_inputs_are_refused_with_where_they_belong(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path, ServerConfig()) as server:
        await server.give_program("n")
        for path, body in (
            ("/v1/programs/n/execute", {"q": "?"}),
            ("/v1/actions/execute_program", {"program": "n", "q": "?"}),
        ):
            error = (await server.ask("POST", path, body=body)).json["error"]
            assert error["message"] == (
                "q: there is no such field. Inputs of the program belong in 'inputs': "
                '{"inputs": {"q": ...}}'
            )


async def test_values_of_a_configuration_are_checked_when_it_is_given(tmp_path: Path) -> None:
    wrong = {
        "temperature": "hot",
        "max_tokens": -5,
        "top_p": 2,
        "stop": [1],
        "seed": 0.5,
        "demos": 7,
        "model": 3,
    }

    async with serving(tmp_path, ServerConfig()) as server:
        body = {"name": "n", "signature": "q -> a", "configuration": wrong}
        error = await _refused(server, "create_program", body)
        assert {field["path"] for field in error["fields"]} == {
            f"configuration.{name}" for name in wrong
        }
        right = {
            "temperature": 0,
            "max_tokens": 5,
            "top_p": 1.0,
            "stop": "end",
            "seed": 1,
            "demos": [],
        }
        body = {"name": "n", "signature": "q -> a", "configuration": right}
        assert (await server.ask("POST", "/v1/actions/create_program", body=body)).json[
            "status"
        ] == "ready"


async def test_a_refused_mutation_leaves_the_results_of_the_others(tmp_path: Path) -> None:
    query = """mutation {
      a: executeProgram(input: {program: "n", inputs: {q: "?"}}) { status }
      b: executeProgram(input: {program: "nosuch", inputs: {q: "?"}}) { status }
      c: executeProgram(input: {program: "n", inputs: {q: "!"}}) { status }
    }"""

    async with serving(tmp_path, ServerConfig()) as server:
        await server.give_program()
        answer = await server.graphql(query)
        values = {"status": "COMPLETED"}
        assert answer["data"] == {"a": values, "b": None, "c": values}
        assert [error["path"] for error in answer["errors"]] == [["b"]]


async def test_a_taken_name_is_a_conflict_that_names_it_and_an_archived_workspace_is_reopened(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path, ServerConfig()) as server:
        await server.give_workspace("team")
        await server.perform("archive_workspace", ArchiveWorkspace(name="team"))
        await server.give_key("k", "read")
        for action, body, text in (
            ("create_workspace", {"name": "team"}, "reopen"),
            ("create_api_key", {"name": "k", "scopes": ["read"]}, "choose another name"),
        ):
            error = await _refused(server, action, body)
            assert (error["type"], error["fields"][0]["path"]) == ("ConflictError", "name")
            assert text in error["message"]
            assert "UNIQUE" not in error["message"]
        reopened = await server.ask("POST", "/v1/actions/reopen_workspace", body={"name": "team"})
        assert (reopened.status, reopened.json["status"]) == (200, "active")
        error = await _refused(server, "create_workspace", {"name": "team"})
        assert error["fields"][0]["path"] == "name"


async def test_a_key_does_not_expire_before_it_begins(tmp_path: Path) -> None:
    async with serving(tmp_path, ServerConfig()) as server:
        past = server.services.operations.clock.now() - timedelta(seconds=1)
        body = {"name": "k", "scopes": ["read"], "expires_at": past.isoformat()}
        error = await _refused(server, "create_api_key", body)
        assert [field["path"] for field in error["fields"]] == ["expires_at"]


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v2/nothing", 404, "not_found"),
        ("DELETE", "/v1/programs", 405, "method_not_allowed"),
        ("GET", "/graphql", 405, "method_not_allowed"),
    ],
)
async def test_unknown_routes_and_methods_are_answered_like_every_refusal(
    tmp_path: Path, method: str, path: str, status: int, code: str
) -> None:
    async with serving(tmp_path, ServerConfig()) as server:
        answer = await server.ask(method, path)
        error = answer.json["error"]
        assert (answer.status, error["code"], error["retryable"]) == (status, code, False)
        assert path in error["message"]
        assert ("allow" in answer.headers) is (status == 405)


async def test_a_subscription_goes_on_when_the_database_was_away(tmp_path: Path) -> None:
    async with serving(tmp_path, ServerConfig()) as server:
        program = await server.give_program()
        operations, driver = server.services.operations, server.services.data.driver
        socket: Socket = await opened(server)
        await socket.message()
        socket.send(id="1", type="subscribe", payload=follow(after=str(program.id)))
        row = await execute_record(operations, program, {"q": "?"})
        await _completed(socket, row.id)
        rows, request = driver.rows, asyncio.Semaphore(0)

        async def gone(_question: Any) -> Any:
            request.release()
            raise StorageError("gone")

        driver.rows = gone  # type: ignore[method-assign, assignment]
        for _ in range(3):
            await request.acquire()
        driver.rows = rows  # type: ignore[method-assign]
        row = await execute_record(operations, program, {"q": "!"})
        await _completed(socket, row.id)
        await socket.close()


async def _completed(socket: Socket, key: Any) -> None:
    while True:
        message = await socket.message()
        assert message["type"] == "next", message
        result = message["payload"]["data"]["executionUpdates"]
        if result["execution"]["id"] == str(key) and result["payload"]["status"] == "completed":
            return


async def test_a_value_of_a_wrong_type_is_named_with_what_was_expected(tmp_path: Path) -> None:
    async with serving(tmp_path, ServerConfig()) as server:

        async def problem(path: str, body: object) -> tuple[str, Any]:
            answer = await server.ask("POST", path, body=body)
            assert answer.status == 422, answer.body
            error = answer.json["error"]
            (field,) = error["fields"]
            return error["message"], (field["path"], field["value"], field["expected"])

        execute = "/v1/programs/n/execute"
        assert await problem(execute, {"inputs": {}, "timeout": "soon"}) == (
            "timeout: 'soon' is not a number or null",
            ("timeout", "'soon'", "a number or null"),
        )
        assert await problem(execute, {}) == (
            "inputs: this field is required",
            ("inputs", "None", "a value"),
        )
        create = "/v1/actions/create_program"
        assert await problem(create, {"name": 3, "signature": "q -> a"}) == (
            "name: 3 is not text",
            ("name", "3", "text"),
        )
        scopes = {"name": "k", "scopes": ["read", 2]}
        assert await problem("/v1/actions/create_api_key", scopes) == (
            "scopes[1]: 2 is not text",
            ("scopes[1]", "2", "text"),
        )
        rows = {"name": "d", "rows": [{"q": 1}], "split": "all"}
        assert await problem("/v1/actions/create_dataset", rows) == (
            "split: 'all' is not one of: train, validation, test",
            ("split", "'all'", "one of: train, validation, test"),
        )
        answer = await server.ask("POST", "/graphql", body={"query": 3})
        assert (answer.status, answer.json["error"]["message"]) == (400, "query: 3 is not text")
        answer = await server.ask("POST", execute, body=[])
        assert (answer.status, answer.json["error"]["message"]) == (
            422,
            "the body is [], not an object",
        )


@pytest.mark.parametrize("host", ["localhost:99999", "localhost:65536", "[::1]:70000"])
def test_a_port_above_65535_is_no_host(host: str) -> None:
    assert host_name(host) is None
    assert not ServerConfig().serves(host)
    assert ServerConfig().serves(host.rpartition(":")[0] + ":65535")
