"""The ASGI application."""

import gc
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from functools import partial
from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, WebSocketRoute

from dspex.bootstrap import Services
from dspex.clock import Clock, SystemClock
from dspex.errors import NotFoundError
from dspex.operations.domain import DOMAIN
from dspex.operations.framework.access import Actor
from dspex.operations.framework.domain import Domain
from dspex.surfaces.api import graphql
from dspex.surfaces.api.connection_watch import ConnectionWatch
from dspex.surfaces.api.feedback import feedback_route
from dspex.surfaces.api.gateway import (
    Authenticator,
    Gateway,
    RateLimiter,
    ServerConfig,
    ServerMetrics,
)
from dspex.surfaces.api.graphql.http import HttpEndpoint
from dspex.surfaces.api.graphql.websocket import WebSocketEndpoint
from dspex.surfaces.api.key_usage import flush_key_usage
from dspex.surfaces.api.pages import page_routes
from dspex.surfaces.api.responses import error_body
from dspex.surfaces.api.rest import ApiContext, health_routes, routes
from dspex.surfaces.api.rest.routes import route

ServicesFactory = Callable[[], AbstractAsyncContextManager[Services]]
_OBJECTS: Final = 5_000  # new ones after which the young are scanned; Python's default is 700


def application(
    open_services: ServicesFactory,
    config: ServerConfig | None = None,
    *,
    clock: Clock | None = None,
    domain: Domain = DOMAIN,
) -> Starlette:
    """Return the application, which opens its services when it starts and closes them at its end.

    Without a `config` it answers only requests that name a loopback host, and requires no keys.
    """
    running: list[Services] = []
    config, clock = config or ServerConfig(), clock or SystemClock()
    metrics = ServerMetrics()
    api = ApiContext(services=lambda: running[0], config=config, metrics=metrics, domain=domain)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        async with open_services() as services, flush_key_usage(services, clock=clock):
            running.append(services)
            with _rare_collections():
                yield
            running.clear()

    authenticator = Authenticator(
        services=api.services, config=config, rates=RateLimiter(clock), clock=clock
    )
    gateway = Middleware(Gateway, authenticator=authenticator, metrics=metrics)
    execute, *rest_routes = routes(api)
    all_routes: list[BaseRoute] = [  # tried one after the other: the busiest come first
        execute,
        *_graphql_routes(api, authenticator),
        *page_routes(),
        feedback_route(api, authenticator),
        *health_routes(api),
        *rest_routes,
    ]
    return Starlette(
        routes=all_routes,
        middleware=[gateway],
        lifespan=lifespan,
        exception_handlers={HTTPException: _routing_error},
    )


@contextmanager
def _rare_collections() -> Iterator[None]:
    """Collect garbage less often, and leave out all present objects: scans delay requests.

    With the default threshold, a request with many small values caused hundreds of scans.
    """
    before = gc.get_threshold()
    gc.set_threshold(_OBJECTS, *before[1:])
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)


def _routing_error(request: Request, error: Exception) -> Response:
    """Return an error of Starlette's router as JSON."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = error.headers if isinstance(error, HTTPException) else None
    call = f"{request.method} {request.url.path}"
    if status == 404:
        body = error_body(
            NotFoundError(f"there is nothing at {call}; /v1/openapi.json lists all routes")
        )
    else:
        methods = (headers or {}).get("Allow", "another method")
        message = f"{call} is not supported; use {methods}"
        common = {"type": None, "code": "method_not_allowed", "retryable": False}
        body = {"error": {**common, "message": message}}
    return JSONResponse(body, status_code=status, headers=headers)


def _graphql_routes(api: ApiContext, authenticator: Authenticator) -> list[BaseRoute]:
    engine = graphql.Engine(graphql.core_schema(graphql.make_schema(api.domain)))

    def make_context(actor: Actor, watch: ConnectionWatch) -> graphql.GraphQLContext:
        perform = partial(api.perform, watch=watch)
        return graphql.GraphQLContext(
            api.services().operations.as_actor(actor), perform, max_bytes=api.config.page_bytes
        )

    http = HttpEndpoint(engine, make_context=make_context, authenticator=authenticator)
    return [
        route("/graphql", http.answer, "POST"),
        route("/graphql/stream", http.stream, "POST"),
        WebSocketRoute("/graphql", WebSocketEndpoint(engine, make_context=make_context)),
    ]
