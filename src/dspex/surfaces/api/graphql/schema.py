"""The schema: queries for each resource, mutations for actions, subscriptions for events."""

from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any

import strawberry
from graphql import GraphQLSchema

from dspex.errors import InvalidError
from dspex.operations.domain import DOMAIN
from dspex.operations.framework.action import Action
from dspex.operations.framework.domain import Domain
from dspex.operations.framework.query_arguments import MAX_PAGE, continue_after, cursor_of, id_from
from dspex.operations.framework.resource import Resource
from dspex.operations.framework.store import Query, Sort
from dspex.surfaces.api.graphql.context import GraphQLContext
from dspex.surfaces.api.graphql.errors import ERROR_TYPES, as_graphql
from dspex.surfaces.api.graphql.introspection import make_defaults_printable
from dspex.surfaces.api.graphql.rows import install_row_resolvers, preload_relations, unused_json
from dspex.surfaces.api.graphql.scalars import config
from dspex.surfaces.api.graphql.subscriptions import subscriptions
from dspex.surfaces.api.graphql.types import (
    NodeInterface,
    PageInfo,
    SchemaTypes,
    action_input,
    input_of,
)

Info = strawberry.Info[GraphQLContext, None]


@lru_cache(maxsize=8)  # it takes a third of a second
def make_schema(domain: Domain = DOMAIN) -> strawberry.Schema:
    """Return the schema of a whole domain; it is shared, so do not change it."""
    types = SchemaTypes(domain)
    queries: dict[str, Any] = {"node": _node(types)}
    for resource in domain.values():
        if resource.is_internal:
            continue
        queries[resource.name] = _one(resource, types)
        queries[resource.plural] = _many(resource, types)
    # An action with the scope "read" changes nothing: it is a query, and runs beside others.
    fields = {action.name: _action(action, types) for action in domain.actions}
    queries |= {
        action.name: fields[action.name] for action in domain.actions if action.scope == "read"
    }
    mutations = {
        action.name: fields[action.name] for action in domain.actions if action.scope != "read"
    }
    schema = strawberry.Schema(
        query=strawberry.type(type("Query", (), queries)),
        mutation=strawberry.type(type("Mutation", (), mutations)),
        subscription=strawberry.type(type("Subscription", (), subscriptions(types))),
        types=[
            *(types.objects[item.name] for item in domain.values() if not item.is_internal),
            *ERROR_TYPES,
        ],
        config=config(),
    )
    install_row_resolvers(core_schema(schema), domain)
    make_defaults_printable(core_schema(schema))
    return schema


def core_schema(schema: strawberry.Schema) -> GraphQLSchema:
    """Return the schema that graphql-core executes."""
    return schema._schema  # noqa: SLF001  # Strawberry has no public name for it


def _node(types: SchemaTypes) -> Any:
    """Return the field that finds any row by its id, searching one table after another."""
    order = ["execution", "program", "program_version"]
    resources = [types.domain[name] for name in order]
    resources += [
        item for item in types.domain.values() if item.name not in order and not item.is_internal
    ]

    async def node(info: Any, id: Any) -> Any:
        with as_graphql():
            key = id_from(id, "id")
            operations = info.context.operations
            for resource in filter(operations.may_read, resources):
                if rows := (
                    await info.context.page(resource, Query(where={"id": key}, limit=1))
                ).rows:
                    return rows[0]
            return None

    node.__annotations__ = {"info": Info, "id": strawberry.ID, "return": NodeInterface | None}
    return strawberry.field(
        resolver=node, description="Any row by its id; null if it does not exist."
    )


def _one(resource: Resource[Any], types: SchemaTypes) -> Any:
    """Return the field for one row, by id or by name (the newest row of that name)."""
    has_name = any(part.name == "name" for part in resource.attributes)

    async def by_id_or_name(info: Any, id: Any = None, name: str | None = None) -> Any:
        with as_graphql():
            if (id is None) == (name is None):
                raise InvalidError("give either the id or the name")
            where = {"id": id_from(id, "id")} if id is not None else {"name": name}
            rows = (await info.context.page(resource, Query(where=where, limit=1))).rows
            return rows[0] if rows else None

    async def by_id(info: Any, id: Any) -> Any:
        return await by_id_or_name(info, id)

    result = types.objects[resource.name] | None
    if has_name:
        hints = {"info": Info, "id": strawberry.ID | None, "name": str | None, "return": result}
        by_id_or_name.__annotations__ = hints
    else:
        by_id.__annotations__ = {"info": Info, "id": strawberry.ID, "return": result}
    what = resource.name.replace("_", " ")
    description = (
        f"One {what}, by id or name; null if it does not exist."
        if has_name
        else f"One {what}, by id."
    )
    return strawberry.field(resolver=by_id_or_name if has_name else by_id, description=description)


def _many(resource: Resource[Any], types: SchemaTypes) -> Any:
    orders = types.orders[resource.name]

    async def page(
        info: Any,
        *,
        first: int = 50,
        after: str | None = None,
        filter: Any = None,
        order: Any = orders.NEWEST_FIRST,
    ) -> Any:
        with as_graphql():
            if not 1 <= first <= MAX_PAGE:
                raise InvalidError(f"first: a page has 1 to {MAX_PAGE} elements, not {first}")
            where = types.where(resource, filter)
            raw = raw_info(info)
            sort, oldest_first = order.value
            query = Query(
                where=where,
                limit=first,
                sort=sort,
                oldest_first=oldest_first,
                without=unused_json(raw, resource),
            )
            if after is not None:
                query = continue_after(resource, query, after)
            rows_page = await info.context.page(resource, query)
            await preload_relations(raw, resource, rows_page.rows, domain=types.domain)
            connection = types.connections[resource.name]
            return _connection(
                connection, rows_page.rows, sort, has_more=rows_page.has_more, where=where
            )

    page.__annotations__ = {
        "info": Info,
        "first": int,
        "after": str | None,
        "filter": types.filters[resource.name] | None,
        "order": orders,
        "return": types.connections[resource.name],
    }
    return strawberry.field(
        resolver=page,
        description=f"{resource.plural.replace('_', ' ').capitalize()}, a page of them.",
    )


def raw_info(info: Any) -> Any:
    """Return graphql-core's `info` of a resolver."""
    return info._raw_info  # noqa: SLF001  # Strawberry has no public name for it


def _connection(
    cls: Any,
    rows: Sequence[Any],
    sort: Sort | None,
    *,
    has_more: bool,
    where: dict[str, Any],
) -> Any:
    edges = [cls.edge(node=row, cursor=cursor_of(row, sort)) for row in rows]
    info = PageInfo(has_next_page=has_more, end_cursor=edges[-1].cursor if rows else None)
    return cls(edges=edges, nodes=rows, page_info=info, where=where)


def _action(action: Action[Any, Any], types: SchemaTypes) -> Any:
    async def resolve(info: Any, input: Any) -> Any:
        with as_graphql():
            return await info.context.perform(action, action_input(action.input, input))

    result = (
        types.objects[action.resource.name]
        if action.result is None
        else _result(types, action.result)
    )
    resolve.__annotations__ = {
        "info": Info,
        "input": input_of(action.input),
        # Nullable, so that a failed mutation leaves the results of others in the same request.
        "return": result if action.scope == "read" else result | None,
    }
    return strawberry.field(resolver=resolve, description=f"{action.description} {action.terms}")


_result = cache(SchemaTypes.result_of)
