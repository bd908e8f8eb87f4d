"""The engine that runs GraphQL documents."""

import asyncio
import logging
import re
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from inspect import isawaitable
from types import NoneType
from typing import Any, Final, TypeGuard

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

from dspex.operations.framework.attribute_kinds import ATTRIBUTE_KINDS
from dspex.surfaces.api.graphql.context import GraphQLContext
from dspex.surfaces.api.graphql.errors import request_extensions
from dspex.surfaces.api.graphql.limits import (
    MAX_SOURCE,
    MAX_TOKENS,
    check_document,
    check_variables,
)
from dspex.surfaces.api.requests import reject_null_characters
from dspex.surfaces.api.responses import FAULT, timeout_message

CACHE_CHARACTERS: Final = 256 * 1024  # of documents; a syntax tree takes about 40 times as much
_LONG_NUMBER: Final = re.compile(r"\d{400}")
_MAX_ERRORS: Final = 20
_log = logging.getLogger("dspex.api")


class GraphQLRequest(msgspec.Struct):
    """A GraphQL request, as clients send it."""

    query: str
    variables: dict[str, Any] | None = None
    operationName: str | None = None  # noqa: N815  # the name in the protocol
    extensions: dict[str, Any] | None = None


_VALUES: Final = frozenset({NoneType, tuple}).union(
    hint for kind in ATTRIBUTE_KINDS.values() for hint in kind.hints if isinstance(hint, type)
)


def _is_awaitable(value: Any) -> TypeGuard[Awaitable[Any]]:
    """Return whether a value is awaitable; fast for attributes of rows."""
    return type(value) not in _VALUES and is_awaitable(value)


def check_texts(request: GraphQLRequest) -> None:
    """Check that all texts can be stored.

    Raises:
        InvalidError: a text contains the character U+0000.
    """
    reject_null_characters(request.query.replace("\\u0000", "\0"))
    reject_null_characters(request.variables)


@dataclass(frozen=True, slots=True)
class PreparedDocument:
    """A document that can be run, or its errors."""

    document: DocumentNode | None
    errors: list[GraphQLError]


class _EventExecutor(Executor[Any]):
    """Drops the collected fields of past events, which graphql-core would keep."""

    def build_per_event_executor(self, payload: Any) -> Executor[Any]:
        executor = super().build_per_event_executor(payload)
        executor._relevant_sub_fields = {}  # noqa: SLF001  # shared by all copies of an executor
        return executor


class Engine:
    """Runs GraphQL documents; each is parsed, measured and validated once, and cached."""

    def __init__(self, schema: GraphQLSchema) -> None:
        """Take the schema."""
        self._schema = schema
        self._documents: OrderedDict[str, PreparedDocument] = OrderedDict()
        self._characters = 0

    async def run(self, request: GraphQLRequest, context: GraphQLContext) -> dict[str, Any]:
        """Return the response to a query or mutation; failures are in its `errors`."""
        prepared = self.prepare(request.query)
        if prepared.document is None:
            return _failed(prepared.errors)
        operation = get_operation_ast(prepared.document, request.operationName)
        if operation is not None and operation.operation.value == "subscription":
            return _failed(
                [GraphQLError("send a subscription to /graphql/stream, or over a websocket")]
            )
        try:
            check_variables(self._schema, operation, request.variables)
        except GraphQLError as error:
            return _failed([error])
        result = execute(
            self._schema,
            prepared.document,
            context_value=context,
            variable_values=request.variables,
            operation_name=request.operationName,
            is_awaitable=_is_awaitable,
        )
        return _response(await result if isawaitable(result) else result)

    async def stream(
        self,
        request: GraphQLRequest,
        context: GraphQLContext,
        *,
        check: Callable[[], Awaitable[None]],
        timeout_s: float,
    ) -> AsyncIterator[dict[str, Any]]:
        """Yield the responses of a subscription as events occur, each after `check`.

        A query or mutation has one response; after `timeout_s` seconds it is cancelled, and the
        response is an error.
        """
        prepared = self.prepare(request.query)
        operation: OperationDefinitionNode | None = None
        if prepared.document is not None:
            operation = get_operation_ast(prepared.document, request.operationName)
        if (
            prepared.document is None
            or operation is None
            or operation.operation.value != "subscription"
        ):
            yield await self._run_in_time(request, context, seconds=timeout_s)
            return
        try:
            check_variables(self._schema, operation, request.variables)
        except GraphQLError as error:
            yield _failed([error])
            return
        subscription: Any = subscribe(
            self._schema,
            prepared.document,
            context_value=context,
            variable_values=request.variables,
            operation_name=request.operationName,
            executor_class=_EventExecutor,
        )
        subscription = await subscription if isawaitable(subscription) else subscription
        if isinstance(subscription, ExecutionResult):
            yield _response(subscription)
            return
        try:
            async with aclosing(subscription) as results:
                async for result in results:
                    await check()
                    yield _response(result)
        except GraphQLError as error:  # the source of the events has failed
            yield _failed([error])

    async def _run_in_time(
        self, request: GraphQLRequest, context: GraphQLContext, *, seconds: float
    ) -> dict[str, Any]:
        try:
            async with asyncio.timeout(seconds):
                return await self.run(request, context)
        except TimeoutError:
            return _failed([GraphQLError(timeout_message(seconds), extensions={"code": "timeout"})])

    @property
    def cached_documents(self) -> tuple[str, ...]:
        """The cached documents, the least recently used first."""
        return tuple(self._documents)

    def prepare(self, source: str) -> PreparedDocument:
        """Return a document after parsing, measuring and validating it, or its errors."""
        prepared = self._documents.get(source)
        if prepared is not None:
            self._documents.move_to_end(source)
            return prepared
        if len(source) > MAX_SOURCE:
            return _too_complex(f"the query is longer than {MAX_SOURCE} characters")
        prepared = self._documents[source] = self._parse(source)
        self._characters += len(source)
        while self._characters > CACHE_CHARACTERS:
            oldest, _ = self._documents.popitem(last=False)
            self._characters -= len(oldest)
        return prepared

    def _parse(self, source: str) -> PreparedDocument:
        if _LONG_NUMBER.search(source):
            return _too_complex(
                "the query contains a number of 400 digits or more; send it as a variable"
            )
        try:
            document = parse(source, max_tokens=MAX_TOKENS)
            check_document(document)
            errors = validate(self._schema, document, specified_rules, max_errors=_MAX_ERRORS)
            for error in errors:
                error.extensions = request_extensions(error, document)
        except GraphQLError as error:
            return PreparedDocument(None, [error])
        except RecursionError:
            return _too_complex("the query is nested too deeply")
        return PreparedDocument(None if errors else document, errors)


def _too_complex(message: str) -> PreparedDocument:
    return PreparedDocument(None, [GraphQLError(message, extensions={"code": "too_complex"})])


def _failed(errors: list[GraphQLError]) -> dict[str, Any]:
    return {"data": None, "errors": [_formatted(error) for error in errors]}


def _response(result: Any) -> dict[str, Any]:
    if not result.errors:
        return {"data": result.data}
    return {"data": result.data, "errors": [_formatted(error) for error in result.errors]}


def _formatted(error: GraphQLError) -> Mapping[str, Any]:
    """Return an error as clients see it; an unexpected one is logged and shown without details."""
    cause = error.original_error
    if cause is not None and not isinstance(cause, GraphQLError):
        _log.error("a fault in dspex", exc_info=cause)
        return {"message": FAULT, "path": error.path, "extensions": {"code": "internal"}}
    formatted = error.formatted
    return formatted if error.path else {**formatted, "extensions": request_extensions(error)}
