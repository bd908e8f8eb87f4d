"""Every action and every read, by every scope, in the own and in a foreign workspace.

Derived from the domain.
"""

import dataclasses
import typing
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from dspex.operations.datasets.records import DatasetRecord
from dspex.operations.domain import DOMAIN
from dspex.operations.executions.executor import Executor
from dspex.operations.framework.access import SCOPES, Actor
from dspex.operations.framework.action import Action
from dspex.operations.framework.resource import Resource
from dspex.operations.framework.store import Insert, Query
from dspex.operations.programs.actions import create_program
from dspex.operations.programs.inputs import CreateProgram
from tests.surfaces.api.client import Server, serving

READABLE = [resource for resource in DOMAIN.values() if not resource.is_internal]
_BY_NAME = {action.name: action for action in DOMAIN.actions}


def sample(hint: Any) -> Any:
    """A value that fits an annotation and means nothing."""
    origin, members = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return members[0]
    if members and type(None) in members:
        return sample(next(member for member in members if member is not type(None)))
    plain: dict[Any, Any] = {
        dict: {},
        list: [],
        uuid.UUID: str(uuid.UUID(int=7)),
        str: "x",
        int: 1,
        float: 1.0,
    }
    return plain.get(origin or hint, True)


def body_of(action: Action) -> dict[str, Any]:
    """The smallest body that can be read as the action's input."""
    hints = typing.get_type_hints(action.input)
    items = [
        part for part in dataclasses.fields(action.input) if part.default is dataclasses.MISSING
    ]
    return {
        part.name: sample(hints[part.name])
        for part in items
        if part.default_factory is dataclasses.MISSING
    }


@pytest.mark.parametrize("scope", [*SCOPES, "none"])
async def test_an_action_is_refused_to_every_key_without_its_scope(
    tmp_path: Path, scope: str
) -> None:
    async with serving(tmp_path) as server:
        await server.give_workspace("team")
        for workspace in (None, "team"):
            await _give(server, f"k-{workspace}", scope, workspace)
            for action in DOMAIN.actions:
                path = f"/v1/actions/{action.name}"
                answer = await server.ask("POST", path, key=f"k-{workspace}", body=body_of(action))
                may = scope in {action.scope, "admin"}
                if not may:
                    assert answer.status == 403, (action.name, answer.body)
                    assert repr(action.scope) in answer.json["error"]["message"]
                elif workspace is None:
                    assert answer.status != 403, (action.name, answer.body)
                assert answer.status < 500 or answer.json["error"]["retryable"], (
                    action.name,
                    answer.body,
                )


async def _give(server: Server, name: str, scope: str, workspace: str | None) -> None:
    """Make a key.

    One without any scope cannot be made, so that it is made otherwise and then emptied.
    """
    await server.give_key(name, "read" if scope == "none" else scope, workspace=workspace)
    if scope == "none":
        from dspex.operations.framework.store import Update
        from dspex.operations.tenancy.records import API_KEY

        store = server.services.operations.dependencies.store
        [row] = await store.select(API_KEY, Query(where={"name": name}))
        await store.write(Update(resource=API_KEY, id=row.id, values={"scopes": []}))


@pytest.mark.parametrize("scope", SCOPES)
async def test_a_resource_is_read_with_its_scope_only_and_by_every_surface(
    tmp_path: Path, scope: str
) -> None:
    async with serving(tmp_path) as server:
        await server.give_key("k", scope)
        for resource in READABLE:
            may = scope in {resource.reading, "admin"}
            listed = await server.ask("GET", f"/v1/{resource.plural}", key="k")
            response = await server.ask("GET", f"/v1/{resource.plural}/{uuid.UUID(int=7)}", key="k")
            assert (listed.status, response.status) == ((200, 404) if may else (403, 403)), (
                resource.name
            )
            answer = await server.graphql(
                f"{{ {_camel(resource.plural)} {{ totalCount }} }}", key="k"
            )
            refused = [error["extensions"]["type"] for error in answer.get("errors", ())]
            assert refused == ([] if may else ["ForbiddenError"]), resource.name


