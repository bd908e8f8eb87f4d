"""Writing down, now and then, when API keys were last used."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from dspex.bootstrap import Services
from dspex.clock import Clock
from dspex.errors import StorageError

INTERVAL_S = 30.0
_log = logging.getLogger("dspex.api")


@asynccontextmanager
async def flush_key_usage(services: Services, *, clock: Clock) -> AsyncIterator[None]:
    """Store the last use of each key every 30 seconds, and once more at the end."""
    task = asyncio.create_task(_flush_repeatedly(services, clock))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})
        await _flush(services)


async def _flush_repeatedly(services: Services, clock: Clock) -> None:
    while True:
        await clock.sleep(INTERVAL_S)
        await _flush(services)


async def _flush(services: Services) -> None:
    """Store the last uses; after a failure they are stored by the next flush."""
    try:
        await services.keys.flush()
    except StorageError as error:
        _log.warning("cannot store when API keys were last used: %s", error.message)
