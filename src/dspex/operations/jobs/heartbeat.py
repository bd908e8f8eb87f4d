"""Sends the heartbeats of a worker from the loop of its work, so a blocked worker sends none."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from dspex.errors import StorageError
from dspex.operations.jobs.worker_registry import WorkerRegistry

_log = logging.getLogger("dspex.jobs")


@asynccontextmanager
async def heartbeat(
    registry: WorkerRegistry, *, every: float, on_death: Callable[[], None]
) -> AsyncIterator[None]:
    """Send heartbeats inside the block; call `on_death` once others have declared it dead."""
    task = asyncio.create_task(_beat(registry, every, on_death), name="heartbeat")
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _beat(registry: WorkerRegistry, every: float, on_death: Callable[[], None]) -> None:
    while True:
        try:
            if not await registry.tick():
                on_death()
                return
        except StorageError as error:
            _log.warning("no heartbeat can be written: %s", error.message)
        await asyncio.sleep(every)
