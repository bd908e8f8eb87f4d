"""Fast resolvers for the fields of rows, which run for every row of every list."""

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
    """Make all object types read rows directly, and relations from the rows of the request."""
    names = {resource.entity: pascal(resource.name) for resource in domain.values()}
    node: Any = core.type_map["Node"]
    node.resolve_type = lambda row, _info, _type: names[type(row)]
    for resource in domain.values():
        type_ = core.type_map.get(pascal(resource.name))
        if not isinstance(type_, GraphQLObjectType):
            continue
        type_.is_type_of = None
        for part in resource.public_attributes:
            redact = resource.redactions.get(part.name)
            type_.fields[camel(part.name)].resolve = (
                _reader(part) if redact is None else _redacting_reader(part, redact)
            )
        for calculation in resource.calculations:
            type_.fields[camel(calculation.attribute.name)].resolve = _calculator(calculation)
        nullable = {part.name for part in resource.attributes if part.is_nullable}
        for pointer, target in {**resource.references, **resource.pointers}.items():
            is_optional = pointer in resource.pointers and pointer in nullable
            type_.fields[camel(pointer.removesuffix("_id"))].resolve = _relation(
                pointer, domain[target], is_optional=is_optional
            )


def _reader(part: Attribute) -> Callable[[Any, Any], Any]:
    get = attrgetter(part.name)
    if part.name != "id":
        return lambda row, _info: get(row)

    def key(row: Any, _info: Any) -> str:
        return str(get(row))

    return key


def _redacting_reader(part: Attribute, redact: Callable[[Any], Any]) -> Callable[[Any, Any], Any]:
    get = attrgetter(part.name)

    def read(row: Any, info: Any) -> Any:
        is_admin = info.context.operations.actor.may("admin")
        return get(row) if is_admin else redact(get(row))

    return read


def _calculator(calculation: Calculation) -> Callable[[Any, Any], Any]:
    compute = calculation.compute
    return lambda row, _info: compute(row)


def _relation(
    pointer: str, target: Resource[Any], *, is_optional: bool
) -> Callable[[Any, Any], Any]:
    """Return the resolver of a relation; an optional one may point to a deleted row."""
    get = attrgetter(pointer)

    def resolve(row: Any, info: Any) -> Any:
        key = get(row)
        if key is None:
            return None
        loaded = info.context.rows.get(key)
        return load(info.context, key) if loaded is None else loaded

    async def load(context: Any, key: Any) -> Any:
        with as_graphql():
            try:
                return await context.load(target, key)
            except NotFoundError:
                if is_optional:
                    return None
                raise

    return resolve


async def preload_relations(
    info: Any, resource: Resource[Any], rows: Any, *, domain: Domain
) -> None:
    """Load the relations of a page that the query selects, with one database query for each."""
    try:
        await _load_relations(info, resource, rows, nodes=_elements(info), domain=domain)
    except DspexError:
        return  # the resolver of the relation raises it again, with its path


def unused_json(info: Any, resource: Resource[Any]) -> frozenset[str]:
    """Return the nullable JSON attributes that the query of a page does not need."""
    selected = {
        child.name.value
        for node in _elements(info)
        if node.selection_set is not None
        for child in _fields(info, node.selection_set, visited=frozenset())
    }
    sources = {
        name
        for calculation in resource.calculations
        if camel(calculation.attribute.name) in selected
        for name in calculation.of
    }
    parts = (part for part in resource.attributes if part.kind == "json" and part.is_nullable)
    return frozenset(
        part.name for part in parts if camel(part.name) not in selected and part.name not in sources
    )


def _elements(info: Any) -> list[Any]:
    return [
        node
        for path in (("nodes",), ("edges", "node"))
        for node in _below(info, info.field_nodes, path)
    ]


async def _load_relations(
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
        loaded = await info.context.load_all(target, keys)
        await _load_relations(info, target, loaded, nodes=below, domain=domain)


def _below(info: Any, nodes: Any, path: tuple[str, ...]) -> list[Any]:
    """Return the field nodes at `path` under `nodes`, through fragments."""
    for name in path:
        nodes = [
            child
            for node in nodes
            if node.selection_set is not None
            for child in _fields(info, node.selection_set, visited=frozenset())
            if child.name.value == name
        ]
    return list(nodes)


def _fields(info: Any, selections: Any, *, visited: frozenset[str]) -> Any:
    for selection in selections.selections:
        if selection.kind == "field":
            yield selection
        elif selection.kind == "inline_fragment":
            yield from _fields(info, selection.selection_set, visited=visited)
        elif selection.name.value not in visited:
            fragment = info.fragments[selection.name.value]
            fragment = getattr(fragment, "definition", fragment)
            yield from _fields(
                info, fragment.selection_set, visited=visited | {selection.name.value}
            )
