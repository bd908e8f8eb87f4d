"""Workers of one kind behind one queue."""

import asyncio
import itertools
import random
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from dspex.clock import Clock, SystemClock
from dspex.errors import (
    DspexError,
    PoolExhaustedError,
    PoolRestingError,
    WorkerError,
    WorkerLostError,
    WorkerTimeoutError,
)
from dspex.execution.workers.breaker import BreakerConfig, CircuitBreaker
from dspex.execution.workers.connection import Caller, again
from dspex.execution.workers.orphans import run_mark, sweep
from dspex.execution.workers.process import start_error
from dspex.execution.workers.queue import Queue
from dspex.execution.workers.restarts import Backoff, Intensity
from dspex.execution.workers.spec import WorkerSpec
from dspex.execution.workers.stats import PoolStats, WorkerStats
from dspex.execution.workers.supervisor import ChildSpec, Policy, Supervisor
from dspex.execution.workers.watchdog import Watchdog
from dspex.execution.workers.worker import Worker
from dspex.telemetry import Observer, Silent

_FAILED_STARTS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolConfig:
    """How many workers there are, and how long things may wait.

    `spares` workers are kept started beyond those that serve, so that a call after a crash waits for no import.
    A pool grows to `maximum` while calls wait, and shrinks after `idle_seconds` without use. When its workers fail more
    often than `intensity` allows, it rests for `rest_seconds` and starts anew; None ends it for good instead, so that a
    supervisor above it decides.
    """

    name: str
    minimum: int = 1
    maximum: int = 1
    spares: int = 0
    queue_limit: int = 1000
    health_seconds: float = 1.0
    idle_seconds: float = 60.0
    rest_seconds: float | None = 5.0
    intensity: Intensity = field(default_factory=Intensity)
    breaker: BreakerConfig = field(default_factory=BreakerConfig)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loading:
    """A program that a call needs: its handle, and the arguments that create it where a worker has not got it yet."""

    handle: str
    args: Mapping[str, Any]


