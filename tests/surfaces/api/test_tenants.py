"""Nothing of one tenant is read or changed by another.

Every action, route, cursor, id and field of the domain.
"""

import dataclasses
import itertools
import json
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from graphql import get_named_type, is_object_type

from dspex.execution.modules import CodeRoot
from dspex.operations.domain import DOMAIN
from dspex.operations.framework.resource import Resource
from dspex.surfaces.api.rest.openapi import openapi
from tests.surfaces.api.client import Answered, Call, Server, serving
from tests.surfaces.api.tenants import (
    CANARY,
    READABLE,
    SCHEMA,
    bodies,
    camel,
    everything,
    fill,
    result_of,
    selection,
)

ROUTES = openapi(DOMAIN)["paths"]
UNLIMITED = {"requests_per_minute": 1 << 30}
KNOWN = {"/v1/programs/{name}/execute", "/healthz", "/readyz", "/metrics", "/v1/openapi.json"}


class Tenants:
    """The tenant "mine" against the rows of the tenant "theirs"."""

    def __init__(self, server: Server, rows: dict[str, Any]) -> None:
        self.server = server
        self.rows = rows
        self.ids = [str(row.id) for row in rows.values()]
        self.names = sorted(
            {row.name for row in rows.values() if hasattr(row, "name")} | {"theirs"}
        )
        self.calls = 0

    async def ask(self, method: str, path: str, body: Any = None) -> Answered:
        """Ask as "mine"; no answer holds anything of "theirs", nor is it a fault."""
        self.calls += 1
        answer = await self.server.ask(method, path, key="mine", body=body)
        self.check(answer, (method, path, body))
        return answer

    def check(self, answer: Answered, about: Any) -> None:
        """Compare an answer with everything in rows of "theirs".

        What was asked with may be told back.
        """
        assert CANARY.encode() not in answer.body, about
        assert answer.status != 429, about
        assert answer.status < 500 or answer.json["error"]["retryable"], (about, answer.body)
        text = json.dumps(about)
        items = [key for key in self.ids if key not in text and key.encode() in answer.body]
        assert not items, (about, answer.body)

    async def graphql(self, query: str, **variables: Any) -> Any:
        """Ask by GraphQL."""
        body = {"query": query, "variables": variables}
        return (await self.ask("POST", "/graphql", body)).json


async def tenants(server: Server) -> Tenants:
    """Make both, each with a row of every resource."""
    for name in ("mine", "theirs"):
        await server.give_workspace(name)
        await server.give_key(name, "admin", workspace=name, **UNLIMITED)
    rows = await fill(server, "theirs")
    await server.ask(
        "POST",
        "/v1/actions/create_program",
        key="mine",
        body={"name": "own", "signature": "q -> n: int", "backend": "mock"},
    )
    await server.ask("POST", "/v1/programs/own/execute", key="mine", body={"inputs": {"q": "?"}})
    return Tenants(server, rows)


def test_every_route_is_one_that_these_tests_walk() -> None:
    derived = {f"/v1/actions/{action.name}" for action in DOMAIN.actions}
    derived |= {f"/v1/{resource.plural}{end}" for resource in READABLE for end in ("", "/{id}")}
    assert set(ROUTES) == derived | (KNOWN & set(ROUTES))


