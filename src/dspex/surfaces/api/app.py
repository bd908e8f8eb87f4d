"""The ASGI application."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.resources import files

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request as HTTPRequest
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.websockets import WebSocket
from strawberry.asgi import GraphQL

from dspex._version import __version__
from dspex.operations.resources import Operations
from dspex.surfaces.api.graphql import make_schema
from dspex.surfaces.api.graphql.request import Request

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
Open = Callable[[], AbstractAsyncContextManager[Operations]]


class _Endpoint(GraphQL[Request, None]):
    """GraphQL over the operations of the running application."""

    def __init__(self, operations: Callable[[], Operations]) -> None:
        super().__init__(make_schema(), graphql_ide=None, allow_queries_via_get=False)
        self._operations = operations

    async def get_context(self, request: HTTPRequest | WebSocket, response: Response | WebSocket) -> Request:
        """Return a fresh context for each request."""
        return Request(self._operations())


def application(opened: Open) -> Starlette:
    """Return the application; `opened` gives the operations for as long as it runs.

    Only requests that name a loopback host are answered: a page of another site that resolves to this machine is not.
    """
    held: list[Operations] = []

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        async with opened() as operations:
            held.append(operations)
            yield
            held.clear()

    page = files("dspex.surfaces.api").joinpath("static/explorer.html").read_text(encoding="utf-8")

    async def explorer(_request: HTTPRequest) -> Response:
        return HTMLResponse(page)

    async def health(_request: HTTPRequest) -> Response:
        return JSONResponse({"status": "ok", "version": __version__})

    async def home(_request: HTTPRequest) -> Response:
        return RedirectResponse("/explorer")

    endpoint = _Endpoint(lambda: held[0])
    app = Starlette(
        routes=[Route("/", home), Route("/explorer", explorer), Route("/healthz", health)],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=list(LOOPBACK))],
        lifespan=lifespan,
    )
    app.router.routes.append(Route("/graphql", endpoint))
    return app
