"""Where members run: in this process, in workers, and on dspy in workers."""

import importlib.util
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dspex import Module
from dspex.agents import Coordination
from dspex.execution.backends import Backend, HybridBackend, IsolatedBackend
from dspex.execution.backends.dspy_bridge.backend import DspyBackend, DspyConfig
from dspex.execution.modules import CodeRoot
from dspex.execution.workers import Intensity, PoolConfig

WORKERS = [
    pytest.param("isolated", marks=pytest.mark.bridge),
    pytest.param("dspy", marks=pytest.mark.full),
]
PLACES = pytest.mark.parametrize("place", ["native", *WORKERS])
ELSEWHERE = pytest.mark.parametrize("place", WORKERS)
CODE = CodeRoot(Path(__file__).parents[4])
POOL = PoolConfig(name="members", intensity=Intensity(restarts=50))


@asynccontextmanager
async def opened(place: str) -> AsyncIterator[dict[str, Backend]]:
    """Yield the backends of a place, empty for this process."""
    if place == "native":
        yield {}
    elif place == "isolated":
        async with IsolatedBackend(pool=POOL, code=CODE) as backend:
            yield {"isolated": backend}
    else:
        if importlib.util.find_spec("dspy") is None:
            pytest.skip("dspy is not installed here: pip install 'dspex[dspy]'")
        config = DspyConfig(interpreter=sys.executable, pool=replace(POOL, name="dspy"))
        async with DspyBackend(config, code=CODE) as backend:
            yield {"dspy": backend}


async def run(team: Module, backends: dict[str, Backend], context: Any, **inputs: Any) -> Any:
    """Run a team whose members are on these backends, as a stored program."""
    hybrid = HybridBackend(backends, code=CODE)
    handle = await hybrid.create_program(team.to_program("team"))
    return await hybrid.execute_program(handle, inputs, context)


def kill_workers(backend: Backend) -> None:
    """Kill all processes of a backend, as a machine without memory does."""
    assert isinstance(backend, IsolatedBackend | DspyBackend)
    for worker in backend.stats().workers:
        if worker.pid:
            os.kill(worker.pid, signal.SIGKILL)


def placed(team: Coordination[Any], place: str) -> Coordination[Any]:
    """Return the team with all members on a backend."""
    if place != "native":
        team.members = {name: module.on(place) for name, module in team.members.items()}
    return team
