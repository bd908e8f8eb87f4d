"""Supervises children like OTP: contains crashes, restarts children, or gives up with an error."""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Protocol

from dspex.clock import Clock, SystemClock
from dspex.errors import DefinitionError, DspexError, RestartLimitError
from dspex.execution.workers.background_tasks import BackgroundTasks
from dspex.execution.workers.restarts import Backoff, FailureWindow, Intensity

Strategy = Literal["one_for_one", "rest_for_one", "one_for_all"]
_TOLERANCE = 0.001  # a timer may wake this many seconds early
Restart = Literal["permanent", "transient", "temporary"]


class Child(Protocol):
    """A supervised component. `start` is called once; a restart creates a new child."""

    async def start(self) -> None:
        """Start without waiting until the child is ready."""
        ...

    async def wait(self) -> DspexError | None:
        """Wait for the end; returns the failure, or None after a normal exit.

        Several tasks may wait.
        """
        ...

    async def stop(self) -> None:
        """Shut down; returns when the child has ended completely."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSpec:
    """The name of a child, its factory, and when to restart it.

    permanent: always; transient: only after a failure; temporary: never.
    """

    name: str
    create: Callable[[], Child]
    restart: Restart = "permanent"


@dataclass(slots=True, eq=False)
class _Slot:
    spec: ChildSpec
    child: Child | None = None
    restart_at: float | None = None
    restarts: int = 0
    failures: int = 0
    started_at: float = 0.0
    monitor: asyncio.Task[None] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartPolicy:
    """The restart strategy of a supervisor, its restart limit and its backoff.

    Children stop one after the other, the last one first; with `stops_together`, independent
    children stop at the same time.
    """

    strategy: Strategy = "one_for_one"
    intensity: Intensity = field(default_factory=Intensity)
    backoff: Backoff = field(default_factory=Backoff)
    stops_together: bool = False


class WorkerSupervisor:
    """Starts children in order, restarts them by policy and stops them in reverse. Also a `Child`.

    A normal exit (such as a recycled worker) is not a failure and does not count towards the
    intensity. When failures exceed it, all children are stopped and `wait` returns a
    RestartLimitError.
    """

    def __init__(
        self,
        name: str,
        children: Sequence[ChildSpec] = (),
        *,
        policy: RestartPolicy | None = None,
        clock: Clock | None = None,
        rng: random.Random | None = None,
    ) -> None:
        """Take the children in the order of their dependencies."""
        self.name = name
        self._policy = policy or RestartPolicy()
        self._clock = clock or SystemClock()
        self._rng = rng or random.Random()  # noqa: S311  # jitter needs no secure randomness
        self._slots = [_Slot(spec) for spec in children]
        self._failure_window = FailureWindow(self._policy.intensity)
        self._exits: list[tuple[_Slot, Child, DspexError | None]] = []
        self._wake_event = asyncio.Event()
        self._end_event = asyncio.Event()
        self._failure: DspexError | None = None
        self._tasks = BackgroundTasks()
        self._lock = asyncio.Lock()

    @property
    def children(self) -> dict[str, Child]:
        """The living children by name, in order."""
        return {slot.spec.name: slot.child for slot in self._slots if slot.child is not None}

    def restarts(self, name: str) -> int:
        """The number of restarts of the child `name`."""
        return next((slot.restarts for slot in self._slots if slot.spec.name == name), 0)

    @property
    def total_restarts(self) -> int:
        """The number of restarts of all children."""
        return sum(slot.restarts for slot in self._slots)

    async def __aenter__(self) -> "WorkerSupervisor":
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start every child in order.

        Raises:
            DspexError: a child could not be started; the children before it are stopped again.
        """
        try:
            for slot in self._slots:
                await self._start_child(slot)
        except BaseException:
            await self.stop()
            raise
        self._tasks.spawn(self._run())

    async def wait(self) -> DspexError | None:
        """Wait for the end; returns a RestartLimitError after too many failures, else None."""
        await self._end_event.wait()
        return self._failure

    async def stop(self) -> None:
        """Stop every child, the last one first."""
        async with self._lock:  # no child is half started or half stopped while the lock is held
            await self._tasks.cancel()
            await self._stop_children()

    async def add(self, spec: ChildSpec) -> None:
        """Start another child, last in order; does nothing after the end of the supervisor."""
        if any(slot.spec.name == spec.name for slot in self._slots):
            raise DefinitionError(
                f"supervisor {self.name!r} has a child {spec.name!r} already; name it differently"
            )
        async with self._lock:
            if self._end_event.is_set():  # nothing would supervise it
                return
            slot = _Slot(spec)
            self._slots.append(slot)
            await self._start_or_handle(slot)

    async def remove(self, name: str) -> None:
        """Stop a child and do not restart it; does nothing if the name is unknown."""
        async with self._lock:
            for slot in [slot for slot in self._slots if slot.spec.name == name]:
                await self._stop_child(slot)
                self._slots.remove(slot)

    async def tick(self) -> None:
        """Handle exits and start the children that are due. The supervisor's task calls it."""
        async with self._lock:
            while self._exits and self._failure is None:
                slot, child, error = self._exits.pop(0)
                if slot.child is child:
                    slot.child = None
                    await self._handle_exit(slot, error)
            now = self._now()
            for slot in list(self._slots):
                if slot.restart_at is not None and slot.restart_at <= now + _TOLERANCE:
                    slot.restart_at = None
                    slot.restarts += 1
                    await self._start_or_handle(slot)

    async def _run(self) -> None:
        while self._failure is None:
            await self._wake_event.wait()
            self._wake_event.clear()
            await self.tick()

    def _now(self) -> float:
        return self._clock.monotonic_ns() / 1e9

    async def _start_child(self, slot: _Slot) -> None:
        child = slot.spec.create()
        slot.started_at = self._now()
        await child.start()
        slot.child = child
        slot.monitor = self._tasks.spawn(self._monitor(slot, child))

    async def _start_or_handle(self, slot: _Slot) -> None:
        try:
            await self._start_child(slot)
        except DspexError as error:
            await self._handle_exit(slot, error)

    async def _monitor(self, slot: _Slot, child: Child) -> None:
        error = await child.wait()
        self._exits.append((slot, child, error))
        self._wake_event.set()

    async def _handle_exit(self, slot: _Slot, error: DspexError | None) -> None:
        if slot.spec.restart == "temporary" or (slot.spec.restart == "transient" and error is None):
            self._slots.remove(slot)
            return
        now = self._now()
        if error is not None:
            slot.failures = (
                1 if now - slot.started_at >= self._policy.backoff.healthy else slot.failures + 1
            )
        if error is not None and not self._failure_window.add(now):
            await self._give_up(slot, error)
            return
        affected = self._affected_slots(slot)
        for peer in reversed(affected):
            if peer is not slot:
                await self._stop_child(peer)
                if peer.spec.restart == "temporary":
                    self._slots.remove(peer)
        delay = 0.0 if error is None else self._policy.backoff.delay(slot.failures, self._rng)
        for peer in affected:
            peer.restart_at = now + delay
        if delay:
            self._tasks.spawn(self._wake_after(delay))
        else:
            # the caller may be `add` instead of the task that starts children
            self._wake_event.set()

    async def _wake_after(self, seconds: float) -> None:
        await self._clock.sleep(seconds)
        self._wake_event.set()

    def _affected_slots(self, slot: _Slot) -> list[_Slot]:
        if self._policy.strategy == "one_for_all":
            return list(self._slots)
        if self._policy.strategy == "rest_for_one":
            return self._slots[self._slots.index(slot) :]
        return [slot]

    async def _give_up(self, slot: _Slot, error: DspexError) -> None:
        limit = self._policy.intensity
        self._failure = RestartLimitError(
            f"supervisor {self.name!r} gave up: its children failed more than {limit.restarts} "
            f"times in {limit.seconds:g} s, last {slot.spec.name!r}: {error.message}",
            last=error,
        )
        await self._stop_children()

    async def _stop_children(self) -> None:
        if self._policy.stops_together:
            await asyncio.gather(*(self._stop_child(slot) for slot in self._slots))
        for slot in reversed(self._slots):
            await self._stop_child(slot)
        self._end_event.set()

    async def _stop_child(self, slot: _Slot) -> None:
        slot.restart_at = None
        if slot.monitor is not None:
            slot.monitor.cancel()
            slot.monitor = None
        if slot.child is not None:
            await slot.child.stop()
            slot.child = None  # only now: if this is cancelled, the next call of `stop` stops it