async def test_no_list_filter_order_cursor_or_id_of_rest_shows_rows_of_another_tenant(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as server:
        all_tenants = await tenants(server)
        cursors = await _cursors(server)
        for resource in READABLE:
            await _walk_list(all_tenants, resource, cursors)
        for key in (*all_tenants.names, *all_tenants.ids):
            answer = await all_tenants.ask(
                "POST", f"/v1/programs/{key}/execute", {"inputs": {"q": "?"}}
            )
            assert answer.status == 404
        assert all_tenants.calls > 20 * len(READABLE)


async def _walk_list(tenants: Tenants, resource: Resource[Any], cursors: list[str]) -> None:
    """Ask for rows of a resource in every way.

    By every id, in every order behind every cursor, and by every filter.
    """
    path, row = f"/v1/{resource.plural}", tenants.rows[resource.name]
    for key in tenants.ids:
        assert (await tenants.ask("GET", f"{path}/{key}")).status == 404
    sorts = [sort for name in resource.sortable for sort in (name, f"-{name}")]
    for sort, cursor in itertools.product(sorts, [None, *cursors]):
        after = {} if cursor is None else {"after": cursor}
        await tenants.ask("GET", f"{path}?{urlencode({'sort': sort, **after})}")
    for name, expected in resource.filters.items():
        value = getattr(row, expected.attribute.name)
        for text in {str(value), str(value).lower(), "true", "false"}:
            answer = await tenants.server.ask(
                "GET", f"{path}?{urlencode({name: text})}", key="mine"
            )
            if answer.status == 200:
                tenants.check(answer, (path, name))


async def _cursors(server: Server) -> list[str]:
    """Return the cursors that "theirs" gets, of every resource and of its events."""
    cursors = []
    for resource in READABLE:
        answer = await server.graphql(
            f"{{ {camel(resource.plural)}(first: 1) {{ edges {{ cursor }} }} }}", key="theirs"
        )
        cursors += [edge["cursor"] for edge in answer["data"][camel(resource.plural)]["edges"]]
    assert len(cursors) >= len(READABLE) - 1
    return cursors


async def test_no_field_of_graphql_shows_rows_of_another_tenant(tmp_path: Path) -> None:
    assert SCHEMA.query_type is not None
    actions = {camel(action.name) for action in DOMAIN.actions}
    walked = {"node"} | {
        camel(name) for resource in READABLE for name in (resource.name, resource.plural)
    }
    assert set(SCHEMA.query_type.fields) - actions == walked

    async with serving(tmp_path) as server:
        result, cursors = await tenants(server), await _cursors(server)
        for key in result.ids:
            assert await result.graphql(
                "query($id: ID!) { node(id: $id) { id __typename } }", id=key
            ) == {"data": {"node": None}}
        for resource in READABLE:
            item, many = camel(resource.name), camel(resource.plural)
            type_ = get_named_type(SCHEMA.query_type.fields[item].type)
            assert is_object_type(type_)
            fields = selection(type_, 1)
            for key in result.ids:
                assert (
                    await result.graphql(f"query($id: ID!) {{ {item}(id: $id) {fields} }}", id=key)
                )["data"] == {item: None}
            if "name" in SCHEMA.query_type.fields[item].args:
                for name in result.names:
                    query = f"query($name: String) {{ {item}(name: $name) {fields} }}"
                    answer = await result.graphql(query, name=name)
                    assert answer["data"] == {item: None}, name
            page = f"{{ totalCount nodes {fields} edges {{ cursor node {{ id }} }} }}"
            assert "errors" not in await result.graphql(f"{{ {many}(first: 5) {page} }}")
            behind = f"query($after: String) {{ {many}(first: 5, after: $after) {page} }}"
            for cursor in cursors:
                await result.graphql(behind, after=cursor)
        text = (await result.ask("GET", "/metrics")).body.decode()
        assert "theirs" not in text
        assert result.calls > 20 * len(READABLE)


@pytest.mark.parametrize("way", ["rest", "graphql"])
async def test_no_action_reads_or_changes_rows_of_another_tenant(tmp_path: Path, way: str) -> None:
    async with serving(tmp_path) as server:
        all_tenants = await tenants(server)
        before = await everything(server, "theirs")
        others = await everything(server, "default")
        for action in DOMAIN.actions:
            for body in bodies(action, all_tenants.ids, all_tenants.names):
                if way == "rest":
                    await all_tenants.ask("POST", f"/v1/actions/{action.name}", body)
                    continue
                kind, fields = result_of(action)
                name = f"{action.input.__name__}Input"
                query = (
                    f"{kind}($input: {name}!) {{ {camel(action.name)}(input: $input) {fields} }}"
                )
                await all_tenants.graphql(
                    query, input={camel(key): value for key, value in body.items()}
                )
        after = await everything(server, "theirs")
        assert after == before
        assert {
            key: rows
            for key, rows in (await everything(server, "default")).items()
            if key != "process"
        } == {key: rows for key, rows in others.items() if key != "process"}
        assert all_tenants.calls > 300


@pytest.mark.parametrize(
    "field", ["executionUpdates", "evaluationUpdates", "optimizationUpdates", "ingestionUpdates"]
)
async def test_no_subscription_tells_of_another_tenant(tmp_path: Path, field: str) -> None:
    assert SCHEMA.subscription_type is not None
    assert field in SCHEMA.subscription_type.fields
    assert len(SCHEMA.subscription_type.fields) == 4

    async with serving(tmp_path) as server:
        all_tenants = await tenants(server)
        first = "00000000-0000-7000-8000-000000000000"
        for after in (first, str(all_tenants.rows["event"].id)):
            for arguments in (
                f'after: "{after}"',
                f'after: "{after}", programId: "{all_tenants.rows["program"].id}"',
            ):
                query = f"subscription {{ {field}({arguments}) {{ cursor payload }} }}"
                call = Call(server, "/graphql/stream", {"query": query}, key="mine")
                start = await call.part()
                assert start["status"] == 200
                if field == "executionUpdates" and "programId" not in arguments:
                    await server.ask(
                        "POST",
                        "/v1/programs/own/execute",
                        key="mine",
                        body={"inputs": {"q": "?"}},
                    )
                    text = await call.part()
                    assert CANARY.encode() not in text["body"]
                    assert b'"status"' in text["body"] or b'"errors"' in text["body"]
                call.go()
                await call.task
                while not call._parts.empty():
                    assert CANARY.encode() not in (await call.part()).get("body", b"")


TRAP = (
    'from pathlib import Path\nPath(__file__).with_name("imported").write_text("x")\nmetric = '
    "program = print\n"
)
NAMES = ("trap:metric", "trap", "trap.program", "trap:program", "./trap.py", "file:trap.py")


@pytest.mark.parametrize("workspace", ["default", "mine"])
async def test_code_files_and_metrics_that_callers_name_are_not_imported(
    tmp_path: Path, workspace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "trap.py").write_text(TRAP)
    monkeypatch.syspath_prepend(str(tmp_path))
    names = (*NAMES, str(tmp_path / "trap.py"))

    async with serving(tmp_path, code=CodeRoot(tmp_path)) as server:
        await server.give_workspace("mine")
        await server.give_key("k", "admin", workspace=workspace, **UNLIMITED)
        record = {"name": "own", "signature": "q -> n: int", "backend": "mock"}
        program = (
            await server.ask("POST", "/v1/actions/create_program", key="k", body=record)
        ).json
        rows = {"name": "rows", "rows": [{"q": "?", "n": 1}] * 4}
        dataset = (await server.ask("POST", "/v1/actions/create_dataset", key="k", body=rows)).json
        for action in DOMAIN.actions:
            for body in bodies(action, [program["id"], dataset["id"]], list(names)):
                full = {**body, **_own(action.input, program, dataset, body)}
                answer = await server.ask("POST", f"/v1/actions/{action.name}", key="k", body=full)
                assert answer.status < 500 or answer.json["error"]["retryable"], (
                    action.name,
                    full,
                    answer.body,
                )
                assert answer.status != 429
        for path in ("/v1/evaluations", "/v1/optimization_jobs"):
            jobs = (await server.ask("GET", path, key="k")).json
            assert "trap" not in json.dumps([_names(row) for row in next(iter(jobs.values()))])
        for row in (await server.ask("GET", "/v1/programs?first=200", key="k")).json["programs"]:
            await server.ask(
                "POST",
                f"/v1/programs/{row['id']}/execute",
                key="k",
                body={"inputs": {"q": "?"}},
            )
    assert not (tmp_path / "imported").exists()
    assert "trap" not in sys.modules


def _own(
    input_type: type, program: dict[str, Any], dataset: dict[str, Any], body: dict[str, Any]
) -> dict[str, Any]:
    """Return what lets a job begin: a program and a data set that are there."""
    names = {part.name for part in dataclasses.fields(input_type)}
    values = {"program_id": program["id"], "dataset_id": dataset["id"]}
    return {name: value for name, value in values.items() if name in names and name not in body}


def _names(job: dict[str, Any]) -> Any:
    """Return what a job would look up by name."""
    return [job.get("metrics"), job.get("metric"), job.get("optimizer"), job.get("objectives")]
