"""Limits on a document, measured on its syntax tree before it is validated or run."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
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
MAX_SAME_NAME: Final = 20
MAX_FRAGMENTS: Final = 30
MAX_COMPLEXITY: Final = 20_000
MAX_VARIABLE_VALUES: Final = 5000
SORT_FACTOR: Final = 1000
_BY_AGE: Final = {"NEWEST_FIRST", "OLDEST_FIRST"}
_DEFAULT_PAGE: Final = 50


@dataclass(slots=True)
class _Counts:
    fields: int = 0
    aliases: int = 0
    visits: int = 0


@dataclass(frozen=True, slots=True)
class _Walk:
    """A position in the tree; each field here occurs `factor` times in the response."""

    fragments: dict[str, Any]
    counts: _Counts
    schema: Introspection
    names: frozenset[str] = field(default_factory=frozenset)
    depth: int = 0
    factor: int = 1


def check_document(document: DocumentNode) -> None:
    """Check that a document is within the limits.

    Depth includes fragments. Complexity is the number of fields in the response: fields inside a
    page count once for each possible element (`first`, or 50 if that is a variable or missing). A
    list in another order than by age counts as a thousand fields more, because the database reads
    every row that could be in it. Introspection has separate limits; see `introspection`.

    Raises:
        GraphQLError: a limit is exceeded; the message names it.
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
        counts = _Counts()
        complexity = _weigh(
            operation.selection_set, _Walk(fragments, counts, Introspection(fragments))
        )
        _limit("fields", counts.fields, MAX_FIELDS)
        _limit("aliases", counts.aliases, MAX_ALIASES)
        _limit("answered fields", complexity, MAX_COMPLEXITY)


def _weigh(selections: Any, walk: _Walk) -> int:
    _limit("levels", walk.depth, MAX_DEPTH)
    same = Counter[str]()
    total = 0
    for selection in selections.selections:
        walk.counts.visits += 1
        _limit("visits", walk.counts.visits, MAX_FIELDS * 2)
        if selection.kind == "field":
            same[(selection.alias or selection.name).value] += 1
            total += _field(selection, walk)
        elif selection.kind == "inline_fragment":
            total += _weigh(selection.selection_set, _inside(walk))
        else:
            total += _spread(selection.name.value, walk)
    _limit("fields of one name side by side", max(same.values(), default=0), MAX_SAME_NAME)
    return total


def _field(selection: Any, walk: _Walk) -> int:
    walk.counts.fields += 1
    walk.counts.aliases += selection.alias is not None
    if selection.name.value in ROOTS:
        return walk.schema.weigh(selection)
    if selection.selection_set is None:
        return walk.factor
    factor, weight = walk.factor, walk.factor * (SORT_FACTOR if _is_sorted(selection) else 1)
    if selection.name.value in {"nodes", "edges"}:
        return weight + _weigh(selection.selection_set, _inside(walk))
    page = _page_of(selection)
    if page is not None:
        factor = min(factor * page, MAX_COMPLEXITY + 1)
    return weight + _weigh(selection.selection_set, _inside(walk, factor=factor))


def _is_sorted(selection: Any) -> bool:
    orders = (
        argument.value for argument in selection.arguments or () if argument.name.value == "order"
    )
    return any(getattr(order, "value", None) not in _BY_AGE for order in orders)


def _page_of(selection: Any) -> int | None:
    """Return how many elements a page may have; None if the field is not a page."""
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
    return _DEFAULT_PAGE


def _spread(name: str, walk: _Walk) -> int:
    if name in walk.names or name not in walk.fragments:
        return 0  # a cycle or an unknown name, which validation reports
    inside = _inside(walk, names=walk.names | {name})
    return _weigh(walk.fragments[name].selection_set, inside)


def _inside(walk: _Walk, **changes: Any) -> _Walk:
    return replace(walk, depth=walk.depth + 1, **changes)


def _limit(what: str, count: int, limit: int) -> None:
    if count > limit:
        raise GraphQLError(
            f"the query has more than {limit} {what}", extensions={"code": "too_complex"}
        )


def check_variables(
    schema: GraphQLSchema,
    operation: OperationDefinitionNode | None,
    variables: Mapping[str, Any] | None,
) -> None:
    """Check the number of values in variables; values inside JSON scalars do not count.

    Raises:
        GraphQLError: there are too many.
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
            _limit("values in lists of variables", count, MAX_VARIABLE_VALUES)
            pending.extend((part, type_.of_type) for part in value)
        elif isinstance(type_, GraphQLInputObjectType) and isinstance(value, dict):
            count += len(value)
            _limit("values in variables", count, MAX_VARIABLE_VALUES)
            fields = type_.fields
            pending.extend(
                (part, fields[name].type) for name, part in value.items() if name in fields
            )
