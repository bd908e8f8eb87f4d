"""The routes of resources and actions, derived from the domain."""

import dataclasses
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from typing import Any
from uuid import UUID

import msgspec
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from dspex.bootstrap import Services
from dspex.errors import InvalidError, NotFoundError
from dspex.operations.executions.inputs import ExecuteProgram, RetryExecution
from dspex.operations.executions.records import ExecutionRecord
from dspex.operations.framework.access import Actor
from dspex.operations.framework.action import Action
from dspex.operations.framework.domain import Domain
from dspex.operations.framework.operations import Operations
from dspex.operations.framework.query_arguments import cursor_of, id_from
from dspex.operations.framework.resource import Resource
from dspex.operations.framework.store import Query
from dspex.surfaces.api.connection_watch import ConnectionWatch, watch_client
from dspex.surfaces.api.forms import FORM, execute_form
from dspex.surfaces.api.gateway import ServerConfig, ServerMetrics, actor_of
from dspex.surfaces.api.json_limits import check_values
from dspex.surfaces.api.requests import (
    as_invalid_error,
    content_type,
    decode_json,
    parse_input,
    parse_page_query,
    read_body,
    reject_unknown_fields,
)
from dspex.surfaces.api.responses import send_json

Handler = Callable[[Scope, Receive, Send], Awaitable[None]]
EXECUTE = "/v1/programs/{name}/execute"


