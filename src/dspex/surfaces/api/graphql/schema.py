"""The schema: queries for each resource, a mutation for each action, subscriptions for what happens."""

from collections.abc import Sequence
from functools import cache
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
from dspex.surfaces.api.graphql.types import Node, PageInfo, SchemaTypes, input_of, values_of

Info = strawberry.Info[GraphQLContext, None]


def make_schema(domain: Domain = DOMAIN) -> strawberry.Schema:
    """Return the schema of a whole domain."""
    made = SchemaTypes(domain)
    queries: dict[str, Any] = {"node": _node(made)}
    for resource in domain.values():
        if resource.is_internal:
            continue
        queries[resource.name] = _one(resource, made)
        queries[resource.plural] = _many(resource, made)
    # What needs no more than reading changes nothing: a query, which others may run beside it.
    acts = {action.name: _action(action, made) for action in domain.actions}
    queries |= {
        action.name: acts[action.name] for action in domain.actions if action.scope == "read"
    }
    mutations = {
        action.name: acts[action.name] for action in domain.actions if action.scope != "read"
    }
    schema = strawberry.Schema(
        query=strawberry.type(type("Query", (), queries)),
        mutation=strawberry.type(type("Mutation", (), mutations)),
        subscription=strawberry.type(type("Subscription", (), subscriptions(made))),
        types=[*made.objects.values(), *ERROR_TYPES],
        config=config(),
    )
    install_row_resolvers(core_schema(schema), domain)
    make_defaults_printable(core_schema(schema))
    return schema


def core_schema(schema: strawberry.Schema) -> GraphQLSchema:
    """Return the schema that graphql-core executes."""
    return schema._schema  # noqa: SLF001  # Strawberry has no public name for it


def _node(made: SchemaTypes) -> Any:
    """An id is a UUID that no other row has, so that it is looked for in one table after another."""
    order = ["execution", "program", "program_version"]
    resources = [made.domain[name] for name in order]
    resources += [
        item for item in made.domain.values() if item.name not in order and not item.is_internal
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

    node.__annotations__ = {"info": Info, "id": strawberry.ID, "return": Node | None}
    return strawberry.field(
        resolver=node, description="Any row by its id; null where there is none."
    )


def _one(resource: Resource[Any], made: SchemaTypes) -> Any:
    """By id; where rows have names, by name too (the newest of that name)."""
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

    result = made.objects[resource.name] | None
    if has_name:
        hints = {"info": Info, "id": strawberry.ID | None, "name": str | None, "return": result}
        by_id_or_name.__annotations__ = hints
    else:
        by_id.__annotations__ = {"info": Info, "id": strawberry.ID, "return": result}
    what = resource.name.replace("_", " ")
    description = (
        f"One {what}, by id or name; null where there is none."
        if has_name
        else f"One {what}, by id."
    )
    return strawberry.field(resolver=by_id_or_name if has_name else by_id, description=description)


def _many(resource: Resource[Any], made: SchemaTypes) -> Any:
    orders = made.orders[resource.name]

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
            where = made.where(resource, filter)
            raw = raw_info(info)
            sort, oldest_first = order.value
            wanted = Query(
                where=where,
                limit=first,
                sort=sort,
                oldest_first=oldest_first,
                without=unused_json(raw, resource),
            )
            if after is not None:
                wanted = continue_after(resource, wanted, after)
            found = await info.context.page(resource, wanted)
            await preload_relations(raw, resource, found.rows, domain=made.domain)
            connection = made.connections[resource.name]
            return _page(connection, found.rows, sort, has_more=found.has_more, where=where)

    page.__annotations__ = {
        "info": Info,
        "first": int,
        "after": str | None,
        "filter": made.filters[resource.name] | None,
        "order": orders,
        "return": made.connections[resource.name],
    }
    return strawberry.field(
        resolver=page,
        description=f"{resource.plural.replace('_', ' ').capitalize()}, a page of them.",
    )


def raw_info(info: Any) -> Any:
    """Return graphql-core's view of where in the query a resolver is."""
    return info._raw_info  # noqa: SLF001  # Strawberry has no public name for it


def _page(
    connection: Any,
    rows: Sequence[Any],
    sort: Sort | None,
    *,
    has_more: bool,
    where: dict[str, Any],
) -> Any:
    edges = [connection.edge(node=row, cursor=cursor_of(row, sort)) for row in rows]
    info = PageInfo(has_next_page=has_more, end_cursor=edges[-1].cursor if rows else None)
    return connection(edges=edges, nodes=rows, page_info=info, where=where)


def _action(action: Action, made: SchemaTypes) -> Any:
    async def act(info: Any, input: Any) -> Any:
        with as_graphql():
            given = values_of(action.input, input)
            return await info.context.perform(action, given)

    result = (
        made.objects[action.resource.name]
        if action.result is None
        else _result(made, action.result)
    )
    act.__annotations__ = {
        "info": Info,
        "input": input_of(action.input),
        # Of several mutations in one request, one that is refused leaves the results of the others.
        "return": result if action.scope == "read" else result | None,
    }
    return strawberry.field(resolver=act, description=f"{action.description} {action.terms}")


_result = cache(SchemaTypes.result_of)
