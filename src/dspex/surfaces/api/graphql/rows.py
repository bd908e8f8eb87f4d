"""How the fields of rows are read: set on the finished schema, because each runs for every row of every list."""

from collections.abc import Callable
from operator import attrgetter
from typing import Any

from graphql import GraphQLObjectType, GraphQLSchema

from dspex.errors import DspexError, NotFoundError
from dspex.operations.framework.domain import Domain
from dspex.operations.framework.resource import Attribute, Calculation, Resource
from dspex.surfaces.api.graphql.errors import as_graphql
from dspex.surfaces.api.graphql.types import camel, pascal


def install_row_resolvers(core: GraphQLSchema, domain: Domain) -> None:
    """Make the fields of all object types read rows directly; relations come from the request's rows, or are loaded."""
    names = {resource.entity: pascal(resource.name) for resource in domain.values()}
    node: Any = core.type_map["Node"]
    node.resolve_type = lambda row, _info, _type: names[type(row)]
    for resource in domain.values():
        made = core.type_map.get(pascal(resource.name))
        if not isinstance(made, GraphQLObjectType):
            continue
        made.is_type_of = None
        for part in resource.shown:
            made.fields[camel(part.name)].resolve = _reader(part)
        for computed in resource.calculations:
            made.fields[camel(computed.attribute.name)].resolve = _computer(computed)
        nullable = {part.name for part in resource.attributes if part.is_nullable}
        for pointer, target in {**resource.references, **resource.pointers}.items():
            may_be_gone = pointer in resource.pointers and pointer in nullable
            made.fields[camel(pointer.removesuffix("_id"))].resolve = _relation(
                pointer, domain[target], may_be_gone=may_be_gone
            )


def _reader(part: Attribute) -> Callable[[Any, Any], Any]:
    get = attrgetter(part.name)
    if part.name != "id":
        return lambda row, _info: get(row)

    def key(row: Any, _info: Any) -> str:
        return str(get(row))

    return key


def _computer(made: Calculation) -> Callable[[Any, Any], Any]:
    compute = made.compute
    return lambda row, _info: compute(row)


def _relation(
    pointer: str, target: Resource[Any], *, may_be_gone: bool
) -> Callable[[Any, Any], Any]:
    """Return what reads the row behind a pointer; None where no foreign key holds it and retention has deleted it."""
    get = attrgetter(pointer)

    def resolve(row: Any, info: Any) -> Any:
        key = get(row)
        if key is None:
            return None
        known = info.context.rows.get(key)
        return load(info.context, key) if known is None else known

    async def load(context: Any, key: Any) -> Any:
        with as_graphql():
            try:
                return await context.load(target, key)
            except NotFoundError:
                if may_be_gone:
                    return None
                raise

    return resolve


async def preload_relations(
    info: Any, resource: Resource[Any], rows: Any, *, domain: Domain
) -> None:
    """Read what the rows of a page point to, as far as the query asks for it, in one query for each relation."""
    try:
        await _read(info, resource, rows, nodes=_elements(info), domain=domain)
    except DspexError:
        return  # the resolver of the relation meets the same error and says where


def unused_json(info: Any, resource: Resource[Any]) -> frozenset[str]:
    """Return the JSON attributes that a page's query does not need, as far as a row can do without them."""
    asked = {
        child.name.value
        for node in _elements(info)
        if node.selection_set is not None
        for child in _fields(info, node.selection_set, seen=frozenset())
    }
    needed = {
        name
        for made in resource.calculations
        if camel(made.attribute.name) in asked
        for name in made.of
    }
    parts = (part for part in resource.attributes if part.kind == "json" and part.is_nullable)
    return frozenset(
        part.name for part in parts if camel(part.name) not in asked and part.name not in needed
    )


def _elements(info: Any) -> list[Any]:
    return [
        node
        for path in (("nodes",), ("edges", "node"))
        for node in _below(info, info.field_nodes, path)
    ]


async def _read(
    info: Any,
    resource: Resource[Any],
    rows: Any,
    *,
    nodes: Any,
    domain: Domain,
) -> None:
    relations = {
        camel(name.removesuffix("_id")): name for name in (*resource.references, *resource.pointers)
    }
    targets = {**resource.references, **resource.pointers}
    for name, pointer in relations.items():
        below = _below(info, nodes, (name,))
        keys = (
            {key for row in rows if (key := getattr(row, pointer)) is not None} if below else set()
        )
        if not keys:
            continue
        target = domain[targets[pointer]]
        found = await info.context.load_all(target, keys)
        await _read(info, target, found, nodes=below, domain=domain)


def _below(info: Any, nodes: Any, path: tuple[str, ...]) -> list[Any]:
    """Return the field nodes at `path` under `nodes`, through fragments."""
    found = list(nodes)
    for name in path:
        found = [
            child
            for node in found
            if node.selection_set is not None
            for child in _fields(info, node.selection_set, seen=frozenset())
            if child.name.value == name
        ]
    return found


def _fields(info: Any, selections: Any, *, seen: frozenset[str]) -> Any:
    for selection in selections.selections:
        if selection.kind == "field":
            yield selection
        elif selection.kind == "inline_fragment":
            yield from _fields(info, selection.selection_set, seen=seen)
        elif selection.name.value not in seen:
            fragment = info.fragments[selection.name.value]
            fragment = getattr(fragment, "definition", fragment)
            yield from _fields(info, fragment.selection_set, seen=seen | {selection.name.value})
