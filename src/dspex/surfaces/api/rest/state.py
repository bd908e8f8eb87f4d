"""How the server is: alive, ready, and in numbers."""

from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from dspex._version import __version__
from dspex.errors import StorageError
from dspex.operations.resources import Operations
from dspex.surfaces.api.answers import send_bytes, send_json
from dspex.surfaces.api.gate import actor_of
from dspex.surfaces.api.gate.metrics import CONTENT_TYPE
from dspex.surfaces.api.rest.openapi import openapi
from dspex.surfaces.api.rest.routes import Desk, Endpoint

_QUEUES = {
    "dspex_executions": "execution",
    "dspex_evaluations": "evaluation",
    "dspex_optimizations": "optimization_job",
}
_WAITING = {
    "execution": ("pending", "running"),
    "evaluation": ("queued", "running"),
    "optimization_job": ("queued", "running"),
}


def state_routes(desk: Desk) -> list[Route]:
    """Return the routes that tell how the server is."""
    described = openapi(desk.domain)

    async def alive(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send_json(send, {"status": "ok", "version": __version__})

    async def ready(_scope: Scope, _receive: Receive, send: Send) -> None:
        problems = await desk.services().examine()
        body = {"status": "not ready" if problems else "ready", "problems": problems}
        await send_json(send, body, status=503 if problems else 200)

    async def metrics(scope: Scope, _receive: Receive, send: Send) -> None:
        operations = desk.operations(scope)
        actor_of(scope).require("read", "reading metrics")
        try:
            gauges = await _gauges(desk, operations)
        except StorageError:
            gauges = {}  # the counters are worth more than an error when the database is gone
        await send_bytes(send, desk.metrics.text(gauges).encode(), kind=CONTENT_TYPE.encode())

    async def description(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send_json(send, described)

    found = {"/healthz": alive, "/readyz": ready, "/metrics": metrics, "/v1/openapi.json": description}
    return [Route(path, Endpoint(path, handler), methods=["GET"]) for path, handler in found.items()]


async def _gauges(desk: Desk, operations: Operations) -> dict[str, dict[str, int]]:
    return {
        name: {
            status: await operations.count(desk.domain[resource], {"status": status}) for status in _WAITING[resource]
        }
        for name, resource in _QUEUES.items()
    }
