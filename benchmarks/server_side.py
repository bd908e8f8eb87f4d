"""One dspex server for `server.py`, with all features on and a scripted model.

    python benchmarks/server_side.py DATABASE_URL_OR_- STATE_DIR [KEY]

Prints "ready PORT KEY". Without a KEY it creates the program and a key; with one it uses the
existing ones. `GET /stats` returns {"reads", "writes"}: the calls to the store since the last time.
"""

import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from starlette.responses import JSONResponse
from starlette.routing import Route

from dspex.bootstrap import Services, migrate_database, open_services
from dspex.operations.domain import DOMAIN
from dspex.operations.framework.operations import Operations
from dspex.operations.programs.actions import create_program
from dspex.operations.programs.inputs import CreateProgram
from dspex.operations.tenancy.actions import CreateApiKey
from dspex.settings import Secret, Settings
from dspex.surfaces.api import ServerConfig, application
from dspex.surfaces.api.connections import granted_limits, make_server
from dspex.surfaces.cli.serve import _listen
from dspex.testing import ScriptedModel

REPLY = "[[ ## answer ## ]]\nParis\n\n[[ ## completed ## ]]"
COUNTS: Counter[str] = Counter()


class _Counting:
    """A store that counts its reads and writes."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._store, name)
        if name in {"get", "select", "page", "count"}:
            COUNTS["reads"] += 1
        if name == "write":
            COUNTS["writes"] += 1
        return attribute


async def _prepare(services: Services, key: str | None) -> str:
    if key is not None:
        return key
    program_request = CreateProgram(
        name="triage", signature="question -> answer", configuration={"model": "openai/paris"}
    )
    await create_program(services.operations, program_request)
    action = next(action for action in DOMAIN.actions if action.name == "create_api_key")
    key_request = CreateApiKey(
        name="bench",
        scopes=["read", "execute"],
        requests_per_minute=100_000_000,
        concurrency=10_000,
    )
    return (await services.operations.perform(action, key_request)).key


def main() -> None:
    url, state, *rest = sys.argv[1:]
    database = None if url == "-" else Secret(url)
    settings = Settings(state_dir=Path(state), database_url=database, secret_key=Secret("k" * 32))
    if database is not None and not rest:
        import asyncio

        asyncio.run(migrate_database(settings))
    listener = _listen("127.0.0.1", 0)

    @asynccontextmanager
    async def open_server() -> AsyncIterator[Services]:
        async with open_services(settings, serves=False) as services:
            models: Any = services.context.models
            # a scripted model under a model string, so that no provider is called
            models._local["openai/paris"] = ScriptedModel(REPLY)  # noqa: SLF001
            key = await _prepare(services, rest[0] if rest else None)
            print("ready", listener.getsockname()[1], key, flush=True)
            dependencies = services.operations.dependencies
            counting = replace(dependencies, store=_Counting(dependencies.store))
            yield replace(services, operations=Operations(counting))

    app = application(open_server, ServerConfig(needs_key=True))

    async def stats(_request: Any) -> JSONResponse:
        counts = dict(COUNTS)
        COUNTS.clear()
        return JSONResponse(counts)

    app.router.routes.append(Route("/stats", stats))
    make_server(app, granted_limits()).run(sockets=[listener])


if __name__ == "__main__":
    main()
