"""The ASGI application."""

import gc
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from functools import partial
from importlib.resources import files

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import Receive, Scope, Send

from dspex.bootstrap import Services
from dspex.clock import Clock, SystemClock
from dspex.errors import NotFoundError
from dspex.operations.domain import DOMAIN
from dspex.operations.framework.access import Actor
from dspex.operations.framework.domain import Domain
from dspex.surfaces.api import graphql
from dspex.surfaces.api.connection_watch import ConnectionWatch
from dspex.surfaces.api.gateway import (
    Authenticator,
    Gateway,
    RateLimiter,
    ServerConfig,
    ServerMetrics,
)
from dspex.surfaces.api.graphql import http, websocket
from dspex.surfaces.api.key_usage import flush_key_usage
from dspex.surfaces.api.pages import page_headers
from dspex.surfaces.api.responses import error_body, send_bytes
from dspex.surfaces.api.rest import ApiContext, health_routes, routes
from dspex.surfaces.api.rest.routes import Endpoint

Open = Callable[[], AbstractAsyncContextManager[Services]]


def application(
    opened: Open,
    config: ServerConfig | None = None,
    *,
    clock: Clock | None = None,
    domain: Domain = DOMAIN,
) -> Starlette:
    """Return the application; `opened` gives the services for as long as it runs.

    Without a `config` only requests that name a loopback host are answered, and nobody needs a key.
    """
    held: list[Services] = []
    settings, time = config or ServerConfig(), clock or SystemClock()
    metrics = ServerMetrics()
    api = ApiContext(services=lambda: held[0], config=settings, metrics=metrics, domain=domain)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        async with opened() as services, flush_key_usage(services, clock=time):
            held.append(services)
            with _lasting():
                yield
            held.clear()

    authenticator = Authenticator(
        services=api.services, config=settings, rates=RateLimiter(time), clock=time
    )
    gate = Middleware(Gateway, authenticator=authenticator, metrics=metrics)
    execute, *others = routes(
        api
    )  # the router tries one after the other: what is asked most comes first
    found: list[BaseRoute] = [
        execute,
        *_graphql(api, authenticator),
        *_pages(),
        *health_routes(api),
        *others,
    ]
    return Starlette(
        routes=found,
        middleware=[gate],
        lifespan=lifespan,
        exception_handlers={HTTPException: _no_route},
    )


@contextmanager
def _lasting() -> Iterator[None]:
    """Keep the collector from looking through what is there now, again and again: it lasts, and requests would wait."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _no_route(request: Request, error: Exception) -> Response:
    """Say in JSON what Starlette's router says in plain text."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = error.headers if isinstance(error, HTTPException) else None
    where = f"{request.method} {request.url.path}"
    if status == 404:
        body = error_body(
            NotFoundError(f"there is nothing at {where}; /v1/openapi.json lists all routes")
        )
    else:
        allowed = (headers or {}).get("Allow", "others")
        about = {"type": None, "code": "method_not_allowed", "retryable": False}
        body = {"error": {**about, "message": f"{where} is not possible; {allowed} may be"}}
    return JSONResponse(body, status_code=status, headers=headers)


def _graphql(api: ApiContext, authenticator: Authenticator) -> list[BaseRoute]:
    engine = graphql.Engine(graphql.core_schema(graphql.make_schema(api.domain)))

    def context(actor: Actor, watch: ConnectionWatch) -> graphql.GraphQLContext:
        perform = partial(api.perform, watch=watch)
        return graphql.GraphQLContext(
            api.services().operations.as_actor(actor), perform, most=api.config.page_bytes
        )

    over_http = http.Endpoint(engine, context=context, authenticator=authenticator)
    socket = websocket.Endpoint(engine, context=context)
    return [
        Route("/graphql", Endpoint("/graphql", over_http.answer), methods=["POST"]),
        Route("/graphql/stream", Endpoint("/graphql/stream", over_http.stream), methods=["POST"]),
        WebSocketRoute("/graphql", socket),
    ]


def _pages() -> list[BaseRoute]:
    page = files("dspex.surfaces.api").joinpath("static/explorer.html").read_bytes()
    browser_headers = page_headers(page)

    async def explorer(scope: Scope, _receive: Receive, send: Send) -> None:
        scope["browser_headers"] = browser_headers
        await send_bytes(send, page, kind=b"text/html; charset=utf-8")

    async def home(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send_bytes(
            send, b"", status=307, headers=((b"location", b"/explorer"),), kind=b"text/plain"
        )

    return [Route("/", Endpoint("/", home)), Route("/explorer", Endpoint("/explorer", explorer))]
