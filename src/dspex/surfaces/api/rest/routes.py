"""The routes, derived from the domain."""

import dataclasses
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from typing import Any

import msgspec
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from dspex.bootstrap import Services
from dspex.errors import InvalidError, NotFoundError
from dspex.operations.executions.inputs import ExecuteProgram, RetryExecution
from dspex.operations.executions.records import ExecutionRecord
from dspex.operations.framework.action import Action
from dspex.operations.framework.domain import Domain
from dspex.operations.framework.operations import Operations
from dspex.operations.framework.query_arguments import cursor_of, id_from
from dspex.operations.framework.resource import Resource
from dspex.operations.framework.store import Query
from dspex.surfaces.api.connection_watch import ConnectionWatch, watch_client
from dspex.surfaces.api.gateway import ServerConfig, ServerMetrics, actor_of
from dspex.surfaces.api.json_limits import check_values
from dspex.surfaces.api.requests import (
    as_invalid_error,
    decode_json,
    parse_input,
    parse_page_query,
    reject_unknown_fields,
)
from dspex.surfaces.api.responses import read_body, send_json

Handler = Callable[[Scope, Receive, Send], Awaitable[None]]
EXECUTE = "/v1/programs/{name}/execute"


class ExecuteBody(msgspec.Struct, forbid_unknown_fields=True):
    """What `POST /v1/programs/{name}/execute` takes; the key of the call is in the header Idempotency-Key."""

    inputs: dict[str, Any]
    timeout: float | None = None
    backend: str | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ApiContext:
    """What the handlers share."""

    services: Callable[[], Services]
    config: ServerConfig
    metrics: ServerMetrics
    domain: Domain

    def operations(self, scope: Scope) -> Operations:
        """Return the operations of who asks."""
        return self.services().operations.as_actor(actor_of(scope))

    async def perform(
        self, operations: Operations, action: Action, given: object, *, watch: ConnectionWatch
    ) -> Any:
        """Carry out an action, and count what was executed; see `Operations.perform`.

        What has an idempotency key is finished where the caller leaves: it asks again with the same
        key.
        """
        is_repeatable = (
            isinstance(given, ExecuteProgram | RetryExecution) and given.idempotency_key is not None
        )
        try:
            with watch.kept() if is_repeatable else nullcontext():
                found = await operations.perform(action, given)
        except InvalidError as error:
            if "execution_id" in error.context:
                self.metrics.executed(operations.workspace, "failed")
            raise
        if isinstance(found, ExecutionRecord):
            self.metrics.executed(
                operations.workspace, found.status, found.usage, cost_usd=found.cost_usd
            )
        return found


class Endpoint:
    """An ASGI application for one route: Starlette leaves instances as they are, without a Request around each call."""

    def __init__(self, label: str, handler: Handler) -> None:
        self._label = label
        self._handler = handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request of this route."""
        scope["label"] = self._label
        await self._handler(scope, receive, send)


def routes(api: ApiContext) -> list[Route]:
    """Return the routes of all resources and actions."""
    made = [_route(EXECUTE, _execute(api), "POST")]
    for action in api.domain.actions:
        made.append(_route(f"/v1/actions/{action.name}", _action(api, action), "POST"))
    for resource in api.domain.values():
        if not resource.is_internal:
            made.append(_route(f"/v1/{resource.plural}", _many(api, resource), "GET"))
            made.append(_route(f"/v1/{resource.plural}/{{id}}", _one(api, resource), "GET"))
    return made


def _route(path: str, handler: Handler, method: str) -> Route:
    return Route(path, Endpoint(path, handler), methods=[method])


def _execute(api: ApiContext) -> Handler:
    action = next(action for action in api.domain.actions if action.name == "execute_program")
    decoder = msgspec.json.Decoder(ExecuteBody)
    show = serializer(action.resource)

    async def handle(scope: Scope, receive: Receive, send: Send) -> None:
        body = await read_body(scope, receive, limit=api.config.body_bytes)
        check_values(body)
        try:
            given: ExecuteBody = decoder.decode(body)
        except msgspec.ValidationError as error:
            reject_unknown_fields(decode_json(body), ExecuteBody.__struct_fields__)
            raise as_invalid_error(error) from error
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            decode_json(body)
            raise
        if b"u0000" in body:
            decode_json(body)
        asked = ExecuteProgram(
            name=scope["path_params"]["name"],
            inputs=given.inputs,
            backend=given.backend,
            timeout=given.timeout,
            idempotency_key=_idempotency_key(scope),
        )
        with watch_client(receive) as watch:
            found = await api.perform(api.operations(scope), action, asked, watch=watch)
        await send_json(send, show(found))

    return handle


def _idempotency_key(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == b"idempotency-key":
            try:
                return str(
                    value, "utf-8"
                )  # the same key in a body or on the command line is the same
            except UnicodeDecodeError:
                return str(value, "latin-1")
    return None


def _action(api: ApiContext, action: Action) -> Handler:
    show = result_serializer(api.domain, action)

    async def handle(scope: Scope, receive: Receive, send: Send) -> None:
        body = await read_body(scope, receive, limit=api.config.body_bytes)
        given: object = parse_input(action.input, body)
        with watch_client(receive) as watch:
            found = await api.perform(api.operations(scope), action, given, watch=watch)
        await send_json(send, show(found))

    return handle


def _many(api: ApiContext, resource: Resource[Any]) -> Handler:
    show = serializer(resource)

    async def handle(scope: Scope, _receive: Receive, send: Send) -> None:
        wanted = parse_page_query(resource, scope["query_string"])
        page = await api.operations(scope).page(resource, wanted, most=api.config.page_bytes)
        following = cursor_of(page.rows[-1], wanted.sort) if page.has_more else None
        await send_json(
            send, {resource.plural: [show(row) for row in page.rows], "next": following}
        )

    return handle


def _one(api: ApiContext, resource: Resource[Any]) -> Handler:
    show = serializer(resource)

    async def handle(scope: Scope, _receive: Receive, send: Send) -> None:
        key = id_from(scope["path_params"]["id"], "id")
        rows = await api.operations(scope).list(resource, Query(where={"id": key}, limit=1))
        if not rows:
            raise NotFoundError(f"there is no {resource.name.replace('_', ' ')} {str(key)!r}")
        await send_json(send, show(rows[0]))

    return handle


def serializer(resource: Resource[Any]) -> Callable[[Any], dict[str, Any]]:
    """Return what turns a row into the values that callers see."""
    return resource.values_of


def result_serializer(domain: Domain, action: Action) -> Callable[[Any], dict[str, Any]]:
    """Return what shows what an action gives: a row, or its `result`, a dataclass of rows and plain values."""
    if action.result is None:
        return serializer(action.resource)
    rows = {resource.entity: serializer(resource) for resource in domain.values()}
    names = [part.name for part in dataclasses.fields(action.result)]

    def show(found: Any) -> dict[str, Any]:
        parts = {name: getattr(found, name) for name in names}
        return {
            name: rows[type(part)](part) if type(part) in rows else part
            for name, part in parts.items()
        }

    return show
