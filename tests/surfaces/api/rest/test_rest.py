"""The REST routes over real services on SQLite."""

import contextlib
import json
import sqlite3
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from dspex.execution.backends import MockBackend
from dspex.operations.domain import DOMAIN
from dspex.operations.executions.executor import Executor
from dspex.surfaces.api import ServerConfig
from dspex.surfaces.api.rest import openapi
from tests.surfaces.api.client import serving

DESCRIPTION = Path(__file__).parent / "openapi.json"


def test_the_openapi_description_is_the_one_in_the_repository() -> None:
    """After a deliberate change.

    Python -m tests.surfaces.api.rest.test_rest > tests/surfaces/api/rest/openapi.json.
    """
    assert openapi(DOMAIN) == json.loads(DESCRIPTION.read_text())


async def test_a_program_is_executed_once_for_one_idempotency_key(tmp_path: Path) -> None:
    async with serving(tmp_path, ServerConfig()) as server:
        await server.give_program()
        path, body = "/v1/programs/n/execute", {"inputs": {"q": "?"}, "timeout": 30}
        first = await server.ask("POST", path, body=body, idempotency_key="один")
        again = await server.ask("POST", path, body=body, idempotency_key="один")
        response = await server.ask(
            "POST", path, body={"inputs": {"q": "!"}}, idempotency_key="один"
        )
        values = {"program": "n", "inputs": {"q": "?"}, "idempotency_key": "один"}
        elsewhere = await server.ask("POST", "/v1/actions/execute_program", body=values)
        assert elsewhere.json["id"] == first.json["id"]
        assert (first.status, again.status, response.status) == (200, 200, 409)
        assert first.json["status"] == "completed"
        assert again.json["id"] == first.json["id"]
        stored = await server.ask("GET", f"/v1/executions/{first.json['id']}")
        assert stored.json["outputs"] == first.json["outputs"]
        assert "workspace" not in stored.json


async def test_a_program_gets_the_turns_of_the_session_in_the_body(tmp_path: Path) -> None:
    async with serving(tmp_path, ServerConfig()) as server:
        signature = "q, history: History -> n: int"
        program = {"name": "chat", "signature": signature, "backend": "mock"}
        await server.ask("POST", "/v1/actions/create_program", body=program)
        session = (await server.ask("POST", "/v1/actions/create_session", body={})).json["id"]
        path, body = "/v1/programs/chat/execute", {"inputs": {"q": "?"}, "session_id": session}
        for turns in range(2):
            execution = await server.ask("POST", path, body=body)
            assert len(execution.json["inputs"]["history"]["messages"]) == 2 * turns
        row = await server.ask("GET", f"/v1/sessions/{session}")
        assert row.json["turn_count"] == 2
        unknown = await server.ask("POST", path, body={**body, "session_id": str(UUID(int=1))})
        assert unknown.status == 404


@pytest.mark.parametrize(
    ("path", "body", "status", "fields"),
    [
        ("/v1/programs/n/execute", {"inputs": {"q": "?"}, "session_id": "1"}, 422, ["session_id"]),
        ("/v1/programs/n/execute", {"inputs": {"k": 1}}, 422, ["q", "k"]),
        ("/v1/programs/n/execute", {"inputs": {"q": "?"}, "timeout": -1}, 422, ["timeout"]),
        ("/v1/programs/n/execute", {"inputs": {"q": "?"}, "surprise": 1}, 422, ["surprise"]),
        ("/v1/programs/n/execute", {"inputs": 7}, 422, ["inputs"]),
        ("/v1/programs/n/execute", b"{", 400, []),
        ("/v1/programs/nope/execute", {"inputs": {}}, 404, []),
        ("/v1/actions/create_program", {"name": "n", "signature": "q -> a"}, 409, []),
        ("/v1/actions/create_program", {"name": "m", "signatur": "q -> a"}, 422, ["signatur"]),
        ("/v1/actions/create_program", {"name": "m"}, 422, ["signature"]),
        ("/v1/actions/create_program", {"name": 7, "signature": "q -> a"}, 422, ["name"]),
        ("/v1/actions/create_program", [], 400, []),
    ],
)
async def test_a_refusal_is_typed_and_names_the_fields(
    tmp_path: Path, path: str, body: Any, status: int, fields: list[str]
) -> None:
    async with serving(tmp_path, ServerConfig()) as server:
        await server.give_program()
        answer = await server.ask("POST", path, body=body)
        error = answer.json["error"]
        assert (answer.status, [field["path"] for field in error["fields"]]) == (
            status,
            fields,
        ), error
        assert error["type"] in {"InvalidError", "NotFoundError", "ConflictError"}


