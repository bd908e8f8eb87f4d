"""Whether requests should be sent to this server: asked by anybody, as often as they like."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from dspex.clock import Clock
from dspex.errors import ConflictError, DspexError, StorageError
from dspex.operations.resources.executing import Executor
from dspex.operations.storage import HEAD, Database, revision

EVERY_NS: Final = 1_000_000_000
WITHIN_S: Final = 5.0


class Readiness:
    """Finds the reasons not to send requests here. Owned by one event loop.

    It reads the schema, and reports the last write if it failed. At most once a second it writes the row of this
    process, and looks whether what is stored can be read from where it lies.
    """

    def __init__(
        self, database: Database, executor: Executor, *, prove: Callable[[], Awaitable[object]], clock: Clock
    ) -> None:
        """Take the collaborators; `prove` writes something small."""
        self._database = database
        self._executor = executor
        self._prove = prove
        self._clock = clock
        self._trial: asyncio.Task[str | None] | None = None
        self._began_ns = 0

    async def problems(self) -> list[str]:
        """Return what is wrong; whoever asks needs no key, so that no message says where the database is."""
        if self._executor.runs.is_draining:
            return ["this server is being stopped"]
        try:
            async with asyncio.timeout(WITHIN_S):
                found = await revision(self._database)
                tried = await asyncio.shield(self._tried())
        except StorageError as failure:
            return [_public(failure)]
        except TimeoutError:
            return [f"the database does not answer within {WITHIN_S:g} s"]
        if found != HEAD:
            return [f"the database has schema {found}, this server reads {HEAD}"]
        if tried is not None:
            return [tried]
        error = self._database.writes.last_error
        return [] if error is None else [_public(error)]

    async def aclose(self) -> None:
        """End what is under way."""
        if self._trial is not None:
            self._trial.cancel()
            await asyncio.wait({self._trial})

    def _tried(self) -> "asyncio.Task[str | None]":
        """Return the trial of the last second, or a new one: all who ask meanwhile share it."""
        now_ns = self._clock.monotonic_ns()
        if self._trial is None or (self._trial.done() and now_ns - self._began_ns >= EVERY_NS):
            self._began_ns = now_ns
            self._trial = asyncio.get_running_loop().create_task(self._try(), name="dspex readiness")
        return self._trial

    async def _try(self) -> str | None:
        try:
            await self._database.driver.check()
            await self._prove()
        except ConflictError:  # another wrote the same row: it can be written
            return None
        except StorageError as error:
            return _public(error)
        return None


def _public(error: DspexError) -> str:
    return str(error.context.get("public", error.message))
