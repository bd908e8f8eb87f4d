"""Limits on introspection.

The standard introspection query, which tools send unchanged, is deep and has about 14,000 small
fields in its response. Unbounded are only lists of types inside lists of types, and the same field
under many aliases.
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
"""The complexity of one introspection field; other fields of a document count once each."""
_LISTS: Final = frozenset(
    {"types", "fields", "inputFields", "interfaces", "possibleTypes", "enumValues", "directives"}
)


@dataclass(slots=True)
class Introspection:
    """The introspection of one operation: at most three root fields, without aliases inside."""

    fragments: Mapping[str, Any]
    roots: int = 0
    visits: int = 0

    def weigh(self, root: Any) -> int:
        """Return the complexity of `root`, a field `__schema` or `__type`.

        Raises:
            GraphQLError: a limit is exceeded; the message names it.
        """
        self.roots += 1
        if self.roots > MAX_ROOTS:
            raise _too_complex(f"{MAX_ROOTS} fields of {' and '.join(sorted(ROOTS))}")
        if root.selection_set is not None:
            self._walk(root.selection_set, _Position())
        return WEIGHT

    def _walk(self, selections: Any, position: "_Position") -> None:
        if position.depth > MAX_DEPTH:
            raise _too_complex(f"{MAX_DEPTH} levels of introspection")
        for selection in selections.selections:
            self.visits += 1
            if self.visits > MAX_VISITS:
                raise _too_complex(f"{MAX_VISITS} fields of introspection")
            if selection.kind == "fragment_spread":
                self._spread(selection.name.value, position)
                continue
            if selection.kind == "field" and selection.alias is not None:
                raise GraphQLError(
                    "introspection takes no aliases", extensions={"code": "too_complex"}
                )
            if selection.selection_set is not None:
                is_list = selection.kind == "field" and selection.name.value in _LISTS
                self._walk(selection.selection_set, position.below(lists=is_list))

    def _spread(self, name: str, position: "_Position") -> None:
        if name not in position.names and name in self.fragments:
            self._walk(self.fragments[name].selection_set, position.below(name=name))


@dataclass(frozen=True, slots=True)
class _Position:
    """The position of a selection: its depth, and the lists and fragments around it."""

    depth: int = 0
    lists: int = 0
    names: frozenset[str] = field(default_factory=frozenset)

    def below(self, *, lists: bool = False, name: str | None = None) -> "_Position":
        count = self.lists + lists
        if count > MAX_LISTS:
            raise _too_complex(f"{MAX_LISTS} nested lists of types")
        return _Position(self.depth + 1, count, self.names if name is None else self.names | {name})


def _too_complex(what: str) -> GraphQLError:
    return GraphQLError(f"the query has more than {what}", extensions={"code": "too_complex"})


def make_defaults_printable(schema: GraphQLSchema) -> None:
    """Convert defaults that are JSON objects or lists so that graphql-core can print them."""
    inputs = (kind for kind in schema.type_map.values() if isinstance(kind, GraphQLInputObjectType))
    for part in (part for kind in inputs for part in kind.fields.values()):
        try:
            get_default_value_ast(part)
        except TypeError:
            part.default = GraphQLDefaultInput(value=part.default_value)