async def test_lists_have_pages_and_filters(tmp_path: Path) -> None:
    async with serving(tmp_path, ServerConfig()) as server:
        for n in range(5):
            await server.give_program(f"p{n}")
        first = (await server.ask("GET", "/v1/programs?first=3")).json
        rest = (await server.ask("GET", f"/v1/programs?first=3&after={first['next']}")).json
        assert [row["name"] for row in (*first["programs"], *rest["programs"])] == [
            "p4",
            "p3",
            "p2",
            "p1",
            "p0",
        ]
        assert rest["next"] is None
        some = (await server.ask("GET", "/v1/programs?name=p2&status=ready")).json
        assert [row["name"] for row in some["programs"]] == ["p2"]
        for wrong in (
            "first=0",
            "first=201",
            "first=x",
            "after=x",
            "status=nope",
            "nam=p2",
            "signature_id=7",
        ):
            assert (await server.ask("GET", f"/v1/programs?{wrong}")).status == 422, wrong


async def test_a_page_ends_early_where_its_rows_are_large_and_the_next_one_goes_on(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path, ServerConfig(page_bytes=2_500_000)) as server:
        await server.give_program()
        for n in range(6):
            body = {"inputs": {"q": f"{n}" * 1_000_000}}
            assert (await server.ask("POST", "/v1/programs/n/execute", body=body)).status == 200
        collected, path = list[str](), "/v1/executions?first=200"
        while path:
            answer = await server.ask("GET", path)
            assert len(answer.body) < 3_000_000
            collected += [row["inputs"]["q"][:2] for row in answer.json["executions"]]
            path = answer.json["next"] and f"/v1/executions?first=200&after={answer.json['next']}"
        assert collected == ["55", "44", "33", "22", "11", "00"]
        query = (
            "query($after: String) { executions(first: 200, after: $after) { nodes { inputs } "
            "%s } }"
        )
        response = (await server.graphql(query % "pageInfo { hasNextPage endCursor }"))["data"][
            "executions"
        ]
        assert (len(response["nodes"]), response["pageInfo"]["hasNextPage"]) == (2, True)
        again = (await server.graphql(query % "", after=response["pageInfo"]["endCursor"]))["data"][
            "executions"
        ]
        assert [node["inputs"]["q"][:2] for node in again["nodes"]] == ["33", "22"]
        twice = await server.graphql(
            "{ a: executions { nodes { inputs } } b: executions { nodes { inputs } } "
            "c: executions { nodes { inputs } } }"
        )
        refused = {error["message"] for error in twice["errors"]}
        assert refused == {
            "the answer is larger than 2500000 bytes: ask for fewer rows or fields at once"
        }


async def test_lists_are_sorted_and_narrowed(tmp_path: Path) -> None:
    async with serving(tmp_path, ServerConfig()) as server:
        for name in ("b", "a", "c"):
            await server.give_program(name)
        for name in ("a", "b", "a"):
            await server.ask("POST", f"/v1/programs/{name}/execute", body={"inputs": {"q": "?"}})

        async def names(query: str) -> list[str]:
            page = (await server.ask("GET", f"/v1/programs?{query}")).json
            rest = (
                await names(f"{query.partition('&after')[0]}&after={page['next']}")
                if page["next"]
                else []
            )
            return [row["name"] for row in page["programs"]] + rest

        assert await names("sort=name&first=1") == ["a", "b", "c"]
        assert await names("sort=-execution_count&first=2") == ["a", "b", "c"]
        assert await names("sort=last_executed_at&first=1") == ["b", "a", "c"]
        assert await names("name_in=a&name_in=c&sort=-name") == ["c", "a"]
        assert await names("execution_count_gte=1&execution_count_lte=1") == ["b"]
        assert await names(
            "last_executed_at_is_null=true&created_at_after=2020-01-01T00:00:00%2B02:00"
        ) == ["c"]
        for wrong in (
            "sort=colour",
            "sort=configuration",
            "sort=name&after=x",
            "created_at_after=2030-01-01",
        ):
            answer = await server.ask("GET", f"/v1/programs?{wrong}")
            type_name = wrong.rpartition("&")[2].partition("=")[0]
            assert (answer.status, answer.json["error"]["fields"][0]["path"]) == (422, type_name)


