"""The cache in Redis: what two servers share, and what a call costs while Redis is away.

This is a part of `routing.py`. A real Redis (or Valkey) is used; the model replies after 100 ms.
"""

import asyncio
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp

from dspex import Predict
from dspex.bootstrap import migrate_database, open_services
from dspex.execution.clients import Request, Response
from dspex.execution.clients.redis_responses import RedisResponses
from dspex.language.records import Message
from dspex.models import Caching
from dspex.operations.programs.stored_programs import save_program
from dspex.settings import Settings
from dspex.testing import ScriptedModel, SimulatedModel
from dspex.testing.model_server import ModelServer
from dspex.testing.redis import RedisServer

CALLERS, REPLY_S, QUESTIONS = 64, 0.1, 60


class Slow(ScriptedModel):
    """Answers after 100 ms."""

    async def complete(self, request: Request) -> Response:
        await asyncio.sleep(REPLY_S)
        return await super().complete(request)


class Counted(SimulatedModel):
    """Counts what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: Counter[str] = Counter()

    async def complete(self, request: Request) -> Response:
        self.asked[request.messages[-1].text] += 1
        return await super().complete(request)


async def outages(seconds: float) -> dict[str, float]:
    """Call a cached model while Redis is there, stopped, and killed; return p95 in ms of each."""
    model = Slow("yes")
    numbers = itertools.count()
    figures: dict[str, float] = {"failed": 0}

    with RedisServer() as redis:
        cache = Caching(model, shared=RedisResponses(redis.url))

        async def call_until(end: float, latencies: list[float]) -> None:
            while (started := time.perf_counter()) < end:
                request = Request(messages=(Message(role="user", content=f"{next(numbers)}"),))
                try:
                    await cache.complete(request)
                except Exception as error:  # noqa: BLE001  # whatever fails is counted
                    figures["failed"] += 1
                    print(f"a call failed: {error!r}", file=sys.stderr)
                latencies.append((time.perf_counter() - started) * 1e3)

        for name, fault in (
            ("warm", None),
            ("there", None),
            ("stopped", redis.suspend),
            ("back", redis.resume),
            ("killed", redis.kill),
        ):
            latencies: list[float] = []
            end = time.perf_counter() + seconds
            callers = [asyncio.create_task(call_until(end, latencies)) for _ in range(CALLERS)]
            await asyncio.sleep(seconds / 10)
            if fault is not None:
                fault()
            await asyncio.gather(*callers)
            figures[name] = statistics.quantiles(latencies, n=20)[-1]
        await cache.aclose()
    return figures


async def two_servers() -> dict[str, int]:
    """Ask one server, then another one on the same Redis; return how often the model was asked."""
    model = Counted()
    with tempfile.TemporaryDirectory() as name, RedisServer() as redis:
        folder = Path(name)
        async with ModelServer({"m": model}) as server:
            (folder / "dspex.toml").write_text(
                f'[models.main]\nmodel = "{server.url}#m"\ncache = "redis"\n'
            )
            settings = Settings(
                state_dir=folder / "state",
                models={"main": {"model": f"{server.url}#m", "cache": "redis"}},
            )
            await migrate_database(settings)
            async with open_services(settings) as services:
                program = Predict("question -> answer", model="main").to_program("qa")
                await save_program(services.operations, program, backend="native")
            counts = []
            for _ in range(2):
                await _ask_server(folder, redis.url)
                counts.append(sum(model.asked.values()))
    return {"first": counts[0], "second": counts[1] - counts[0]}


async def _ask_server(folder: Path, redis: str) -> None:
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("DSPEX_")
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "dspex", "serve", "--port", "0", "--no-worker", "--json"),
        *("--state-dir", str(folder / "state")),
        cwd=folder,
        env={**environment, "DSPEX_REDIS_URL": redis},
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    lines = ""
    while "}" not in lines:
        lines += (await process.stdout.readline()).decode()
    url = json.loads(lines)["url"]
    try:
        async with aiohttp.ClientSession() as session:

            async def ask(number: int) -> None:
                body = {"inputs": {"question": f"question {number}"}}
                async with session.post(f"{url}/v1/programs/qa/execute", json=body) as response:
                    execution = await response.json()
                    assert execution.get("status") == "completed", execution

            # twice each, at once: a server does not ask the same thing twice either
            await asyncio.gather(*(ask(number) for number in [*range(QUESTIONS)] * 2))
    finally:
        process.terminate()
        await process.wait()


def measure_redis(*, quick: bool) -> tuple[dict[str, Any], list[tuple[str, bool, str]]]:
    """Return the figures, and each goal with whether it is met."""
    times = asyncio.run(outages(3.0 if quick else 8.0))
    asked = asyncio.run(two_servers())
    worst = max(times["stopped"], times["killed"]) - times["there"]
    shown = ", ".join(f"{name} {times[name]:.0f}" for name in ("there", "stopped", "killed"))
    goals = [
        ("calls that fail while Redis is stopped or killed: 0", not times["failed"], "0"),
        ("p95 without Redis at most 50 ms higher", worst <= 50, f"{worst:.0f} ms ({shown})"),
        (
            "a second server on one Redis asks nothing that the first one knows",
            asked == {"first": QUESTIONS, "second": 0},
            f"{asked['first']}, then {asked['second']}",
        ),
    ]
    return {"p95_ms": times, "asked": asked}, goals
