"""Scalars in addition to those of GraphQL; invalid values are errors with their place."""

from collections.abc import Mapping
from typing import Any, Final

import strawberry
from graphql import GraphQLError, ValueNode, value_from_ast_untyped
from strawberry.schema.config import StrawberryConfig
from strawberry.types.scalar import ScalarDefinition

from dspex.error_text import shorten
from dspex.errors import InvalidError
from dspex.operations.framework.attribute_kinds import ATTRIBUTE_KINDS, AttributeKind, Scalar
from dspex.surfaces.api.responses import extensions_of


def _invalid(value: object, expected: str) -> GraphQLError:
    error = InvalidError(f"{shorten(value)} is not {expected}")
    return GraphQLError(error.message, extensions=extensions_of(error))


def _scalar(kind: AttributeKind, scalar: Scalar) -> ScalarDefinition:
    def parse(value: Any) -> Any:
        try:
            return kind.from_json(value)
        except (TypeError, ValueError, OverflowError):
            raise _invalid(value, scalar.expected) from None

    def parse_literal(node: ValueNode, variables: dict[str, Any] | None = None) -> Any:
        try:
            return parse(value_from_ast_untyped(node, variables))
        except GraphQLError as error:  # only this function knows the place
            raise GraphQLError(error.message, node, extensions=error.extensions) from None

    definition: ScalarDefinition = strawberry.scalar(
        name=scalar.name,
        description=scalar.description,
        parse_value=parse,
        parse_literal=parse_literal,
        serialize=scalar.serialize or (lambda value: value),
    )
    return definition


_SCALARS: Final[Mapping[object, ScalarDefinition]] = {
    kind.hints[0]: _scalar(kind, kind.scalar)
    for kind in ATTRIBUTE_KINDS.values()
    if kind.scalar is not None
}


def config() -> StrawberryConfig:
    """Return the configuration of a schema with these scalars."""
    return StrawberryConfig(scalar_map=dict(_SCALARS))
