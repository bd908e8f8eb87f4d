"""Errors of dspex as GraphQL errors whose `extensions` carry the type, the code and the fields."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final
from uuid import UUID

import strawberry
from graphql import ArgumentNode, DocumentNode, GraphQLError, ObjectFieldNode
from graphql.language import Node

from dspex.errors import DspexError, InvalidError
from dspex.errors import FieldError as WrongField
from dspex.surfaces.api.responses import FAULT, extensions_of, public_message

_VARIABLE: Final = re.compile(r"Variable '\$(\w+)' has invalid value(?: at (\S+))?:")
_log = logging.getLogger("dspex.api")


@contextmanager
def as_graphql() -> Iterator[None]:
    """Turn what is raised inside into a GraphQL error; a fault of ours is logged and shown without its details."""
    try:
        yield
    except DspexError as error:
        raise GraphQLError(public_message(error), extensions=extensions_of(error)) from error
    except Exception as error:
        _log.exception("a fault in dspex")
        raise GraphQLError(FAULT, extensions={"code": "internal"}) from error


def refusal(error: GraphQLError, document: DocumentNode | None = None) -> dict[str, Any]:
    """Return the extensions of an error found before anything ran: the `document` or its variables do not fit."""
    given = dict(error.extensions or {})
    path = _path_of(error, document)
    if "code" in given and (given.get("type") != InvalidError.__name__ or not path):
        return given
    field = WrongField(
        field=path.rpartition(".")[2].partition("[")[0],
        path=path,
        value=None,
        message=error.message,
        constraint="type",
        expected="what the schema says",
    )
    return extensions_of(InvalidError(error.message, errors=[field] if path else []))


def _path_of(error: GraphQLError, document: DocumentNode | None) -> str:
    """Return which variable, or argument of a field, is wrong, with the way into it; "" where none is."""
    if found := _VARIABLE.match(error.message):
        return found[1] + (found[2] or "")
    if document is None or not error.nodes:
        return ""
    return ".".join(_way(document, error.nodes[0], ()))


def _way(node: Node, wanted: Node, names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of the argument and the fields of objects around a value."""
    if node is wanted:
        return names
    if isinstance(node, ArgumentNode | ObjectFieldNode):
        names = (*names, node.name.value)
    for key in node.keys:
        part = getattr(node, key)
        for child in part if isinstance(part, list | tuple) else (part,):
            if isinstance(child, Node) and (found := _way(child, wanted, names)):
                return found
    return ()


@strawberry.type(description="One thing that is wrong with one value; `path` leads to it.")
class FieldError:
    """As in `dspex.errors`."""

    field: str
    path: str
    value: str
    message: str
    constraint: str
    expected: str


@strawberry.interface(
    description="What `errors[].extensions` of a refused action holds; `type` names which of these."
)
class ActionError:
    """What all errors of actions have."""

    type: str
    code: str
    retryable: bool
    fields: list[FieldError]
    execution_id: UUID | None


def _error(name: str, description: str) -> Any:
    return strawberry.type(
        type(name, (ActionError,), {"__annotations__": {}}), description=description
    )


ERROR_TYPES = (
    _error("InvalidError", "The input is wrong; `fields` says where and what would be right."),
    _error("NotFoundError", "There is no such row in this workspace."),
    _error("ConflictError", "The row is in another state, or exists already."),
    _error("ForbiddenError", "The key lacks a scope."),
    _error("QuotaError", "The workspace has stored as much as it may."),
)
