"""Errors of dspex as GraphQL errors; their `extensions` have the type, the code and the fields."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final
from uuid import UUID

import strawberry
from graphql import ArgumentNode, DocumentNode, GraphQLError, ObjectFieldNode
from graphql.language import Node

from dspex.errors import DspexError, FieldError, InvalidError
from dspex.surfaces.api.responses import FAULT, extensions_of, public_message

_VARIABLE: Final = re.compile(r"Variable '\$(\w+)' has invalid value(?: at (\S+))?:")
_log = logging.getLogger("dspex.api")


@contextmanager
def as_graphql() -> Iterator[None]:
    """Raise exceptions of the block as GraphQL errors; an unexpected one is logged instead."""
    try:
        yield
    except DspexError as error:
        raise GraphQLError(public_message(error), extensions=extensions_of(error)) from error
    except Exception as error:
        _log.exception("a fault in dspex")
        raise GraphQLError(FAULT, extensions={"code": "internal"}) from error


def request_extensions(error: GraphQLError, document: DocumentNode | None = None) -> dict[str, Any]:
    """Return the extensions of an error in a `document` or its variables, found before it ran."""
    extensions = dict(error.extensions or {})
    path = _path_of(error, document)
    if "code" in extensions and (extensions.get("type") != InvalidError.__name__ or not path):
        return extensions
    field = FieldError(
        field=path.rpartition(".")[2].partition("[")[0],
        path=path,
        value=None,
        message=error.message,
        constraint="type",
        expected="what the schema says",
    )
    return extensions_of(InvalidError(error.message, errors=[field] if path else []))


def _path_of(error: GraphQLError, document: DocumentNode | None) -> str:
    """Return the path of the wrong variable or argument; "" if the error is about neither."""
    if match := _VARIABLE.match(error.message):
        return match[1] + (match[2] or "")
    if document is None or not error.nodes:
        return ""
    return ".".join(_path_to(error.nodes[0], document, ()))


def _path_to(target: Node, node: Node, names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of the argument and the object fields around `target`, a node in `node`."""
    if node is target:
        return names
    if isinstance(node, ArgumentNode | ObjectFieldNode):
        names = (*names, node.name.value)
    for key in node.keys:
        part = getattr(node, key)
        for child in part if isinstance(part, list | tuple) else (part,):
            if isinstance(child, Node) and (path := _path_to(target, child, names)):
                return path
    return ()


@strawberry.type(
    name="FieldError", description="One thing that is wrong with one value; `path` leads to it."
)
class FieldErrorType:
    """The fields of `dspex.errors.FieldError`."""

    field: str
    path: str
    value: str
    message: str
    constraint: str
    expected: str


@strawberry.interface(
    name="ActionError",
    description="The `errors[].extensions` of a refused action; `type` names which of these.",
)
class ActionErrorInterface:
    """The fields of all errors of actions."""

    type: str
    code: str
    retryable: bool
    fields: list[FieldErrorType]
    execution_id: UUID | None


def _error(name: str, description: str) -> Any:
    return strawberry.type(
        type(name, (ActionErrorInterface,), {"__annotations__": {}}), description=description
    )


ERROR_TYPES = (
    _error("InvalidError", "The input is wrong; `fields` says where and what would be right."),
    _error("NotFoundError", "There is no such row in this workspace."),
    _error("ConflictError", "The row is in another state, or exists already."),
    _error("NotBetterError", "The trial is not better on rows that its search did not see."),
    _error("ForbiddenError", "The key lacks a scope."),
    _error("QuotaError", "The workspace has stored as much as it may."),
)