class ExecuteBody(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /v1/programs/{name}/execute`; the header Idempotency-Key has the key.

    A form (`multipart/form-data`) says the same, see `execute_form`.
    """

    inputs: dict[str, Any]
    timeout: float | None = None
    backend: str | None = None
    session_id: UUID | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ApiContext:
    """What all request handlers share."""

    services: Callable[[], Services]
    config: ServerConfig
    metrics: ServerMetrics
    domain: Domain

    def operations(self, scope: Scope) -> Operations:
        """Return the operations of the caller."""
        return self.services().operations.as_actor(actor_of(scope))

    async def perform(
        self,
        operations: Operations,
        action: Action[Any, Any],
        input: object,
        *,
        watch: ConnectionWatch,
    ) -> Any:
        """Perform an action and count executions; see `Operations.perform`.

        A call with an idempotency key is finished even if the client disconnects: the client may
        repeat it with the same key.
        """
        is_repeatable = (
            isinstance(input, ExecuteProgram | RetryExecution) and input.idempotency_key is not None
        )
        try:
            with watch.shield() if is_repeatable else nullcontext():
                result = await operations.perform(action, input)
        except InvalidError as error:
            if error.execution_id is not None:
                self.metrics.count_execution(operations.workspace, "failed")
            raise
        if isinstance(result, ExecutionRecord):
            self.metrics.count_execution(
                operations.workspace, result.status, result.usage, cost_usd=result.cost_usd
            )
        return result


class RouteEndpoint:
    """The ASGI application of one route.

    Starlette calls an instance as it is; a function would cost a `Request` object for each call.
    """

    def __init__(self, label: str, handler: Handler) -> None:
        self._label = label
        self._handler = handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        scope["label"] = self._label
        await self._handler(scope, receive, send)


def routes(api: ApiContext) -> list[Route]:
    """Return the routes of all resources and actions."""
    all_routes = [route(EXECUTE, _execute(api), "POST")]
    for action in api.domain.actions:
        all_routes.append(route(f"/v1/actions/{action.name}", _action(api, action), "POST"))
    for resource in api.domain.values():
        if not resource.is_internal:
            all_routes.append(route(f"/v1/{resource.plural}", _many(api, resource), "GET"))
            all_routes.append(route(f"/v1/{resource.plural}/{{id}}", _one(api, resource), "GET"))
    return all_routes


def route(path: str, handler: Handler, method: str) -> Route:
    """Return the route of one path and method; requests are counted under the path."""
    return Route(path, RouteEndpoint(path, handler), methods=[method])


def _execute(api: ApiContext) -> Handler:
    action = next(action for action in api.domain.actions if action.name == "execute_program")
    decoder = msgspec.json.Decoder(ExecuteBody)
    serialize = action.resource.values_for

    def decode(body: bytes) -> ExecuteBody:
        check_values(body)
        try:
            values = decoder.decode(body)
        except msgspec.ValidationError:
            return _convert(decode_json(body))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            decode_json(body)
            raise
        if b"u0000" in body:
            decode_json(body)
        return values

    async def handle(scope: Scope, receive: Receive, send: Send) -> None:
        is_form = content_type(scope).lower().startswith(FORM)
        kind = FORM if is_form else b"application/json"
        body = await read_body(scope, receive, limit=api.config.body_bytes, kind=kind)
        values = _convert(execute_form(body, content_type(scope))) if is_form else decode(body)
        request = ExecuteProgram(
            program=scope["path_params"]["name"],
            inputs=values.inputs,
            backend=values.backend,
            timeout=values.timeout,
            session_id=values.session_id,
            idempotency_key=_idempotency_key(scope),
        )
        with watch_client(receive) as watch:
            result = await api.perform(api.operations(scope), action, request, watch=watch)
        await send_json(send, serialize(actor_of(scope), result))

    return handle


def _convert(value: Any) -> ExecuteBody:
    """Return JSON data as the body of an execution; raise `InvalidError` if it is not one."""
    reject_unknown_fields(value, ExecuteBody.__struct_fields__)
    try:
        return msgspec.convert(value, ExecuteBody)
    except msgspec.ValidationError as error:
        raise as_invalid_error(error, value, ExecuteBody) from error


def _idempotency_key(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == b"idempotency-key":
            try:
                return str(value, "utf-8")  # the same text as in a body or on the command line
            except UnicodeDecodeError:
                return str(value, "latin-1")
    return None


def _action(api: ApiContext, action: Action[Any, Any]) -> Handler:
    serialize = result_serializer(api.domain, action)

    async def handle(scope: Scope, receive: Receive, send: Send) -> None:
        body = await read_body(scope, receive, limit=api.config.body_bytes)
        request: object = parse_input(action.input, body)
        with watch_client(receive) as watch:
            result = await api.perform(api.operations(scope), action, request, watch=watch)
        await send_json(send, serialize(actor_of(scope), result))

    return handle


def _many(api: ApiContext, resource: Resource[Any]) -> Handler:
    serialize = resource.values_for

    async def handle(scope: Scope, _receive: Receive, send: Send) -> None:
        query = parse_page_query(resource, scope["query_string"])
        page = await api.operations(scope).page(resource, query, most=api.config.page_bytes)
        cursor = cursor_of(page.rows[-1], query.sort) if page.has_more else None
        rows = [serialize(actor_of(scope), row) for row in page.rows]
        await send_json(send, {resource.plural: rows, "next": cursor})

    return handle


def _one(api: ApiContext, resource: Resource[Any]) -> Handler:
    serialize = resource.values_for

    async def handle(scope: Scope, _receive: Receive, send: Send) -> None:
        key = id_from(scope["path_params"]["id"], "id")
        rows = await api.operations(scope).list(resource, Query(where={"id": key}, limit=1))
        if not rows:
            raise NotFoundError(f"there is no {resource.name.replace('_', ' ')} {str(key)!r}")
        await send_json(send, serialize(actor_of(scope), rows[0]))

    return handle


def result_serializer(
    domain: Domain, action: Action[Any, Any]
) -> Callable[[Actor, Any], dict[str, Any]]:
    """Return the function from a caller and an action's result to what the caller sees.

    The result is a row, or a dataclass of rows and values.
    """
    if action.result is None:
        return action.resource.values_for
    rows = {resource.entity: resource.values_for for resource in domain.values()}
    names = [part.name for part in dataclasses.fields(action.result)]

    def serialize(actor: Actor, result: Any) -> dict[str, Any]:
        parts = {name: getattr(result, name) for name in names}
        return {
            name: rows[type(part)](actor, part) if type(part) in rows else part
            for name, part in parts.items()
        }

    return serialize