class Pool:
    """Calls go to the worker that has their program and the least to do, or wait in a queue with a limit.

    A crash fails the calls that the worker held, each with a retryable error, and nothing else. Owned by one event
    loop; `async with` starts and ends it. It is a supervisor's `Child`.
    """

    def __init__(
        self,
        config: PoolConfig,
        spec: WorkerSpec,
        *,
        clock: Clock | None = None,
        rng: random.Random | None = None,
        observer: Observer | None = None,
    ) -> None:
        """Take what to run; nothing is started before `start`."""
        self.config = config
        self.spec = spec
        self._clock = clock or SystemClock()
        self._observer = observer or Silent()
        self._run = run_mark()
        self._rng = rng
        self._supervisor = self._supervise()
        self._breaker = CircuitBreaker(config.breaker, self._clock)
        self._serving: set[str] = set()
        self._target = config.minimum
        self._queue = Queue(config.name, config.queue_limit)
        self._last_used = 0.0
        self._counts = {"answered": 0, "failed": 0, "rejected": 0}
        self._failure: DspexError | None = None
        self._rested = 0.0
        self._restarts = 0
        self._failed_starts = 0
        self._watchdog: Watchdog | None = None
        self._is_stopping = False
        self._ended = asyncio.Event()
        self._reason: DspexError | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._growing: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "Pool":
        await self.start()
        await self.ready()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Sweep what an earlier run left behind and start the workers; `ready` waits for them.

        Raises:
            WorkerStartError: the interpreter cannot be run; nothing is left of the pool.
        """
        await asyncio.to_thread(sweep)
        self._watchdog = Watchdog.start(self._run, self.spec.interpreter)
        try:
            await self._supervisor.start()
        except BaseException:
            await self.stop()
            raise
        self._spawn(self._beat())
        self._spawn(self._watch())

    async def ready(self) -> None:
        """Wait until the minimum of workers serves.

        Raises:
            WorkerStartError: one of them did not start; the pool is stopped.
        """
        try:
            for worker in self._workers[: self.config.minimum]:
                await asyncio.shield(worker.ready)
        except BaseException:
            await self.stop()
            raise

    async def wait(self) -> DspexError | None:
        """Wait for the end: None after `stop`; why its supervisor gave up, where a pool ends for good then."""
        await self._ended.wait()
        return self._reason

    async def stop(self) -> None:
        """End every worker in order; calls that still wait fail with a retryable error."""
        self._is_stopping = True
        if self._failure is None or isinstance(self._failure, PoolRestingError):
            self._failure = WorkerLostError(f"pool {self.config.name!r} has ended")
        self._queue.fail(self._failure)
        await asyncio.gather(*self._growing, return_exceptions=True)  # a start that is cut short would be lost
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._supervisor.stop()
        self._end()

    async def call(
        self,
        command: str,
        args: Mapping[str, Any],
        *,
        seconds: float | None = None,
        caller: Caller | None = None,
        program: Loading | None = None,
    ) -> Any:  # noqa: ANN401  # any JSON value
        """Make one request on some worker and return its answer.

        Raises:
            PoolExhaustedError: the queue is full, or `seconds` passed in it.
            CircuitOpenError: the workers fail in a row.
            WorkerTimeoutError: the worker did not answer within `seconds`, the time in the queue included.
            WorkerLostError: the worker ended first; the call may be made again.
            PoolRestingError: the workers failed too often; they are started again soon.
            WorkerStartError: no worker can be started.
            DspexError: what the child or a callback answered.
        """
        self._refuse()
        is_probe = self._breaker.admit()
        ends = None if seconds is None else asyncio.get_running_loop().time() + seconds
        try:
            worker = await self._lease(program.handle if program else "", ends)
            answer = await self._on(worker, command, args, ends=ends, caller=caller, program=program)
        except WorkerError as error:
            self._counts["rejected" if isinstance(error, PoolExhaustedError) else "failed"] += 1
            if isinstance(error, WorkerTimeoutError):
                self._breaker.failed()
                if seconds is not None and _left(ends) == 0:  # what the worker was given is only what was left of it
                    raise WorkerTimeoutError(
                        f"pool {self.config.name!r} did not answer {command!r} within {seconds:g} s", seconds=seconds
                    ) from None
            raise
        except DspexError:  # the worker has answered; that it was an error is the program's affair
            self._breaker.succeeded()
            raise
        else:
            self._counts["answered"] += 1
            self._breaker.succeeded()
            return answer
        finally:
            self._last_used = self._clock.monotonic_ns() / 1e9
            self._breaker.done(is_probe=is_probe)

    async def _on(
        self,
        worker: Worker,
        command: str,
        args: Mapping[str, Any],
        *,
        ends: float | None,
        caller: Caller | None,
        program: Loading | None,
    ) -> Any:  # noqa: ANN401
        worker.release()
        if program is None:
            return await worker.call(command, args, seconds=_left(ends), caller=caller)
        with worker.loaded.use(program.handle):
            is_asked = False
            try:
                await worker.load(program.handle, program.args, seconds=_left(ends))
                is_asked = command != "create_program"
            finally:
                if not is_asked:  # no reply will free the slot: it goes to the next in the queue here
                    self._queue.serve(self._choose)
            return await worker.call(command, args, seconds=_left(ends), caller=caller) if is_asked else program.handle

    async def broadcast(self, command: str, args: Mapping[str, Any]) -> None:
        """Make the same request on every worker that is ready, spares included; a worker that is lost has no answer."""
        ready = [worker for worker in self._workers if worker.state == "ready"]
        await asyncio.gather(*(worker.call(command, args) for worker in ready), return_exceptions=True)

    def forget(self, handle: str) -> None:
        """Let no worker count as having the program any more."""
        for worker in self._workers:
            worker.loaded.discard(handle)

    def recycle(self, why: str) -> None:
        """Replace every worker by a new one; calls under way end undisturbed, later ones wait for the new workers."""
        for worker in self._workers:
            worker.drain(why)

    @property
    def about(self) -> Mapping[str, Any]:
        """What a ready worker said about itself: versions, commands, capabilities; empty while none is ready."""
        return next((worker.about for worker in self._workers if worker.about), {})

    async def tick(self) -> None:
        """Check health, recycle what is drained, shrink where nothing waits. The pool's own task calls it."""
        for worker in self._workers:
            worker.check()
        idle = self._clock.monotonic_ns() / 1e9 - self._last_used
        if self._target > self.config.minimum and not len(self._queue) and idle > self.config.idle_seconds:
            last = next(reversed(self._workers), None)
            if last is not None and not last.busy:
                self._target -= 1
                self._serving.discard(last.name)
                await self._supervisor.remove(last.name)

    def stats(self) -> PoolStats:
        """Return what every worker does at this moment."""
        workers = tuple(
            WorkerStats(
                name=worker.name,
                state=worker.state,
                role="serving" if worker.name in self._serving else "spare",
                pid=worker.pid,
                memory=worker.memory,
                busy=worker.busy,
                served=worker.served,
                restarts=self._supervisor.restarts(worker.name),
                reason=worker.reason,
            )
            for worker in self._workers
        )
        return PoolStats(
            name=self.config.name,
            breaker=self._breaker.state,
            queued=len(self._queue),
            restarts=self._restarts + self._supervisor.restarts_in_all,
            workers=workers,
            **self._counts,
        )

    @property
    def _workers(self) -> list[Worker]:
        return [child for child in self._supervisor.children.values() if isinstance(child, Worker)]

    def _supervise(self) -> Supervisor:
        policy = Policy(intensity=self.config.intensity, backoff=Backoff(healthy=0.2), stops_together=True)
        self._numbers = itertools.count()
        children = [self._child() for _ in range(self.config.minimum + self.config.spares)]
        return Supervisor(self.config.name, children, policy=policy, clock=self._clock, rng=self._rng)

    def _refuse(self) -> None:
        if isinstance(self._failure, PoolRestingError):
            left = max(self._rested - self._clock.monotonic_ns() / 1e9, 0.0)
            raise PoolRestingError(self._failure.message, retry_after=left)
        if self._failure is not None:
            raise again(self._failure)

    def _child(self) -> ChildSpec:
        name = f"{self.config.name}-{next(self._numbers)}"

        def create() -> Worker:
            return Worker(name, self.spec, run=self._run, observer=self._observer, on_change=self._changed)

        return ChildSpec(name=name, create=create)

    def _changed(self, worker: Worker) -> None:
        if worker.state not in {"starting", "ready"}:
            self._serving.discard(worker.name)
        if worker.state == "lost" and not worker.is_discarded:
            self._breaker.failed()
        self._count_starts(worker)
        if worker.state == "draining" and not worker.busy and not worker.is_stopping:
            self._spawn(worker.stop())
        self._fill()
        self._queue.serve(self._choose)

    def _count_starts(self, worker: Worker) -> None:
        """Where start after start fails and nobody serves, those who wait are told: they would wait for ever."""
        if worker.state == "ready":
            self._failed_starts = 0
        elif worker.state == "lost" and not worker.about and worker.failure is not None:
            self._failed_starts += 1
            if self._failed_starts >= _FAILED_STARTS and not any(other.about for other in self._workers):
                self._queue.fail(start_error(self.spec, worker.failure.message))

    def _fill(self) -> None:
        for worker in self._workers:
            if len(self._serving) >= self._target:
                return
            if worker.state == "ready":
                self._serving.add(worker.name)

    def _choose(self, handle: str) -> Worker | None:
        """Return the worker with the least to do, of equals one that has the program."""
        free = [worker for worker in self._workers if worker.has_slot and worker.name in self._serving]
        return min(free, key=lambda worker: (worker.busy, handle not in worker.loaded), default=None)

    async def _lease(self, handle: str, ends: float | None) -> Worker:
        worker = self._choose(handle) if not len(self._queue) else None
        if worker is not None:
            worker.reserve()
            return worker
        if self._target < self.config.maximum:
            self._target += 1
            growing = self._spawn(self._supervisor.add(self._child()))
            self._growing.add(growing)
            growing.add_done_callback(self._growing.discard)
        return await self._queue.wait(handle, ends)

    def _spawn(self, coroutine: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _beat(self) -> None:
        while True:
            await self._clock.sleep(self.config.health_seconds)
            await self.tick()

    async def _watch(self) -> None:
        error = await self._supervisor.wait()
        while error is not None:
            if self.config.rest_seconds is None:
                self._failure = self._reason = error
                self._queue.fail(error)
                self._end()
                return
            await self._rest(error, self.config.rest_seconds)
            error = await self._start_again() or await self._supervisor.wait()

    async def _rest(self, error: DspexError, seconds: float) -> None:
        self._rested = self._clock.monotonic_ns() / 1e9 + seconds
        self._failure = PoolRestingError(
            f"pool {self.config.name!r} rests for {seconds:g} s before it starts again: {error.message}",
            retry_after=seconds,
        )
        self._queue.fail(self._failure)
        await self._clock.sleep(seconds)

    async def _start_again(self) -> DspexError | None:
        """Start with nothing held against the workers; returns why they do not start."""
        if self._is_stopping:
            return None
        self._restarts += self._supervisor.restarts_in_all
        self._supervisor, self._target, self._failed_starts = self._supervise(), self.config.minimum, 0
        self._serving.clear()
        self._failure = None
        starting = self._spawn(self._supervisor.start())
        self._growing.add(starting)  # so that `stop` waits for it: a start that is cut short would be lost
        starting.add_done_callback(self._growing.discard)
        try:
            await asyncio.shield(starting)
        except DspexError as error:
            return error
        return None

    def _end(self) -> None:
        if self._watchdog is not None:
            self._watchdog.close()
            self._watchdog = None
        self._ended.set()


def _left(ends: float | None) -> float | None:
    return None if ends is None else max(ends - asyncio.get_running_loop().time(), 0.0)
