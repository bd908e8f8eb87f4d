"""A backend that starts its workers at the first use."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

from dspex.errors import NotFoundError, RestartLimitError, WorkerLostError
from dspex.execution.backends.backend import Backend, BackendCapability, Handle
from dspex.execution.backends.handle_cache import HandleCache
from dspex.execution.context import RunContext
from dspex.execution.workers import PoolStats
from dspex.language.programs import Program
from dspex.language.records import Prediction

R = TypeVar("R")


class PooledBackend(Backend, Protocol):
    """A backend with a pool of workers, which run inside `async with`."""

    async def __aenter__(self) -> Self:
        """Start the workers."""
        ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop the workers."""
        ...

    def stats(self) -> PoolStats:
        """Return a snapshot of the workers."""
        ...


P = TypeVar("P", bound=PooledBackend)


class LazyBackend(Generic[P]):
    """Starts its workers at the first use; after their pool gave up, the next use starts a new one.

    Owned by one event loop. It keeps the programs, so that a handle outlives the workers behind it.
    """

    def __init__(
        self, name: str, capabilities: frozenset[BackendCapability], create: Callable[[], P]
    ) -> None:
        """Take the factory of the backend, which may import what only this backend needs."""
        self.name = name
        self.capabilities = capabilities
        self._create = create
        self._backend: P | None = None
        self._stats_source: P | None = None
        self._lock = asyncio.Lock()
        self._programs: HandleCache[Program] = HandleCache()
        self._is_closed = False

    async def ensure_started(self) -> P:
        """Return the backend; starts its workers if necessary.

        Raises:
            WorkerStartError: they cannot be started; the message says what to install or to set.
            WorkerLostError: the backend is closed.
        """
        async with self._lock:
            if self._is_closed:
                raise WorkerLostError(f"backend {self.name!r} has ended")
            if self._backend is None:
                self._backend = await self._start()
            return self._backend

    async def _start(self) -> P:
        self._stats_source = backend = self._create()
        try:
            await backend.__aenter__()
        except BaseException:
            self._stats_source = None
            await backend.__aexit__(None, None, None)
            raise
        return backend

    def stats(self) -> PoolStats | None:
        """Return a snapshot of the workers, even while they start; None before the first use."""
        return None if self._stats_source is None else self._stats_source.stats()

    async def aclose(self) -> None:
        """Stop the workers, if any; the backend cannot be used afterwards."""
        async with self._lock:
            self._is_closed = True
            await self._stop()

    async def create_program(self, program: Program) -> Handle:
        """Create `program` in a worker; see `Backend.create_program`."""
        handle = await self._run_on(lambda backend: backend.create_program(program))
        return self._programs.put(handle, program)

    async def execute_program(
        self, handle: Handle, inputs: Mapping[str, Any], context: RunContext
    ) -> Prediction:
        """Run a program in a worker; see `Backend.execute_program`."""
        program = self._programs.get(handle)

        async def run(backend: P) -> Prediction:
            return await backend.execute_program(
                await backend.create_program(program), inputs, context
            )

        return await self._run_on(run)

    async def delete_program(self, handle: Handle) -> None:
        """Remove one program, here and in the workers."""
        self._programs.delete(handle)
        if self._backend is not None:
            with contextlib.suppress(NotFoundError):  # restarted workers may not have it yet
                await self._backend.delete_program(handle)

    async def list_programs(self) -> Sequence[Handle]:
        """Return the handles of all programs."""
        return self._programs.handles()

    async def _run_on(self, work: Callable[[P], Awaitable[R]]) -> R:
        backend = await self.ensure_started()
        try:
            return await work(backend)
        except RestartLimitError:
            async with self._lock:
                if self._backend is backend:
                    await self._stop()
            raise

    async def _stop(self) -> None:
        backend, self._backend, self._stats_source = self._backend, None, None
        if backend is not None:
            await backend.__aexit__(None, None, None)
