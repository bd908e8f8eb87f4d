"""From a document to its answer."""

import asyncio
import logging
import re
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from inspect import isawaitable
from types import NoneType
from typing import Any, Final, TypeGuard
from uuid import UUID

import msgspec
from graphql import (
    DocumentNode,
    ExecutionResult,
    Executor,
    GraphQLError,
    GraphQLSchema,
    OperationDefinitionNode,
    execute,
    get_operation_ast,
    parse,
    specified_rules,
    subscribe,
    validate,
)
from graphql.pyutils import is_awaitable

from dspex.surfaces.api.graphql.context import GraphQLContext
from dspex.surfaces.api.graphql.errors import refusal
from dspex.surfaces.api.graphql.limits import MAX_SOURCE, MAX_TOKENS, check, check_variables
from dspex.surfaces.api.requests import reject_null_characters
from dspex.surfaces.api.responses import FAULT, timeout_message

REMEMBERED: Final = 256 * 1024  # characters of documents; a tree takes some forty times its text
_LONG_NUMBER: Final = re.compile(r"\d{400}")
_MAX_ERRORS: Final = 20
_log = logging.getLogger("dspex.api")


class GraphQLRequest(msgspec.Struct):
    """A GraphQL request as clients send it."""

    query: str
    variables: dict[str, Any] | None = None
    operationName: str | None = None  # noqa: N815  # its name on the wire
    extensions: dict[str, Any] | None = None


_VALUES: Final = frozenset({str, int, float, bool, NoneType, dict, list, tuple, UUID, datetime})


def _is_awaitable(value: Any) -> TypeGuard[Awaitable[Any]]:
    """Answer for the types of attributes without looking further: this is asked for every field of every row."""
    return type(value) not in _VALUES and is_awaitable(value)


def check_texts(asked: GraphQLRequest) -> None:
    """Do nothing where all texts can be stored.

    Raises:
        InvalidError: one holds the character U+0000.
    """
    reject_null_characters(asked.query.replace("\\u0000", "\0"))
    reject_null_characters(asked.variables)


@dataclass(frozen=True, slots=True)
class PreparedDocument:
    """A document that can be run, or what is wrong with it."""

    document: DocumentNode | None
    errors: list[GraphQLError]


class _EventExecutor(Executor[Any]):
    """Forgets with each event what it collected for it; graphql-core's own keeps that while the subscription lasts."""

    def build_per_event_executor(self, payload: Any) -> Executor[Any]:
        executor = super().build_per_event_executor(payload)
        executor._relevant_sub_fields = {}  # noqa: SLF001  # shared with the copy it was made of
        return executor


