"""A pool of workers of one kind behind one queue."""

import asyncio
import itertools
import random
from collections.abc import Mapping
from copy import copy
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
from dspex.execution.workers.background_tasks import BackgroundTasks
from dspex.execution.workers.breaker import BreakerConfig, CircuitBreaker
from dspex.execution.workers.connection import CallHandler
from dspex.execution.workers.orphans import run_mark, sweep
from dspex.execution.workers.process import start_error
from dspex.execution.workers.queue import Queue
from dspex.execution.workers.restarts import Backoff, Intensity
from dspex.execution.workers.spec import WorkerSpec
from dspex.execution.workers.stats import PoolStats, WorkerStats
from dspex.execution.workers.supervisor import ChildSpec, RestartPolicy, WorkerSupervisor
from dspex.execution.workers.watchdog import Watchdog
from dspex.execution.workers.worker import PoolWorker
from dspex.telemetry import Observer, Silent

_FAILED_STARTS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolConfig:
    """The number of workers in a pool, and its waiting times.

    `spares` are extra workers that are already started, so that a call after a crash does not wait
    for imports. A pool grows to `maximum` while calls wait, and shrinks after `idle_seconds`
    without use. When its workers fail more often than `intensity` allows, it rests for
    `rest_seconds` and starts again; None ends it instead, so that a supervisor above it decides.
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
class LoadRequest:
    """The program that a call needs: its handle, and the arguments that create it in a worker."""

    handle: str
    args: Mapping[str, Any]


class Pool:
    """Sends calls to the least busy worker, preferably one that has their program, or queues them.

    A crash fails only the calls of that worker, each with a retryable error. Owned by one event
    loop; `async with` starts and ends it. It can be the `Child` of a supervisor.
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
        """Take what to run; `start` starts the workers."""
        self.config = config
        self.spec = spec
        self._clock = clock or SystemClock()
        self._observer = observer or Silent()
        self._run_mark = run_mark()
        self._rng = rng
        self._supervisor = self._supervise()
        self._breaker = CircuitBreaker(config.breaker, self._clock)
        self._serving: set[str] = set()
        self._target = config.minimum
        self._queue = Queue(config.name, config.queue_limit)
        self._last_used = 0.0
        self._counts = {"answered": 0, "failed": 0, "rejected": 0}
        self._failure: DspexError | None = None
        self._rest_ends = 0.0
        self._restarts = 0
        self._failed_starts = 0
        self._watchdog: Watchdog | None = None
        self._is_stopping = False
        self._end_event = asyncio.Event()
        self._end_reason: DspexError | None = None
        self._tasks = BackgroundTasks()
        self._start_tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "Pool":
        await self.start()
        await self.ready()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Kill the orphans of earlier runs and start the workers; `ready` waits for them.

        Raises:
            WorkerStartError: the interpreter cannot be run; the pool is stopped.
        """
        await asyncio.to_thread(sweep)
        self._watchdog = Watchdog.start(self._run_mark, self.spec.interpreter)
        try:
            await self._supervisor.start()
        except BaseException:
            await self.stop()
            raise
        self._tasks.spawn(self._run_ticks())
        self._tasks.spawn(self._watch_supervisor())

    async def ready(self) -> None:
        """Wait until the minimum number of workers is ready.

        Raises:
            WorkerStartError: a worker did not start; the pool is stopped.
        """
        try:
            for worker in self._workers[: self.config.minimum]:
                await asyncio.shield(worker.ready)
        except BaseException:
            await self.stop()
            raise

    async def wait(self) -> DspexError | None:
        """Wait for the end; returns None after `stop`, or the final error of its supervisor."""
        await self._end_event.wait()
        return self._end_reason

    async def stop(self) -> None:
        """Shut down every worker; waiting calls fail with a retryable error."""
        self._is_stopping = True
        if self._failure is None or isinstance(self._failure, PoolRestingError):
            self._failure = WorkerLostError(f"pool {self.config.name!r} has ended")
        self._queue.fail(self._failure)
        # a cancelled start would lose its worker
        await asyncio.gather(*self._start_tasks, return_exceptions=True)
        await self._tasks.cancel()
        await self._supervisor.stop()
        self._finish()

    async def call(
        self,
        command: str,
        args: Mapping[str, Any],
        *,
        seconds: float | None = None,
        handler: CallHandler | None = None,
        program: LoadRequest | None = None,
    ) -> Any:
        """Make one request on a worker and return its reply.

        Raises:
            PoolExhaustedError: the queue is full, or `seconds` passed in it.
            CircuitOpenError: the workers failed too many times in a row.
            WorkerTimeoutError: no reply within `seconds`, which include the time in the queue.
            WorkerLostError: the worker ended first; the call may be retried.
            PoolRestingError: the workers failed too often; they are restarted soon.
            WorkerStartError: no worker can be started.
            DspexError: the error that the child or a callback returned.
        """
        self._check_running()
        is_probe = self._breaker.admit()
        deadline = None if seconds is None else asyncio.get_running_loop().time() + seconds
        try:
            worker = await self._lease(program.handle if program else "", deadline)
            reply = await self._call_on(
                worker, command, args, deadline=deadline, handler=handler, program=program
            )
        except WorkerError as error:
            self._counts["rejected" if isinstance(error, PoolExhaustedError) else "failed"] += 1
            if isinstance(error, WorkerTimeoutError):
                self._breaker.record_failure()
                # the worker's error names only the seconds that remained after the queue
                if seconds is not None and _remaining(deadline) == 0:
                    raise WorkerTimeoutError(
                        f"pool {self.config.name!r} did not answer {command!r} within {seconds:g} "
                        "s",
                        seconds=seconds,
                    ) from None
            raise
        except DspexError:
            # the worker replied: an error in the program is not a failure of the worker
            self._breaker.record_success()
            raise
        else:
            self._counts["answered"] += 1
            self._breaker.record_success()
            return reply
        finally:
            self._last_used = self._clock.monotonic_ns() / 1e9
            self._breaker.finish(is_probe=is_probe)

    async def _call_on(
        self,
        worker: PoolWorker,
        command: str,
        args: Mapping[str, Any],
        *,
        deadline: float | None,
        handler: CallHandler | None,
        program: LoadRequest | None,
    ) -> Any:
        worker.release()
        if program is None:
            return await worker.call(command, args, seconds=_remaining(deadline), handler=handler)
        with worker.loaded.use(program.handle):
            needs_call = False
            try:
                await worker.load(
                    program.handle, program.args, seconds=_remaining(deadline), handler=handler
                )
                needs_call = command != "create_program"
            finally:
                # no reply will free the slot, so give it to the next call in the queue
                if not needs_call:
                    self._queue.serve(self._choose_worker)
            if not needs_call:
                return program.handle
            return await worker.call(command, args, seconds=_remaining(deadline), handler=handler)

    async def broadcast(self, command: str, args: Mapping[str, Any]) -> None:
        """Make the same request on every ready worker, spares included; ignores failures."""
        ready = [worker for worker in self._workers if worker.state == "ready"]
        await asyncio.gather(
            *(worker.call(command, args) for worker in ready), return_exceptions=True
        )

    def forget(self, handle: str) -> None:
        """Record that no worker has the program any more."""
        for worker in self._workers:
            worker.loaded.discard(handle)

    def recycle(self, why: str) -> None:
        """Replace every worker; running calls finish, later calls wait for the new workers."""
        for worker in self._workers:
            worker.drain(why)

    @property
    def about(self) -> Mapping[str, Any]:
        """The versions, commands and capabilities from a handshake; empty before the first one."""
        return next((worker.about for worker in self._workers if worker.about), {})

    async def tick(self) -> None:
        """Check the health of workers and shrink an idle pool. The pool's task calls it."""
        for worker in self._workers:
            worker.check()
        idle = self._clock.monotonic_ns() / 1e9 - self._last_used
        if (
            self._target > self.config.minimum
            and not len(self._queue)
            and idle > self.config.idle_seconds
        ):
            newest = next(reversed(self._workers), None)
            if newest is not None and not newest.busy:
                self._target -= 1
                self._serving.discard(newest.name)
                await self._supervisor.remove(newest.name)

    def stats(self) -> PoolStats:
        """Return a snapshot of the pool and its workers."""
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
            restarts=self._restarts + self._supervisor.total_restarts,
            workers=workers,
            **self._counts,
        )

    @property
    def _workers(self) -> list[PoolWorker]:
        return [
            child for child in self._supervisor.children.values() if isinstance(child, PoolWorker)
        ]

    def _supervise(self) -> WorkerSupervisor:
        policy = RestartPolicy(
            intensity=self.config.intensity, backoff=Backoff(healthy=0.2), stops_together=True
        )
        self._numbers = itertools.count()
        children = [self._child_spec() for _ in range(self.config.minimum + self.config.spares)]
        return WorkerSupervisor(
            self.config.name, children, policy=policy, clock=self._clock, rng=self._rng
        )

    def _check_running(self) -> None:
        if isinstance(self._failure, PoolRestingError):
            wait = max(self._rest_ends - self._clock.monotonic_ns() / 1e9, 0.0)
            raise PoolRestingError(self._failure.message, retry_after=wait)
        if self._failure is not None:
            raise copy(self._failure)

    def _child_spec(self) -> ChildSpec:
        name = f"{self.config.name}-{next(self._numbers)}"

        def create() -> PoolWorker:
            return PoolWorker(
                name,
                self.spec,
                run=self._run_mark,
                observer=self._observer,
                on_change=self._on_worker_change,
            )

        return ChildSpec(name=name, create=create)

    def _on_worker_change(self, worker: PoolWorker) -> None:
        if worker.state not in {"starting", "ready"}:
            self._serving.discard(worker.name)
        if worker.state == "lost" and not worker.is_discarded:
            self._breaker.record_failure()
        self._count_starts(worker)
        if worker.state == "draining" and not worker.busy and not worker.is_stopping:
            self._tasks.spawn(worker.stop())
        self._fill_serving()
        self._queue.serve(self._choose_worker)

    def _count_starts(self, worker: PoolWorker) -> None:
        """Fail queued calls after repeated failed starts: they would wait forever."""
        if worker.state == "ready":
            self._failed_starts = 0
        elif worker.state == "lost" and not worker.about and worker.failure is not None:
            self._failed_starts += 1
            if self._failed_starts >= _FAILED_STARTS and not any(
                peer.about for peer in self._workers
            ):
                self._queue.fail(start_error(self.spec, worker.failure.message))

    def _fill_serving(self) -> None:
        for worker in self._workers:
            if len(self._serving) >= self._target:
                return
            if worker.state == "ready":
                self._serving.add(worker.name)

    def _choose_worker(self, handle: str) -> PoolWorker | None:
        """Return the least busy worker, preferably one that has the program."""
        free = [
            worker for worker in self._workers if worker.has_slot and worker.name in self._serving
        ]
        return min(
            free, key=lambda worker: (worker.busy, handle not in worker.loaded), default=None
        )

    async def _lease(self, handle: str, deadline: float | None) -> PoolWorker:
        worker = self._choose_worker(handle) if not len(self._queue) else None
        if worker is not None:
            worker.reserve()
            return worker
        if self._target < self.config.maximum:
            self._target += 1
            start_task = self._tasks.spawn(self._supervisor.add(self._child_spec()))
            self._start_tasks.add(start_task)
            start_task.add_done_callback(self._start_tasks.discard)
        return await self._queue.wait(handle, deadline)

    async def _run_ticks(self) -> None:
        while True:
            await self._clock.sleep(self.config.health_seconds)
            await self.tick()

    async def _watch_supervisor(self) -> None:
        error = await self._supervisor.wait()
        while error is not None:
            if self.config.rest_seconds is None:
                self._failure = self._end_reason = error
                self._queue.fail(error)
                self._finish()
                return
            await self._rest(error, self.config.rest_seconds)
            error = await self._start_again() or await self._supervisor.wait()

    async def _rest(self, error: DspexError, seconds: float) -> None:
        self._rest_ends = self._clock.monotonic_ns() / 1e9 + seconds
        self._failure = PoolRestingError(
            f"pool {self.config.name!r} rests for {seconds:g} s before it starts again: "
            f"{error.message}",
            retry_after=seconds,
        )
        self._queue.fail(self._failure)
        await self._clock.sleep(seconds)

    async def _start_again(self) -> DspexError | None:
        """Start again with fresh counters; returns the error if the workers do not start."""
        if self._is_stopping:
            return None
        self._restarts += self._supervisor.total_restarts
        self._supervisor, self._target, self._failed_starts = (
            self._supervise(),
            self.config.minimum,
            0,
        )
        self._serving.clear()
        self._failure = None
        start_task = self._tasks.spawn(self._supervisor.start())
        # `stop` waits for it: a cancelled start would lose its workers
        self._start_tasks.add(start_task)
        start_task.add_done_callback(self._start_tasks.discard)
        try:
            await asyncio.shield(start_task)
        except DspexError as error:
            return error
        return None

    def _finish(self) -> None:
        if self._watchdog is not None:
            self._watchdog.close()
            self._watchdog = None
        self._end_event.set()


def _remaining(deadline: float | None) -> float | None:
    return None if deadline is None else max(deadline - asyncio.get_running_loop().time(), 0.0)
