"""The schema: queries for each resource, a mutation for each action."""

from collections.abc import Sequence
from typing import Any

import strawberry
from graphql import GraphQLError
from strawberry.extensions import MaxTokensLimiter, ParserCache, ValidationCache
from strawberry.types import ExecutionContext

from dspex.errors import InvalidError
from dspex.operations.resources import DOMAIN, Action, Query, Resource
from dspex.surfaces.api.graphql.errors import as_graphql
from dspex.surfaces.api.graphql.request import Request
from dspex.surfaces.api.graphql.types import PageInfo, Types, input_of, uuid_of, values_of

Info = strawberry.Info[Request, None]
MAX_TOKENS = 2000
MAX_PAGE = 200


class _Schema(strawberry.Schema):
    """Errors are translated, and faults of ours logged, where they are raised (`as_graphql`); not once more here."""

    def process_errors(self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None) -> None:
        """Do nothing."""


def make_schema() -> strawberry.Schema:
    """Return the schema of the whole domain."""
    made = Types(DOMAIN)
    queries: dict[str, Any] = {}
    for resource in DOMAIN.values():
        if resource.is_internal:
            continue
        queries[resource.name] = _one(resource, made)
        queries[resource.plural] = _many(resource, made)
    mutations = {action.name: _mutation(action, made) for action in DOMAIN.actions}
    return _Schema(
        query=strawberry.type(type("Query", (), queries)),
        mutation=strawberry.type(type("Mutation", (), mutations)),
        extensions=[
            lambda: ParserCache(maxsize=128),
            lambda: ValidationCache(maxsize=128),
            lambda: MaxTokensLimiter(max_token_count=MAX_TOKENS),
        ],
    )


def _one(resource: Resource[Any], made: Types) -> Any:  # noqa: ANN401  # a field made here
    """By id; where rows have names, by name too (the newest of that name)."""
    has_name = any(part.name == "name" for part in resource.attributes)

    async def by_id_or_name(info: Any, id: Any = None, name: str | None = None) -> Any:  # noqa: ANN401
        with as_graphql():
            if (id is None) == (name is None):
                raise InvalidError("give either the id or the name")
            where = {"id": uuid_of(id, "id")} if id is not None else {"name": name}
            rows = await info.context.operations.list(resource, Query(where=where, limit=1))
            return made.of_row(resource, rows[0]) if rows else None

    async def by_id(info: Any, id: Any) -> Any:  # noqa: ANN401
        return await by_id_or_name(info, id)

    result = made.objects[resource.name] | None
    if has_name:
        hints = {"info": Info, "id": strawberry.ID | None, "name": str | None, "return": result}
        by_id_or_name.__annotations__ = hints
    else:
        by_id.__annotations__ = {"info": Info, "id": strawberry.ID, "return": result}
    what = resource.name.replace("_", " ")
    description = f"One {what}, by id or name; null where there is none." if has_name else f"One {what}, by id."
    return strawberry.field(resolver=by_id_or_name if has_name else by_id, description=description)


def _many(resource: Resource[Any], made: Types) -> Any:  # noqa: ANN401
    async def page(info: Any, *, first: int = 50, after: str | None = None, filter: Any = None) -> Any:  # noqa: ANN401
        with as_graphql():
            if not 1 <= first <= MAX_PAGE:
                raise InvalidError(f"first: a page has 1 to {MAX_PAGE} elements, not {first}")
            where = made.where(resource, filter)
            cursor = uuid_of(after, "after") if after is not None else None
            operations = info.context.operations
            rows = await operations.list(resource, Query(where=where, after=cursor, limit=first + 1))
            return _page(resource, made, rows, first=first, where=where)

    page.__annotations__ = {
        "info": Info,
        "first": int,
        "after": str | None,
        "filter": made.filters[resource.name] | None,
        "return": made.connections[resource.name],
    }
    return strawberry.field(
        resolver=page, description=f"{resource.plural.replace('_', ' ').capitalize()}, newest first."
    )


def _page(resource: Resource[Any], made: Types, rows: Sequence[Any], *, first: int, where: dict[str, Any]) -> Any:  # noqa: ANN401
    shown = [made.of_row(resource, row) for row in rows[:first]]
    connection = made.connections[resource.name]
    edges = [connection.edge(node=node, cursor=node.id) for node in shown]
    info = PageInfo(has_next_page=len(rows) > first, end_cursor=shown[-1].id if shown else None)
    return connection(edges=edges, nodes=shown, page_info=info, where=where)


def _mutation(action: Action, made: Types) -> Any:  # noqa: ANN401
    async def act(info: Any, input: Any) -> Any:  # noqa: ANN401
        with as_graphql():
            given = values_of(action.input, input)
            return made.of_row(action.resource, await info.context.operations.perform(action, given))

    act.__annotations__ = {
        "info": Info,
        "input": input_of(action.input),
        "return": made.objects[action.resource.name],
    }
    return strawberry.mutation(resolver=act, description=action.description)
