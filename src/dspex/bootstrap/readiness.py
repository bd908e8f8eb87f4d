"""Whether this server is ready for requests; cheap enough for any number of callers."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from dspex.clock import Clock
from dspex.errors import ConflictError, StorageError
from dspex.operations.executions.executor import Executor
from dspex.operations.storage import HEAD, Database, revision

INTERVAL_NS: Final = 1_000_000_000
TIMEOUT_S: Final = 5.0


class Readiness:
    """Finds the reasons not to send requests here. Owned by one event loop.

    It reads the schema and reports a failed last write. At most once a second it writes the row of
    this process and checks that the stored data can be read.
    """

    def __init__(
        self,
        database: Database,
        executor: Executor,
        *,
        prove: Callable[[], Awaitable[object]],
        clock: Clock,
    ) -> None:
        """Take the collaborators; `prove` writes a small row."""
        self._database = database
        self._executor = executor
        self._prove = prove
        self._clock = clock
        self._write_check: asyncio.Task[str | None] | None = None
        self._checked_ns = 0

    async def problems(self) -> list[str]:
        """Return the problems.

        Callers need no key, so no message contains the database's location.
        """
        if self._executor.runs.is_draining:
            return ["this server is being stopped"]
        try:
            async with asyncio.timeout(TIMEOUT_S):
                schema = await revision(self._database)
                problem = await asyncio.shield(self._shared_check())
        except StorageError as failure:
            return [failure.public_message]
        except TimeoutError:
            return [f"the database does not answer within {TIMEOUT_S:g} s"]
        if schema != HEAD:
            return [f"the database has schema {schema}, this server reads {HEAD}"]
        if problem is not None:
            return [problem]
        error = self._database.writes.last_error
        return [] if error is None else [error.public_message]

    async def aclose(self) -> None:
        """Cancel the running check."""
        if self._write_check is not None:
            self._write_check.cancel()
            await asyncio.wait({self._write_check})

    def _shared_check(self) -> "asyncio.Task[str | None]":
        """Return the check of the last second, or a new one; concurrent callers share it."""
        now_ns = self._clock.monotonic_ns()
        if self._write_check is None or (
            self._write_check.done() and now_ns - self._checked_ns >= INTERVAL_NS
        ):
            self._checked_ns = now_ns
            self._write_check = asyncio.get_running_loop().create_task(
                self._check_write(), name="dspex readiness"
            )
        return self._write_check

    async def _check_write(self) -> str | None:
        try:
            await self._database.driver.check()
            await self._prove()
        except ConflictError:  # another process wrote the row, so it can be written
            return None
        except StorageError as error:
            return error.public_message
        return None