class Engine:
    """Runs GraphQL documents. Each is parsed, measured and validated once, and remembered, also where it is wrong."""

    def __init__(self, schema: GraphQLSchema) -> None:
        """Take the schema."""
        self._schema = schema
        self._prepared: OrderedDict[str, PreparedDocument] = OrderedDict()
        self._size = 0

    async def run(self, asked: GraphQLRequest, context: GraphQLContext) -> dict[str, Any]:
        """Return the answer to a query or mutation; what goes wrong is in its `errors`."""
        prepared = self.prepare(asked.query)
        if prepared.document is None:
            return _failed(prepared.errors)
        operation = get_operation_ast(prepared.document, asked.operationName)
        if operation is not None and operation.operation.value == "subscription":
            return _failed(
                [GraphQLError("a subscription is followed at /graphql/stream, or over a websocket")]
            )
        try:
            check_variables(self._schema, operation, asked.variables)
        except GraphQLError as error:
            return _failed([error])
        found = execute(
            self._schema,
            prepared.document,
            context_value=context,
            variable_values=asked.variables,
            operation_name=asked.operationName,
            is_awaitable=_is_awaitable,
        )
        return _answer(await found if isawaitable(found) else found)

    async def stream(
        self,
        asked: GraphQLRequest,
        context: GraphQLContext,
        *,
        check: Callable[[], Awaitable[None]],
        within: float,
    ) -> AsyncIterator[dict[str, Any]]:
        """Give the answers of a subscription as they come, each after `check`.

        A query or mutation gives one answer; after `within` seconds it is cancelled, and the answer
        says so.
        """
        prepared = self.prepare(asked.query)
        operation: OperationDefinitionNode | None = None
        if prepared.document is not None:
            operation = get_operation_ast(prepared.document, asked.operationName)
        if (
            prepared.document is None
            or operation is None
            or operation.operation.value != "subscription"
        ):
            yield await self._within(within, asked, context)
            return
        try:
            check_variables(self._schema, operation, asked.variables)
        except GraphQLError as error:
            yield _failed([error])
            return
        found: Any = subscribe(
            self._schema,
            prepared.document,
            context_value=context,
            variable_values=asked.variables,
            operation_name=asked.operationName,
            executor_class=_EventExecutor,
        )
        found = await found if isawaitable(found) else found
        if isinstance(found, ExecutionResult):
            yield _answer(found)
            return
        try:
            async with aclosing(found) as results:
                async for result in results:
                    await check()
                    yield _answer(result)
        except GraphQLError as error:  # what follows events failed, and has ended
            yield _failed([error])

    async def _within(
        self, seconds: float, asked: GraphQLRequest, context: GraphQLContext
    ) -> dict[str, Any]:
        try:
            async with asyncio.timeout(seconds):
                return await self.run(asked, context)
        except TimeoutError:
            return _failed([GraphQLError(timeout_message(seconds), extensions={"code": "timeout"})])

    def remembered(self) -> tuple[str, ...]:
        """Return the documents that are remembered, the one asked longest ago first."""
        return tuple(self._prepared)

    def prepare(self, source: str) -> PreparedDocument:
        """Return a document parsed, measured and validated, or what is wrong with it."""
        known = self._prepared.get(source)
        if known is not None:
            self._prepared.move_to_end(source)
            return known
        if len(source) > MAX_SOURCE:
            return _refused(f"the query is longer than {MAX_SOURCE} characters")
        made = self._prepared[source] = self._read(source)
        self._size += len(source)
        while self._size > REMEMBERED:
            oldest, _ = self._prepared.popitem(last=False)
            self._size -= len(oldest)
        return made

    def _read(self, source: str) -> PreparedDocument:
        if _LONG_NUMBER.search(source):
            return _refused("the query holds a number of 400 digits or more; give it as a variable")
        try:
            document = parse(source, max_tokens=MAX_TOKENS)
            check(document)
            errors = validate(self._schema, document, specified_rules, max_errors=_MAX_ERRORS)
            for error in errors:
                error.extensions = refusal(error, document)
        except GraphQLError as error:
            return PreparedDocument(None, [error])
        except RecursionError:
            return _refused("the query is nested too deeply")
        return PreparedDocument(None if errors else document, errors)


def _refused(message: str) -> PreparedDocument:
    return PreparedDocument(None, [GraphQLError(message, extensions={"code": "too_complex"})])


def _failed(errors: list[GraphQLError]) -> dict[str, Any]:
    return {"data": None, "errors": [_formatted(error) for error in errors]}


def _answer(result: Any) -> dict[str, Any]:
    if not result.errors:
        return {"data": result.data}
    return {"data": result.data, "errors": [_formatted(error) for error in result.errors]}


def _formatted(error: GraphQLError) -> Mapping[str, Any]:
    """Return an error as clients see it; one that nobody meant for them is logged and shown without its details."""
    cause = error.original_error
    if cause is not None and not isinstance(cause, GraphQLError):
        _log.error("a fault in dspex", exc_info=cause)
        return {"message": FAULT, "path": error.path, "extensions": {"code": "internal"}}
    shown = error.formatted
    return shown if error.path else {**shown, "extensions": refusal(error)}