async def test_metrics_count_requests_executions_and_rows_that_wait(tmp_path: Path) -> None:
    async with serving(tmp_path, ServerConfig()) as server:
        await server.give_program()
        for inputs in ({"q": "?"}, {"q": "?"}, {}):
            await server.ask("POST", "/v1/programs/n/execute", body={"inputs": inputs})
        text = (await server.ask("GET", "/metrics")).body.decode()
        route = 'route="/v1/programs/{name}/execute"'
        for line in (
            f'dspex_requests_total{{{route},status="200"}} 2',
            f'dspex_requests_total{{{route},status="422"}} 1',
            f"dspex_request_seconds_count{{{route}}} 3",
            'dspex_executions_total{status="completed"} 2',
            'dspex_executions_total{status="failed"} 1',
            'dspex_optimizations{status="queued"} 0',
            'dspex_ingestions{status="running"} 0',
        ):
            assert line in text.splitlines(), text


async def test_metrics_are_those_of_the_workspace_and_all_of_them_for_operators_only(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as server:
        await server.give_key("boss", "admin")
        await server.give_key("reader", "read")
        for name, calls in (("one", 1), ("two", 2)):
            await server.give_workspace(name)
            await server.give_key(name, "admin", workspace=name)
            program = {"name": "n", "signature": "q -> n: int", "backend": "mock"}
            await server.ask("POST", "/v1/actions/create_program", key=name, body=program)
            for _ in range(calls):
                await server.ask(
                    "POST", "/v1/programs/n/execute", key=name, body={"inputs": {"q": "?"}}
                )
        quotas = server.services.operations.services[Executor].quotas
        assert quotas is not None
        await quotas.flush()
        texts = {
            name: (await server.ask("GET", "/metrics", key=name)).body.decode()
            for name in server.keys
        }
        result = 'dspex_executions_total{status="completed"} '
        assert [
            result + str(n) in texts[name].splitlines()
            for name, n in (("one", 1), ("two", 2), ("boss", 3))
        ] == [
            True,
            True,
            True,
        ]
        assert result not in texts["reader"]
        for name in ("one", "two", "reader"):
            assert "dspex_request" not in texts[name]
            others = {"one", "two", "default"} - {name if name != "reader" else "default"}
            assert not [another for another in others if f'workspace="{another}"' in texts[name]]
        assert 'dspex_stored_executions{workspace="one"} 1' in texts["one"]
        assert 'dspex_stored_executions{workspace="two"} 2' in texts["boss"]


async def test_a_full_workspace_is_a_403_that_names_the_limit(tmp_path: Path) -> None:
    async with serving(tmp_path, ServerConfig(), quota_executions=1) as server:
        await server.give_program()
        for status in (200, 403):
            answer = await server.ask("POST", "/v1/programs/n/execute", body={"inputs": {"q": "?"}})
            assert answer.status == status
        error = answer.json["error"]
        assert (error["type"], error["code"], error["retryable"]) == (
            "QuotaError",
            "quota_exceeded",
            False,
        )
        assert "quota_executions" in error["message"]


async def test_a_server_keeps_no_inputs_of_the_mock_backend(tmp_path: Path) -> None:
    async with serving(tmp_path, ServerConfig()) as server:
        await server.give_program()
        body = {"inputs": {"q": "secret"}, "backend": "mock"}
        assert (await server.ask("POST", "/v1/programs/n/execute", body=body)).status == 200
        mock = server.services.backends["mock"]
        assert isinstance(mock, MockBackend)
        assert not mock.calls


async def test_a_server_is_ready_until_its_schema_is_another_one(tmp_path: Path) -> None:
    async with serving(tmp_path, ServerConfig()) as server:
        assert (await server.ask("GET", "/readyz")).json == {"status": "ready", "problems": []}
        with contextlib.closing(sqlite3.connect(tmp_path / "state" / "dspex.sqlite3")) as database:
            database.execute("UPDATE alembic_version SET version_num = '9999'")
            database.commit()
        response = await server.ask("GET", "/readyz")
        assert (response.status, response.json["status"]) == (503, "not ready")
        assert "9999" in response.json["problems"][0]
        assert (await server.ask("GET", "/healthz")).status == 200


if __name__ == "__main__":
    print(json.dumps(openapi(DOMAIN), indent=1, ensure_ascii=False))  # noqa: T201
