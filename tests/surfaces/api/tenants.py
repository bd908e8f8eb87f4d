"""Two tenants, and everything that one of them can name of the other, derived from the domain."""

import dataclasses
import itertools
import typing
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from graphql import (
    GraphQLObjectType,
    GraphQLSchema,
    get_named_type,
    is_leaf_type,
    is_object_type,
)

from dspex.operations.domain import DOMAIN
from dspex.operations.framework.action import Action
from dspex.operations.framework.resource import Resource
from dspex.operations.framework.store import Insert, Query
from dspex.surfaces.api.graphql import core_schema, make_schema
from tests.surfaces.api.client import Server

CANARY = "CANARY"
READABLE = [resource for resource in DOMAIN.values() if not resource.is_internal]
SCHEMA: GraphQLSchema = core_schema(make_schema())


def camel(name: str) -> str:
    """Return a name as GraphQL has it."""
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


async def fill(server: Server, workspace: str) -> dict[str, Any]:
    """Put a row of every resource into a workspace.

    Every text in it that is not a name begins with `CANARY`.
    """
    store = server.services.operations.dependencies.store
    rows: dict[str, Any] = {}
    for resource in DOMAIN.values():
        result = await store.select(resource, Query(where={"workspace": workspace}, limit=1))
        if (result and resource.unique == (("workspace",),)) or resource.name == "workspace":
            rows[resource.name] = result[0]
            continue
        rows[resource.name] = _row(
            resource, workspace, rows, new_id=server.services.operations.new_id
        )
        await store.write(Insert(rows[resource.name]))
    return rows


def _row(
    resource: Resource[Any],
    workspace: str,
    rows: dict[str, Any],
    *,
    new_id: Callable[[], uuid.UUID],
) -> Any:
    hints = typing.get_type_hints(resource.entity)
    values: dict[str, Any] = {}
    for part in resource.attributes:
        target = {**resource.references, **resource.pointers}.get(part.name)
        if part.name == "workspace":
            values[part.name] = workspace
        elif part.name == "name":
            values[part.name] = f"{workspace}-{resource.name}"
        elif part.choices:
            values[part.name] = "completed" if "completed" in part.choices else part.choices[0]
        elif target is not None and target in rows:
            values[part.name] = rows[target].id
        elif target is not None:
            values[part.name] = None if part.is_nullable else new_id()
        else:
            values[part.name] = (
                new_id()
                if part.kind == "uuid"
                else _value(part.kind, hints[part.name], f"{CANARY}-{resource.name}-{part.name}")
            )
    return resource.entity(**values)


def _value(kind: str, hint: Any, text: str) -> Any:
    if kind == "json":
        members = [hint, *typing.get_args(hint)]
        is_list = any((typing.get_origin(member) or member) is list for member in members)
        return [text] if is_list else {"canary": text}
    values: dict[str, Any] = {
        "text": text,
        "integer": 1,
        "count": 1,
        "number": 1.0,
        "flag": True,
        "time": datetime(2026, 1, 1, tzinfo=UTC),
        "probability": 0.5,
        "embedding": [0.5],
    }
    return values[kind]


async def everything(server: Server, workspace: str) -> dict[str, list[str]]:
    """Return all rows of a workspace, of every resource."""
    store = server.services.operations.dependencies.store
    body = {}
    for resource in DOMAIN.values():
        rows = await store.select(resource, Query(where={"workspace": workspace}, limit=200))
        body[resource.name] = sorted(repr(row) for row in rows)
    return body


def sample(hint: Any) -> Any:
    """Return a value that fits an annotation and means nothing."""
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


def bodies(action: Action, ids: list[str], texts: list[str]) -> Iterator[dict[str, Any]]:
    """Give inputs of an action that name each of the ids and texts.

    They do so in each field that can name something.
    """
    hints = typing.get_type_hints(action.input)
    fields = dataclasses.fields(action.input)
    values = {
        part.name: sample(hints[part.name])
        for part in fields
        if part.default is dataclasses.MISSING and part.default_factory is dataclasses.MISSING
    }
    yield values
    for part in fields:
        kinds = {
            typing.get_origin(kind) or kind
            for kind in (hints[part.name], *typing.get_args(hints[part.name]))
        }
        if uuid.UUID in kinds:
            yield from ({**values, part.name: key} for key in ids)
        elif list in kinds:
            yield from ({**values, part.name: [value]} for value in itertools.chain(ids[:3], texts))
        elif dict in kinds:
            yield from (
                {**values, part.name: {key: value}} for value in texts for key in _keys(value)
            )
        elif str in kinds:
            yield from ({**values, part.name: value} for value in itertools.chain(texts, ids[:3]))


def _keys(value: str) -> tuple[str, ...]:
    return ("model", "program", "metric", value)


def selection(kind: GraphQLObjectType, depth: int) -> str:
    """Return all fields of a type, and of the objects behind it to a depth."""
    parts = []
    for name, part in kind.fields.items():
        type_ = get_named_type(part.type)
        if is_leaf_type(type_):
            parts.append(name)
        elif is_object_type(type_) and depth:
            parts.append(f"{name} {selection(type_, depth - 1)}")
    return "{ " + " ".join(parts or ["__typename"]) + " }"


def result_of(action: Action) -> tuple[str, str]:
    """Return the kind of operation that an action is in GraphQL.

    With it comes what can be selected of its result.
    """
    kind = "query" if action.scope == "read" else "mutation"
    root = SCHEMA.query_type if kind == "query" else SCHEMA.mutation_type
    assert root is not None
    type_ = get_named_type(root.fields[camel(action.name)].type)
    assert is_object_type(type_)
    return kind, selection(type_, 1)
