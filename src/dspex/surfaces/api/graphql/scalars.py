"""Scalars in addition to those of GraphQL; invalid values are errors with their place."""

import math
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, Final
from uuid import UUID

import strawberry
from graphql import GraphQLError, ValueNode, value_from_ast_untyped
from strawberry.schema.config import StrawberryConfig
from strawberry.types.scalar import ScalarDefinition

from dspex.error_text import shorten
from dspex.errors import InvalidError
from dspex.operations.framework.resource import LONGEST_EMBEDDING, Embedding, Probability
from dspex.surfaces.api.responses import extensions_of

_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(-?[0-9a-fA-F]{4}){3}-?[0-9a-fA-F]{12}")


def _invalid(value: object, expected: str) -> GraphQLError:
    error = InvalidError(f"{shorten(value)} is not {expected}")
    return GraphQLError(error.message, extensions=extensions_of(error))


def _uuid(value: Any) -> UUID:
    if not isinstance(value, str) or not _UUID.fullmatch(value):
        raise _invalid(value, "a UUID such as 01a204e7-d265-770f-a3da-97f8004ff7a9")
    return UUID(value)


def _moment(value: Any) -> datetime:
    try:
        moment = datetime.fromisoformat(value)
        if moment.utcoffset() is not None:
            return moment
    except (TypeError, ValueError):
        pass
    raise _invalid(value, "a time with its zone, such as 2030-01-31T12:00:00Z")


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # too large for a float
        return False


def _probability(value: Any) -> float:
    if not _is_number(value) or not 0 <= value <= 1:
        raise _invalid(value, "a number from 0 to 1")
    return float(value)


def _embedding(value: Any) -> list[float]:
    if (
        not isinstance(value, list)
        or not 1 <= len(value) <= LONGEST_EMBEDDING
        or not all(map(_is_number, value))
    ):
        raise _invalid(value, f"a list of 1 to {LONGEST_EMBEDDING} finite numbers")
    return [float(number) for number in value]


@lru_cache(maxsize=4096)  # many rows of a page have the same times
def _format_moment(value: datetime) -> str:
    return value.isoformat()


def _scalar(
    name: str,
    description: str,
    *,
    parse: Callable[[Any], Any],
    serialize: Callable[[Any], Any] | None = None,
) -> ScalarDefinition:
    def parse_literal(node: ValueNode, variables: dict[str, Any] | None = None) -> Any:
        try:
            return parse(value_from_ast_untyped(node, variables))
        except GraphQLError as error:  # only this function knows the place
            raise GraphQLError(error.message, node, extensions=error.extensions) from None

    scalar: ScalarDefinition = strawberry.scalar(
        name=name,
        description=description,
        parse_value=parse,
        parse_literal=parse_literal,
        serialize=serialize or (lambda value: value),
    )
    return scalar


_SCALARS: Final[Mapping[object, ScalarDefinition]] = {
    UUID: _scalar(
        "UUID",
        "The id of a row elsewhere in the answer or the database.",
        parse=_uuid,
        serialize=str,
    ),
    datetime: _scalar(
        "DateTime", "A moment with its zone (ISO 8601).", parse=_moment, serialize=_format_moment
    ),
    Probability: _scalar("Probability", "A number from 0 to 1.", parse=_probability),
    Embedding: _scalar(
        "Embedding",
        "A vector: a list of finite numbers, as long as its field says.",
        parse=_embedding,
    ),
}


def config() -> StrawberryConfig:
    """Return the configuration of a schema with these scalars."""
    return StrawberryConfig(scalar_map=dict(_SCALARS))
