"""Errors of dspex as GraphQL errors whose `extensions` carry the type, the code and the fields."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import strawberry
from graphql import GraphQLError

from dspex.errors import DspexError
from dspex.surfaces.api.answers import extensions_of, is_shown

FAULT = "a fault in dspex; its log says more"
_log = logging.getLogger("dspex.api")


@contextmanager
def as_graphql() -> Iterator[None]:
    """Turn what is raised inside into a GraphQL error; a fault of ours is logged and shown without its details."""
    try:
        yield
    except DspexError as error:
        shown = is_shown(error)
        if not shown:
            _log.error("request failed: %s: %s", type(error).__name__, error.message)
        raise GraphQLError(error.message if shown else FAULT, extensions=extensions_of(error)) from error
    except Exception as error:
        _log.exception("a fault in dspex")
        raise GraphQLError(FAULT, extensions={"code": "internal"}) from error


@strawberry.type(description="One thing that is wrong with one value; `path` leads to it.")
class FieldError:
    """As in `dspex.errors`."""

    field: str
    path: str
    value: str
    message: str
    constraint: str
    expected: str


@strawberry.interface(description="What `errors[].extensions` of a refused action holds; `type` names which of these.")
class ActionError:
    """What all errors of actions have."""

    type: str
    code: str
    retryable: bool
    fields: list[FieldError]
    execution_id: strawberry.ID | None


def _error(name: str, description: str) -> Any:  # noqa: ANN401  # a class made here
    return strawberry.type(type(name, (ActionError,), {"__annotations__": {}}), description=description)


ERROR_TYPES = (
    _error("InvalidError", "The input is wrong; `fields` says where and what would be right."),
    _error("NotFoundError", "There is no such row in this workspace."),
    _error("ConflictError", "The row is in another state, or exists already."),
    _error("ForbiddenError", "The key lacks a scope."),
)
