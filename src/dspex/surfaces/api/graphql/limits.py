"""How much one document may ask for, measured on its syntax tree before anything is validated or run."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from graphql import (
    DocumentNode,
    FragmentDefinitionNode,
    GraphQLError,
    GraphQLInputObjectType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLSchema,
    OperationDefinitionNode,
    type_from_ast,
)

from dspex.surfaces.api.graphql.introspection import ROOTS, Introspection

MAX_SOURCE: Final = 32_768
MAX_TOKENS: Final = 2000
MAX_DEPTH: Final = 15
MAX_FIELDS: Final = 500
MAX_ALIASES: Final = 50
MAX_SAME: Final = 20
MAX_FRAGMENTS: Final = 30
MAX_COMPLEXITY: Final = 20_000
MAX_LISTED: Final = 5000
SORTED: Final = 1000
_BY_AGE: Final = {"NEWEST_FIRST", "OLDEST_FIRST"}
_PAGE: Final = 50


@dataclass(slots=True)
class _Measure:
    fields: int = 0
    aliases: int = 0
    visits: int = 0


@dataclass(frozen=True, slots=True)
class _Walk:
    """A way down: `factor` is how often what is met here is answered."""

    fragments: dict[str, Any]
    found: _Measure
    schema: Introspection
    names: frozenset[str] = field(default_factory=frozenset)
    depth: int = 0
    factor: int = 1


def check(document: DocumentNode) -> None:
    """Do nothing where the document keeps the limits.

    Depth is counted through fragments. Complexity is the number of fields that are answered: those
    inside a page count once for each element that it may have (`first`, or 50 where that is a
    variable or not given). A list in another order than that of age counts as a thousand fields
    more: the database reads every row that could be in it. Questions about the schema have limits
        of their own; see `introspection`.

    Raises:
        GraphQLError: a limit is passed; it is named.
    """
    fragments = {
        part.name.value: part
        for part in document.definitions
        if isinstance(part, FragmentDefinitionNode)
    }
    operations = [
        part for part in document.definitions if isinstance(part, OperationDefinitionNode)
    ]
    _limit("fragments", len(fragments), MAX_FRAGMENTS)
    for operation in operations:
        found = _Measure()
        complexity = _weigh(
            operation.selection_set, _Walk(fragments, found, Introspection(fragments))
        )
        _limit("fields", found.fields, MAX_FIELDS)
        _limit("aliases", found.aliases, MAX_ALIASES)
        _limit("answered fields", complexity, MAX_COMPLEXITY)


def _weigh(selections: Any, walk: _Walk) -> int:
    _limit("levels", walk.depth, MAX_DEPTH)
    same = Counter[str]()
    total = 0
    for selection in selections.selections:
        walk.found.visits += 1
        _limit("visits", walk.found.visits, MAX_FIELDS * 2)
        if selection.kind == "field":
            same[(selection.alias or selection.name).value] += 1
            total += _field(selection, walk)
        elif selection.kind == "inline_fragment":
            total += _weigh(selection.selection_set, _inside(walk))
        else:
            total += _spread(selection.name.value, walk)
    _limit("fields of one name side by side", max(same.values(), default=0), MAX_SAME)
    return total


def _field(selection: Any, walk: _Walk) -> int:
    walk.found.fields += 1
    walk.found.aliases += selection.alias is not None
    if selection.name.value in ROOTS:
        return walk.schema.weigh(selection)
    if selection.selection_set is None:
        return walk.factor
    factor, own = walk.factor, walk.factor * (SORTED if _is_sorted(selection) else 1)
    if selection.name.value in {"nodes", "edges"}:
        return own + _weigh(selection.selection_set, _inside(walk))
    page = _page_of(selection)
    if page is not None:
        factor = min(factor * page, MAX_COMPLEXITY + 1)
    below = _Walk(
        walk.fragments,
        walk.found,
        walk.schema,
        names=walk.names,
        depth=walk.depth + 1,
        factor=factor,
    )
    return own + _weigh(selection.selection_set, below)


def _is_sorted(selection: Any) -> bool:
    orders = (
        argument.value for argument in selection.arguments or () if argument.name.value == "order"
    )
    return any(getattr(order, "value", None) not in _BY_AGE for order in orders)


def _page_of(selection: Any) -> int | None:
    """Return how many elements a page may have, None where the field is no page."""
    names = {
        getattr(part.name, "value", "")
        for part in selection.selection_set.selections
        if part.kind == "field"
    }
    if not names & {"nodes", "edges"}:
        return None
    for argument in selection.arguments or ():
        if (
            argument.name.value == "first"
            and argument.value.kind == "int_value"
            and len(argument.value.value) < 6
        ):
            return max(1, int(argument.value.value))
    return _PAGE


def _spread(name: str, walk: _Walk) -> int:
    if name in walk.names or name not in walk.fragments:
        return 0  # a cycle or an unknown name: validation says which
    inside = _Walk(
        walk.fragments,
        walk.found,
        walk.schema,
        names=walk.names | {name},
        depth=walk.depth + 1,
        factor=walk.factor,
    )
    return _weigh(walk.fragments[name].selection_set, inside)


def _inside(walk: _Walk) -> _Walk:
    return _Walk(
        walk.fragments,
        walk.found,
        walk.schema,
        names=walk.names,
        depth=walk.depth + 1,
        factor=walk.factor,
    )


def _limit(what: str, found: int, most: int) -> None:
    if found > most:
        raise GraphQLError(
            f"the query has more than {most} {what}", extensions={"code": "too_complex"}
        )


def check_variables(
    schema: GraphQLSchema,
    operation: OperationDefinitionNode | None,
    variables: Mapping[str, Any] | None,
) -> None:
    """Raise where variables hold more values than are looked at one by one; what is JSON to the schema is not counted.

    Raises:
        GraphQLError: they do.
    """
    if operation is None or not variables:
        return
    pending: list[tuple[Any, Any]] = [
        (variables.get(part.variable.name.value), type_from_ast(schema, part.type))
        for part in operation.variable_definitions or ()
    ]
    count = 0
    while pending:
        value, type_ = pending.pop()
        while isinstance(type_, GraphQLNonNull):
            type_ = type_.of_type
        if isinstance(type_, GraphQLList) and isinstance(value, list):
            count += len(value)
            _limit("values in lists of variables", count, MAX_LISTED)
            pending.extend((part, type_.of_type) for part in value)
        elif isinstance(type_, GraphQLInputObjectType) and isinstance(value, dict):
            count += len(value)
            _limit("values in variables", count, MAX_LISTED)
            fields = type_.fields
            pending.extend(
                (part, fields[name].type) for name, part in value.items() if name in fields
            )
