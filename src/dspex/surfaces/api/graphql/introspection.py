"""How much a document may ask about the schema itself.

The standard introspection query is deep, and answers some fourteen thousand small fields; tools
send it as it is. What grows without end is a list of types inside a list of types, and the same
question under many names.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from graphql import GraphQLDefaultInput, GraphQLError, GraphQLInputObjectType, GraphQLSchema
from graphql.utilities import get_default_value_ast

ROOTS: Final = frozenset({"__schema", "__type"})
MAX_ROOTS: Final = 3
MAX_DEPTH: Final = 64
MAX_VISITS: Final = 2000
MAX_LISTS: Final = 2
WEIGHT: Final = 5000
"""What one question weighs beside the fields that other parts of a document answer."""
_LISTS: Final = frozenset(
    {"types", "fields", "inputFields", "interfaces", "possibleTypes", "enumValues", "directives"}
)


@dataclass(slots=True)
class Introspection:
    """What one operation asks of the schema: at most three questions, and each without names of its own inside."""

    fragments: Mapping[str, Any]
    roots: int = 0
    visits: int = 0

    def weigh(self, root: Any) -> int:
        """Return what `root`, a field `__schema` or `__type`, weighs.

        Raises:
            GraphQLError: it asks for too much; the message says of what.
        """
        self.roots += 1
        if self.roots > MAX_ROOTS:
            raise _refused(f"{MAX_ROOTS} fields of {' and '.join(sorted(ROOTS))}")
        if root.selection_set is not None:
            self._walk(root.selection_set, _Way())
        return WEIGHT

    def _walk(self, selections: Any, way: "_Way") -> None:
        if way.depth > MAX_DEPTH:
            raise _refused(f"{MAX_DEPTH} levels of introspection")
        for selection in selections.selections:
            self.visits += 1
            if self.visits > MAX_VISITS:
                raise _refused(f"{MAX_VISITS} fields of introspection")
            if selection.kind == "fragment_spread":
                self._spread(selection.name.value, way)
                continue
            if selection.kind == "field" and selection.alias is not None:
                raise GraphQLError(
                    "introspection takes no aliases", extensions={"code": "too_complex"}
                )
            if selection.selection_set is not None:
                is_list = selection.kind == "field" and selection.name.value in _LISTS
                self._walk(selection.selection_set, way.below(lists=is_list))

    def _spread(self, name: str, way: "_Way") -> None:
        if name not in way.names and name in self.fragments:
            self._walk(self.fragments[name].selection_set, way.below(name=name))


@dataclass(frozen=True, slots=True)
class _Way:
    """The way down to a selection: how deep, through how many lists, and inside which fragments."""

    depth: int = 0
    lists: int = 0
    names: frozenset[str] = field(default_factory=frozenset)

    def below(self, *, lists: bool = False, name: str | None = None) -> "_Way":
        count = self.lists + lists
        if count > MAX_LISTS:
            raise _refused(f"{MAX_LISTS} lists of types inside one another")
        return _Way(self.depth + 1, count, self.names if name is None else self.names | {name})


def _refused(what: str) -> GraphQLError:
    return GraphQLError(f"the query has more than {what}", extensions={"code": "too_complex"})


def make_defaults_printable(schema: GraphQLSchema) -> None:
    """Give defaults that are JSON objects or lists the form in which graphql-core can print them."""
    inputs = (kind for kind in schema.type_map.values() if isinstance(kind, GraphQLInputObjectType))
    for part in (part for kind in inputs for part in kind.fields.values()):
        try:
            get_default_value_ast(part)
        except TypeError:
            part.default = GraphQLDefaultInput(value=part.default_value)
