"""A server that measures itself: how long its loop was held, in CPU, and how much memory it needed.

    python tests/support/measured_server.py STATE_DIR
Prints "ready PORT KEY". `GET /measure` gives {"held_ms", "grown_mb"} since the last time, and
begins anew. CPU is that of the whole process between two turns of the loop, so that a busy machine
changes nothing."""

import asyncio
import ctypes
import gc
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from starlette.responses import JSONResponse
from starlette.routing import Route

from dspex.bootstrap import Services, open_services
from dspex.clock import SystemClock
from dspex.operations.domain import DOMAIN
from dspex.operations.executions.executor import Executor
from dspex.operations.framework.heavy_work import InputLimits
from dspex.operations.programs.actions import create_program
from dspex.operations.programs.inputs import CreateProgram
from dspex.operations.tenancy.actions import CreateApiKey
from dspex.settings import Secret, Settings
from dspex.surfaces.api import ServerConfig, application
from dspex.surfaces.api.connections import granted_limits, make_server
from dspex.surfaces.cli.serve import _listen
from dspex.testing import ScriptedModel

BEAT = 0.005
REPLY = "[[ ## answer ## ]]\nParis\n\n[[ ## completed ## ]]"
SIGNATURES = {
    "plain": "question -> answer",
    "typed": "items: list[A{x: int} | B{y: int}]? , talk: History?, numbers: list[int]?, map: "
    "dict[str, int]?, tree: N{v: (A{a: N} | B{b: N} | int)}?, word: "
    "str[pattern='^(a{1,20}){1,20}$']?, free: any?, vector: embedding?, choice: Literal['a', "
    "'b']?, once: list[any][unique=true]?, data: binary? -> answer",
}
_MB = 1024


class Meter:
    """The longest hold of a loop since the last reading, and the most memory."""

    def __init__(self) -> None:
        self.held = 0.0
        self.before = 0
        self._last = time.process_time()

    async def beat(self) -> None:
        self._last = time.process_time()
        while True:
            await SystemClock().sleep(BEAT)
            now = time.process_time()
            self.held, self._last = max(self.held, now - self._last), now

    def read(self) -> dict[str, float]:
        figures = {"held_ms": self.held * 1e3, "grown_mb": (_memory("VmHWM") - self.before) / _MB}
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
        self.before = _memory("VmRSS")
        self.held, self._last = 0.0, time.process_time()
        return figures


def _memory(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1])
    raise LookupError(name)


async def _prepared(services: Services) -> str:
    for name, signature in SIGNATURES.items():
        await create_program(
            services.operations, CreateProgram(name=name, signature=signature, backend="mock")
        )
        settings = {"model": "openai/hostile"}
        program = CreateProgram(name=f"native {name}", signature=signature, configuration=settings)
        await create_program(services.operations, program)
    action = next(action for action in DOMAIN.actions if action.name == "create_api_key")
    scopes = ["read", "write", "execute", "admin"]
    request = CreateApiKey(
        name="hostile", scopes=scopes, requests_per_minute=100_000_000, concurrency=10_000
    )
    key: str = (await services.operations.perform(action, request)).key
    return key


def main() -> None:
    settings = Settings(state_dir=Path(sys.argv[1]), secret_key=Secret("k" * 32))
    listener = _listen("127.0.0.1", 0)
    meter = Meter()

    @asynccontextmanager
    async def opened() -> AsyncIterator[Services]:
        async with open_services(settings, serves=False) as services:
            models: Any = services.context.models
            models._local["openai/hostile"] = ScriptedModel(REPLY)  # no provider is called
            services.operations.services[Executor].input_limits = InputLimits()
            key = await _prepared(services)
            beating = asyncio.create_task(meter.beat())
            sys.stdout.write(f"ready {listener.getsockname()[1]} {key}\n")
            sys.stdout.flush()
            yield services
            beating.cancel()

    app = application(opened, ServerConfig(needs_key=True, timeout_s=20))

    async def measure(_request: Any) -> JSONResponse:
        return JSONResponse(meter.read())

    app.router.routes.append(Route("/measure", measure))
    make_server(app, granted_limits()).run(sockets=[listener])


if __name__ == "__main__":
    main()