async def test_rows_of_another_workspace_are_seen_and_changed_by_nobody(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        for name in ("mine", "theirs"):
            await server.give_workspace(name)
            await server.give_key(name, "admin", workspace=name)
            await _fill(server, name)
        for resource in READABLE:
            theirs = (await server.ask("GET", f"/v1/{resource.plural}", key="theirs")).json[
                resource.plural
            ]
            mine = (await server.ask("GET", f"/v1/{resource.plural}", key="mine")).json[
                resource.plural
            ]
            assert not {row["id"] for row in mine} & {row["id"] for row in theirs}, resource.name
            for row in theirs:
                await _assert_hidden(server, resource, row)
            await _assert_unlisted(server, resource, theirs)
        quotas = server.services.operations.services[Executor].quotas
        assert quotas is not None
        await quotas.flush()  # the counters of a workspace follow its writes
        before = await _everything(server, "theirs")
        for action in DOMAIN.actions:
            for body in await _aimed(server, action):
                answer = await server.ask(
                    "POST", f"/v1/actions/{action.name}", key="mine", body=body
                )
                assert answer.status in {200, 403, 404, 409, 422}, (
                    action.name,
                    body,
                    answer.body,
                )
        assert await _everything(server, "theirs") == before


async def _fill(server: Server, workspace: str) -> None:
    """Put something of every kind that an action can make into a workspace."""
    operations = server.services.operations.as_actor(Actor(name=workspace, workspace=workspace))
    await create_program(
        operations, CreateProgram(name="n", signature="q -> n: int", backend="mock")
    )
    key = {"key": workspace}
    assert (
        await server.ask("POST", "/v1/programs/n/execute", body={"inputs": {"q": "?"}}, **key)
    ).status == 200
    now = server.services.operations.clock.now()
    rows = [{"q": "?", "n": 1}]
    dataset = DatasetRecord(
        id=server.services.operations.new_id(),
        workspace=workspace,
        created_at=now,
        updated_at=now,
        name="rows",
        version=1,
        split="test",
        schema={},
        rows=rows,
        row_count=1,
        checksum="x",
        source="test",
    )
    await operations.store.write(Insert(dataset))
    values = {"name": "held", "text": "hush"}
    assert (await server.ask("POST", "/v1/actions/create_secret", body=values, **key)).status == 200


async def _assert_hidden(server: Server, resource: Resource[Any], row: dict[str, Any]) -> None:
    response = await server.ask("GET", f"/v1/{resource.plural}/{row['id']}", key="mine")
    assert response.status == 404, resource.name
    node = await server.graphql(
        "query($id: ID!) { node(id: $id) { id } }", key="mine", id=row["id"]
    )
    assert node == {"data": {"node": None}}
    item = f"query($id: ID!) {{ {_camel(resource.name)}(id: $id) {{ id }} }}"
    assert (await server.graphql(item, key="mine", id=row["id"]))["data"] == {
        _camel(resource.name): None
    }


async def _assert_unlisted(
    server: Server, resource: Resource[Any], theirs: list[dict[str, Any]]
) -> None:
    """No order, no filter and no cursor of another workspace brings up its rows.

    None shows what is hidden.
    """
    keys = {row["id"] for row in theirs}
    items = [
        urlencode({"sort": way + name, "first": 1})
        for name in resource.sortable
        for way in ("", "-")
    ]
    for expected in resource.filters.values():
        values = {
            row[expected.attribute.name]
            for row in theirs
            if expected.comparison in {"eq", "in", "gte", "lte"}
        }
        items += [urlencode({expected.name: str(value)}) for value in values - {None}]
    cursors = []
    for query in items:
        mine = (await server.ask("GET", f"/v1/{resource.plural}?{query}", key="mine")).json
        assert not {row["id"] for row in mine[resource.plural]} & keys, query
        page = (await server.ask("GET", f"/v1/{resource.plural}?{query}", key="theirs")).json
        if page["next"] is not None:
            cursors.append(f"{query}&after={page['next']}")
    for query in cursors:
        mine = (await server.ask("GET", f"/v1/{resource.plural}?{query}", key="mine")).json
        assert not {row["id"] for row in mine[resource.plural]} & keys, query
    for name in resource.hidden:
        for query in (f"sort={name}", f"{name}=x", f"{name}_contains=x"):
            assert (
                await server.ask("GET", f"/v1/{resource.plural}?{query}", key="theirs")
            ).status == 422, query


async def _aimed(server: Server, action: Action) -> list[dict[str, Any]]:
    """Bodies that name rows of the workspace "theirs".

    They do so wherever an id or a workspace can be named.
    """
    hints = typing.get_type_hints(action.input)
    body = body_of(action)
    ids = [name for name, hint in hints.items() if uuid.UUID in {hint, *typing.get_args(hint)}]
    result, everything = [], dict(body)
    for name in ids:
        target = name.removesuffix("_id")
        resource = DOMAIN.get(target)
        if resource is not None:
            rows = (await server.ask("GET", f"/v1/{resource.plural}", key="theirs")).json[
                resource.plural
            ]
            result += [{**body, name: row["id"]} for row in rows]
            everything |= {name: rows[0]["id"]} if rows else {}
    result.append(everything)
    if "workspace" in hints:
        result.append({**body, "workspace": "theirs", "name": "planted"})
    if action.resource.name == "workspace":
        result.append({"name": "theirs"})
    return result


async def _everything(server: Server, workspace: str) -> dict[str, Any]:
    """All rows of a workspace, but for the moment a key was last used."""
    store = server.services.operations.dependencies.store
    body = {}
    for resource in DOMAIN.values():
        rows = await store.select(resource, Query(where={"workspace": workspace}, limit=200))
        body[resource.name] = sorted(repr(row) for row in rows)
    return body


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)
