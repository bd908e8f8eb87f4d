"""Backends whose workers are started when they are first needed."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

from dspex.errors import NotFoundError, RestartLimitError, WorkerLostError
from dspex.execution.backends.backend import Backend, BackendCapability, Handle
from dspex.execution.backends.held import Held
from dspex.execution.context import RunContext
from dspex.execution.workers import PoolStats
from dspex.language.programs import Program
from dspex.language.records import Prediction

R = TypeVar("R")


class Pooled(Backend, Protocol):
    """A backend with workers of its own, which live inside `async with`."""

    async def __aenter__(self) -> Self:
        """Start the workers."""
        ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End them."""
        ...

    def stats(self) -> PoolStats:
        """Return what every worker does at this moment."""
        ...


P = TypeVar("P", bound=Pooled)


class LazyBackend(Generic[P]):
    """Starts its workers at the first use; where their pool has given up, the next use starts a new one.

    Owned by one event loop. Programs are remembered here, so that a handle outlives the workers behind it.
    """

    def __init__(self, name: str, capabilities: frozenset[BackendCapability], make: Callable[[], P]) -> None:
        """Take how the backend is made; `make` may import what only it needs."""
        self.name = name
        self.capabilities = capabilities
        self._make = make
        self._backend: P | None = None
        self._shown: P | None = None
        self._lock = asyncio.Lock()
        self._programs: Held[Program] = Held()
        self._is_closed = False

    async def started(self) -> P:
        """Return the backend, with its workers.

        Raises:
            WorkerStartError: they cannot be started; the message says what to install or to set.
            WorkerLostError: this process is about to end.
        """
        async with self._lock:
            if self._is_closed:
                raise WorkerLostError(f"backend {self.name!r} has ended")
            if self._backend is None:
                self._backend = await self._begun()
            return self._backend

    async def _begun(self) -> P:
        self._shown = backend = self._make()
        try:
            await backend.__aenter__()
        except BaseException:
            self._shown = None
            await backend.__aexit__(None, None, None)
            raise
        return backend

    def stats(self) -> PoolStats | None:
        """Return what every worker does, also while they start; None where none was needed yet."""
        return None if self._shown is None else self._shown.stats()

    async def aclose(self) -> None:
        """End the workers, if there are any; nothing can be started after this."""
        async with self._lock:
            self._is_closed = True
            await self._end()

    async def create_program(self, program: Program) -> Handle:
        """Make `program` ready on a worker; see `Backend.create_program`."""
        handle = await self._on(lambda backend: backend.create_program(program))
        return self._programs.put(handle, program)

    async def execute_program(self, handle: Handle, inputs: Mapping[str, Any], context: RunContext) -> Prediction:
        """Run a program on a worker; see `Backend.execute_program`."""
        program = self._programs.get(handle)

        async def run(backend: P) -> Prediction:
            return await backend.execute_program(await backend.create_program(program), inputs, context)

        return await self._on(run)

    async def delete_program(self, handle: Handle) -> None:
        """Forget one program, here and in the workers."""
        self._programs.delete(handle)
        if self._backend is not None:
            with contextlib.suppress(NotFoundError):  # workers that were started anew may not have got it yet
                await self._backend.delete_program(handle)

    async def list_programs(self) -> Sequence[Handle]:
        """Return the handles of all programs."""
        return self._programs.handles()

    async def _on(self, work: Callable[[P], Awaitable[R]]) -> R:
        backend = await self.started()
        try:
            return await work(backend)
        except RestartLimitError:
            async with self._lock:
                if self._backend is backend:
                    await self._end()
            raise

    async def _end(self) -> None:
        backend, self._backend, self._shown = self._backend, None, None
        if backend is not None:
            await backend.__aexit__(None, None, None)
