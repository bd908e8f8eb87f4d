"""What a running server does beside answering."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from dspex.bootstrap import Services
from dspex.clock import Clock
from dspex.errors import StorageError

EVERY_S = 30.0
_log = logging.getLogger("dspex.api")


@asynccontextmanager
async def flush_key_usage(services: Services, *, clock: Clock) -> AsyncIterator[None]:
    """Write every 30 seconds when keys were last used, and once more at the end."""
    keeper = asyncio.create_task(_keep(services, clock))
    try:
        yield
    finally:
        keeper.cancel()
        await asyncio.wait({keeper})
        await tidy(services)


async def _keep(services: Services, clock: Clock) -> None:
    while True:
        await clock.sleep(EVERY_S)
        await tidy(services)


async def tidy(services: Services) -> None:
    """Do it once; a database that cannot be written is tried again the next time."""
    try:
        await services.keys.flush()
    except StorageError as error:
        _log.warning("cannot write when keys were last used: %s", error.message)
