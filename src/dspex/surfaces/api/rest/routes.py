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
from dspex.operations.resources import (
    Action,
    Domain,
    ExecuteProgram,
    ExecutionRecord,
    Operations,
    Query,
    Resource,
)
from dspex.operations.resources.finding import cursor_of, id_from
from dspex.operations.resources.inputs import RetryExecution
from dspex.surfaces.api.amounts import check_values
from dspex.surfaces.api.answers import read_body, send_json
from dspex.surfaces.api.decoding import decoded, from_msgspec, input_from, page_of, refuse_unknown
from dspex.surfaces.api.gate import Metrics, ServerConfig, actor_of
from dspex.surfaces.api.presence import Presence, watched

Handler = Callable[[Scope, Receive, Send], Awaitable[None]]
EXECUTE = "/v1/programs/{name}/execute"


class ExecuteBody(msgspec.Struct, forbid_unknown_fields=True):
    """What `POST /v1/programs/{name}/execute` takes; the key of the call is in the header Idempotency-Key."""

    inputs: dict[str, Any]
    timeout: float | None = None
    backend: str | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """What the handlers share."""

    services: Callable[[], Services]
    config: ServerConfig
    metrics: Metrics
    domain: Domain

    def operations(self, scope: Scope) -> Operations:
        """Return the operations of who asks."""
        return self.services().operations.as_actor(actor_of(scope))

    async def perform(
        self, operations: Operations, action: Action, given: object, *, presence: Presence
    ) -> Any:
        """Carry out an action, and count what was executed; see `Operations.perform`.

        What has an idempotency key is finished where the caller leaves: it asks again with the same
        key.
        """
        is_repeatable = (
            isinstance(given, ExecuteProgram | RetryExecution) and given.idempotency_key is not None
        )
        try:
            with presence.kept() if is_repeatable else nullcontext():
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


def routes(desk: Desk) -> list[Route]:
    """Return the routes of all resources and actions."""
    made = [_route(EXECUTE, _execute(desk), "POST")]
    for action in desk.domain.actions:
        made.append(_route(f"/v1/actions/{action.name}", _action(desk, action), "POST"))
    for resource in desk.domain.values():
        if not resource.is_internal:
            made.append(_route(f"/v1/{resource.plural}", _many(desk, resource), "GET"))
            made.append(_route(f"/v1/{resource.plural}/{{id}}", _one(desk, resource), "GET"))
    return made


def _route(path: str, handler: Handler, method: str) -> Route:
    return Route(path, Endpoint(path, handler), methods=[method])


def _execute(desk: Desk) -> Handler:
    action = next(action for action in desk.domain.actions if action.name == "execute_program")
    decoder = msgspec.json.Decoder(ExecuteBody)
    show = shower(action.resource)

    async def handle(scope: Scope, receive: Receive, send: Send) -> None:
        body = await read_body(scope, receive, limit=desk.config.body_bytes)
        check_values(body)
        try:
            given: ExecuteBody = decoder.decode(body)
        except msgspec.ValidationError as error:
            refuse_unknown(decoded(body), ExecuteBody.__struct_fields__)
            raise from_msgspec(error) from error
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            decoded(body)
            raise
        if b"u0000" in body:
            decoded(body)
        asked = ExecuteProgram(
            name=scope["path_params"]["name"],
            inputs=given.inputs,
            backend=given.backend,
            timeout=given.timeout,
            idempotency_key=_idempotency_key(scope),
        )
        with watched(receive) as presence:
            found = await desk.perform(desk.operations(scope), action, asked, presence=presence)
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


def _action(desk: Desk, action: Action) -> Handler:
    show = result_shower(desk.domain, action)

    async def handle(scope: Scope, receive: Receive, send: Send) -> None:
        body = await read_body(scope, receive, limit=desk.config.body_bytes)
        given: object = input_from(action.input, body)
        with watched(receive) as presence:
            found = await desk.perform(desk.operations(scope), action, given, presence=presence)
        await send_json(send, show(found))

    return handle


def _many(desk: Desk, resource: Resource[Any]) -> Handler:
    show = shower(resource)

    async def handle(scope: Scope, _receive: Receive, send: Send) -> None:
        wanted = page_of(resource, scope["query_string"])
        page = await desk.operations(scope).page(resource, wanted, most=desk.config.page_bytes)
        following = cursor_of(page.rows[-1], wanted.sort) if page.has_more else None
        await send_json(
            send, {resource.plural: [show(row) for row in page.rows], "next": following}
        )

    return handle


def _one(desk: Desk, resource: Resource[Any]) -> Handler:
    show = shower(resource)

    async def handle(scope: Scope, _receive: Receive, send: Send) -> None:
        key = id_from(scope["path_params"]["id"], "id")
        rows = await desk.operations(scope).list(resource, Query(where={"id": key}, limit=1))
        if not rows:
            raise NotFoundError(f"there is no {resource.name.replace('_', ' ')} {str(key)!r}")
        await send_json(send, show(rows[0]))

    return handle


def shower(resource: Resource[Any]) -> Callable[[Any], dict[str, Any]]:
    """Return what turns a row into the values that callers see."""
    return resource.values_of


def result_shower(domain: Domain, action: Action) -> Callable[[Any], dict[str, Any]]:
    """Return what shows what an action gives: a row, or its `result`, a dataclass of rows and plain values."""
    if action.result is None:
        return shower(action.resource)
    rows = {resource.entity: shower(resource) for resource in domain.values()}
    names = [part.name for part in dataclasses.fields(action.result)]

    def show(found: Any) -> dict[str, Any]:
        parts = {name: getattr(found, name) for name in names}
        return {
            name: rows[type(part)](part) if type(part) in rows else part
            for name, part in parts.items()
        }

    return show
