"""A thread that keeps a worker's survey going, whatever blocks its main loop."""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from dspex.errors import StorageError
from dspex.operations.jobs.survey import Survey

Looking = Callable[[], AbstractAsyncContextManager[Survey]]
_log = logging.getLogger("dspex.jobs")


class Pulse:
    """Beats on a loop and a connection of its own: a metric that computes for seconds does not make a worker dead.

    `on_death` is called on that thread, once, when others have declared this worker dead.
    """

    def __init__(self, looking: Looking, *, every: float, on_death: Callable[[], None]) -> None:
        """Take what opens a survey on the thread's own loop."""
        self._looking = looking
        self._every = every
        self._on_death = on_death
        self._thread = threading.Thread(target=self._run, name="dspex-pulse", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ending: asyncio.Event | None = None
        self._began = threading.Event()

    def start(self) -> None:
        """Start beating; returns when the thread runs."""
        self._thread.start()
        self._began.wait()

    @property
    def is_alive(self) -> bool:
        """Whether it was started and beats still."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Stop, and wait for the thread."""
        if self._loop is not None and self._ending is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._ending.set)
        self._thread.join()

    def _run(self) -> None:
        asyncio.run(self._beating())

    async def _beating(self) -> None:
        self._loop, self._ending = asyncio.get_running_loop(), asyncio.Event()
        self._began.set()
        async with self._looking() as survey:
            while not self._ending.is_set() and await self._beat(survey):
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._ending.wait(), self._every)

    async def _beat(self, survey: Survey) -> bool:
        try:
            is_alive = await survey.tick()
        except StorageError as error:
            _log.warning("no sign of life can be written: %s", error.message)
            return True
        if not is_alive:
            self._on_death()
        return is_alive
