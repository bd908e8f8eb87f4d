"""The state of the server: alive, ready, metrics, and the description of its API."""

from urllib.parse import parse_qsl

from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from dspex._version import __version__
from dspex.error_text import suggest
from dspex.errors import InvalidError, StorageError
from dspex.language.records.canonical import json_bytes
from dspex.operations.framework.heavy_work import HeavyWork
from dspex.operations.framework.policies import OPERATORS
from dspex.operations.framework.store import Query
from dspex.operations.programs.records import PROGRAM, SIGNATURE
from dspex.operations.tenancy.usage import WORKSPACE_USAGE
from dspex.surfaces.api.gateway import actor_of
from dspex.surfaces.api.gateway.metrics import CONTENT_TYPE, Gauge
from dspex.surfaces.api.responses import send_bytes, send_json
from dspex.surfaces.api.rest.openapi import openapi
from dspex.surfaces.api.rest.program_operations import select_programs, with_programs
from dspex.surfaces.api.rest.routes import ApiContext, route

_MAX_WORKSPACES = 1000
_QUEUES = {
    "dspex_executions": "execution",
    "dspex_evaluations": "evaluation",
    "dspex_optimizations": "optimization_job",
    "dspex_ingestions": "ingestion",
}
_OPEN_STATUSES = {
    "execution": ("pending", "running", "waiting"),
    "evaluation": ("queued", "running"),
    "optimization_job": ("queued", "running"),
    "ingestion": ("queued", "running"),
}


def health_routes(api: ApiContext) -> list[Route]:
    """Return the routes for liveness, readiness, metrics and the OpenAPI description."""
    openapi_document = openapi(api.domain)

    async def alive(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send_json(send, {"status": "ok", "version": __version__})

    async def ready(_scope: Scope, _receive: Receive, send: Send) -> None:
        problems = await api.services().examine()
        body = {"status": "not ready" if problems else "ready", "problems": problems}
        await send_json(send, body, status=503 if problems else 200)

    async def metrics(scope: Scope, _receive: Receive, send: Send) -> None:
        actor = actor_of(scope)
        actor.require("read", "reading metrics")
        workspace = None if OPERATORS.admits(actor) else actor.workspace
        try:
            gauges = await _gauges(api, workspace)
        except StorageError:
            gauges = {}  # when the database is down, the counters are still useful
        text = api.metrics.text(gauges, workspace=workspace)
        await send_bytes(send, text.encode(), kind=CONTENT_TYPE.encode())

    async def description(scope: Scope, _receive: Receive, send: Send) -> None:
        operations = api.operations(scope)
        names = _program_names(scope)
        may_read = operations.may_read(PROGRAM) and operations.may_read(SIGNATURE)
        if not may_read or (api.config.needs_key and operations.actor.key_id is None):
            await send_json(send, openapi_document)
            return
        programs, has_more = await select_programs(operations, names, most=api.config.page_bytes)
        body = await operations.services[HeavyWork].run(
            lambda _: json_bytes(with_programs(openapi_document, programs, has_more=has_more))
        )
        await send_bytes(send, body)

    handlers = {
        "/healthz": alive,
        "/readyz": ready,
        "/metrics": metrics,
        "/v1/openapi.json": description,
    }
    return [route(path, handler, "GET") for path, handler in handlers.items()]


def _program_names(scope: Scope) -> list[str]:
    """Return the programs that the query string of a request for the description names."""
    pairs = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    for name, _ in pairs:
        if name != "program":
            raise InvalidError(f"{name}: there is no such parameter.{suggest(name, ['program'])}")
    return [value for _, value in pairs]


async def _gauges(api: ApiContext, workspace: str | None) -> dict[str, list[Gauge]]:
    """Return the waiting and running rows and the stored amounts, of one workspace or of all."""
    store = api.services().operations.dependencies.store
    where = {} if workspace is None else {"workspace": workspace}
    gauges: dict[str, list[Gauge]] = {}
    for name, resource in _QUEUES.items():
        counts = {
            status: await store.count(api.domain[resource], {**where, "status": status})
            for status in _OPEN_STATUSES[resource]
        }
        gauges[name] = [Gauge({"status": status}, count) for status, count in counts.items()]
    usages = await store.select(WORKSPACE_USAGE, Query(where=where, limit=_MAX_WORKSPACES))
    gauges["dspex_stored_executions"] = [
        Gauge({"workspace": row.workspace}, row.executions) for row in usages
    ]
    gauges["dspex_stored_bytes"] = [
        Gauge({"workspace": row.workspace}, row.stored_bytes) for row in usages
    ]
    return gauges
