"""Shows that a worker lives, from the loop that does its work.

A worker that cannot turn that loop shows nothing.
"""

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
    """Let `registry` beat inside the block.

    `on_death` is called once, when others have declared this worker dead.
    """
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
            _log.warning("no sign of life can be written: %s", error.message)
        await asyncio.sleep(every)
