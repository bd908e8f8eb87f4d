"""Hostile programs in a worker: typed errors for their calls, other calls succeed.

Nothing leaks.
"""

import asyncio
import json
import resource
import sys
import time
from pathlib import Path

import pytest

from dspex.errors import DspexError
from dspex.execution.workers import BreakerConfig, Intensity, Pool, PoolConfig, WorkerSpec
from dspex.testing.processes import open_resources
from tests.execution.workers import hostile_host

pytestmark = pytest.mark.bridge

DEADLINE = 1.5
PATIENCE = 30.0  # seconds for one call after a hostile one, on a loaded machine
GROWTH_KIB = 300 * 1024


@pytest.mark.parametrize(
    "every", [pytest.param(6, id="some"), pytest.param(1, id="all", marks=pytest.mark.slow)]
)
async def test_no_act_of_a_worker_harms_more_than_its_own_calls(every: int) -> None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    before = open_resources()
    spec = WorkerSpec(
        host=Path(hostile_host.__file__),
        interpreter=sys.executable,
        concurrency=2,
        memory_limit=400 << 20,
        cancel_seconds=0.1,
        shutdown_seconds=0.3,
    )
    config = PoolConfig(
        name="hostile",
        maximum=1,
        spares=1,
        health_seconds=0.3,
        intensity=Intensity(restarts=10_000),
        breaker=BreakerConfig(failures=10_000),
    )
    slow = {}
    async with asyncio.timeout(280), Pool(config, spec) as pool:
        for name in list(hostile_host.ACTS)[::every]:
            began = time.monotonic()
            outcome = await act(pool, name)
            json.dumps(outcome) if not isinstance(outcome, DspexError) else outcome.to_dict()
            assert await served(pool) == {"after": 1}, name
            if time.monotonic() - began > PATIENCE:
                slow[name] = time.monotonic() - began
    await asyncio.sleep(0)
    assert open_resources() == before
    assert slow == {}
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < GROWTH_KIB
    assert len(hostile_host.ACTS) >= 40


async def act(pool, name):
    """Return the reply of a hostile program, or its dspex error."""
    try:
        return await pool.call("act", {"name": name}, seconds=DEADLINE)
    except DspexError as error:
        return error


async def served(pool):
    """Return the reply to a later call; retry it if the worker ends meanwhile."""
    while True:
        try:
            return await pool.call("echo", {"after": 1}, seconds=PATIENCE)
        except DspexError as error:
            if not error.is_retryable:
                raise
