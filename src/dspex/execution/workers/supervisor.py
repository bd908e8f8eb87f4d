"""Keeps children running, in the manner of OTP: let it crash, contain it, start it again, or give up and say so."""

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Protocol

from dspex.clock import Clock, SystemClock
from dspex.errors import DefinitionError, DspexError, RestartLimitError
from dspex.execution.workers.restarts import Backoff, Intensity, Record

Strategy = Literal["one_for_one", "rest_for_one", "one_for_all"]
_EARLY = 0.001  # a timer may wake this many seconds before its time
Restart = Literal["permanent", "transient", "temporary"]


class Child(Protocol):
    """What a supervisor looks after. `start` is called once; a restart makes a new child."""

    async def start(self) -> None:
        """Begin to live; returns soon, not when everything is ready."""
        ...

    async def wait(self) -> DspexError | None:
        """Return at its end: why it failed, or None after an ordered end. May be awaited by several."""
        ...

    async def stop(self) -> None:
        """End it in order; returns when nothing of it is left."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSpec:
    """A name, how to make the child, and when to make it again.

    permanent: always; transient: only after a failure; temporary: never.
    """

    name: str
    create: Callable[[], Child]
    restart: Restart = "permanent"


@dataclass(slots=True, eq=False)
class _Slot:
    spec: ChildSpec
    child: Child | None = None
    due: float | None = None
    restarts: int = 0
    failures: int = 0
    started: float = 0.0
    monitor: asyncio.Task[None] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How a supervisor reacts: its strategy, how often it restarts, how long it waits before.

    Children are stopped one after the other, the last first; `stops_together` is for those that do not know each other.
    """

    strategy: Strategy = "one_for_one"
    intensity: Intensity = field(default_factory=Intensity)
    backoff: Backoff = field(default_factory=Backoff)
    stops_together: bool = False


class Supervisor:
    """Starts children in order, restarts them by its policy, stops them in reverse order. Itself a `Child`.

    An ordered end (a worker that was recycled) is no failure and does not count towards the intensity. When failures
    pass it, all children are stopped and `wait` returns a RestartLimitError.
    """

    def __init__(
        self,
        name: str,
        children: Sequence[ChildSpec] = (),
        *,
        policy: Policy | None = None,
        clock: Clock | None = None,
        rng: random.Random | None = None,
    ) -> None:
        """Take the children in the order in which they depend on one another."""
        self.name = name
        self._policy = policy or Policy()
        self._clock = clock or SystemClock()
        self._rng = rng or random.Random()  # noqa: S311  # jitter is no secret
        self._slots = [_Slot(spec) for spec in children]
        self._record = Record(self._policy.intensity)
        self._exits: list[tuple[_Slot, Child, DspexError | None]] = []
        self._woken = asyncio.Event()
        self._ended = asyncio.Event()
        self._failure: DspexError | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Lock()

    @property
    def children(self) -> dict[str, Child]:
        """The living children by name, in order."""
        return {slot.spec.name: slot.child for slot in self._slots if slot.child is not None}

    def restarts(self, name: str) -> int:
        """How often child `name` was started again."""
        return next((slot.restarts for slot in self._slots if slot.spec.name == name), 0)

    @property
    def restarts_in_all(self) -> int:
        """How often any child was started again."""
        return sum(slot.restarts for slot in self._slots)

    async def __aenter__(self) -> "Supervisor":
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start every child in order.

        Raises:
            DspexError: a child could not be started; those before it are stopped again.
        """
        try:
            for slot in self._slots:
                await self._begin(slot)
        except BaseException:
            await self.stop()
            raise
        self._spawn(self._run())

    async def wait(self) -> DspexError | None:
        """Wait for the end: RestartLimitError when it gave up, None after `stop`."""
        await self._ended.wait()
        return self._failure

    async def stop(self) -> None:
        """Stop every child, the last one first."""
        async with self._turn:  # nothing is half started or half stopped while this is held
            tasks = [task for task in self._tasks if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._end_all()

    async def add(self, spec: ChildSpec) -> None:
        """Start one more child, the last in order; nothing happens after the end."""
        if any(slot.spec.name == spec.name for slot in self._slots):
            raise DefinitionError(f"supervisor {self.name!r} has a child {spec.name!r} already; name it differently")
        async with self._turn:
            if self._ended.is_set():  # nobody would look after it
                return
            slot = _Slot(spec)
            self._slots.append(slot)
            await self._begin_or_record(slot)

    async def remove(self, name: str) -> None:
        """Stop one child for good; nothing happens where there is none of that name."""
        async with self._turn:
            for slot in [slot for slot in self._slots if slot.spec.name == name]:
                await self._end(slot)
                self._slots.remove(slot)

    async def tick(self) -> None:
        """React to every end that was noticed, and start what is due. The supervisor's own task calls it."""
        async with self._turn:
            while self._exits and self._failure is None:
                slot, child, error = self._exits.pop(0)
                if slot.child is child:
                    slot.child = None
                    await self._react(slot, error)
            now = self._now()
            for slot in list(self._slots):
                if slot.due is not None and slot.due <= now + _EARLY:
                    slot.due = None
                    slot.restarts += 1
                    await self._begin_or_record(slot)

    async def _run(self) -> None:
        while self._failure is None:
            await self._woken.wait()
            self._woken.clear()
            await self.tick()

    def _now(self) -> float:
        return self._clock.monotonic_ns() / 1e9

    async def _begin(self, slot: _Slot) -> None:
        child = slot.spec.create()
        slot.started = self._now()
        await child.start()
        slot.child = child
        slot.monitor = self._spawn(self._monitor(slot, child))

    async def _begin_or_record(self, slot: _Slot) -> None:
        try:
            await self._begin(slot)
        except DspexError as error:
            await self._react(slot, error)

    def _spawn(self, coroutine: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _monitor(self, slot: _Slot, child: Child) -> None:
        error = await child.wait()
        self._exits.append((slot, child, error))
        self._woken.set()

    async def _react(self, slot: _Slot, error: DspexError | None) -> None:
        if slot.spec.restart == "temporary" or (slot.spec.restart == "transient" and error is None):
            self._slots.remove(slot)
            return
        now = self._now()
        if error is not None:
            slot.failures = 1 if now - slot.started >= self._policy.backoff.healthy else slot.failures + 1
        if error is not None and not self._record.add(now):
            await self._give_up(slot, error)
            return
        affected = self._affected(slot)
        for other in reversed(affected):
            if other is not slot:
                await self._end(other)
                if other.spec.restart == "temporary":
                    self._slots.remove(other)
        delay = 0.0 if error is None else self._policy.backoff.delay(slot.failures, self._rng)
        for other in affected:
            other.due = now + delay
        if delay:
            self._spawn(self._wake_after(delay))
        else:
            self._woken.set()  # whoever reacts here may be `add`, and not the task that starts what is due

    async def _wake_after(self, seconds: float) -> None:
        await self._clock.sleep(seconds)
        self._woken.set()

    def _affected(self, slot: _Slot) -> list[_Slot]:
        if self._policy.strategy == "one_for_all":
            return list(self._slots)
        if self._policy.strategy == "rest_for_one":
            return self._slots[self._slots.index(slot) :]
        return [slot]

    async def _give_up(self, slot: _Slot, error: DspexError) -> None:
        limit = self._policy.intensity
        self._failure = RestartLimitError(
            f"supervisor {self.name!r} gave up: its children failed more than {limit.restarts} times in "
            f"{limit.seconds:g} s, last {slot.spec.name!r}: {error.message}",
            last=error,
        )
        await self._end_all()

    async def _end_all(self) -> None:
        if self._policy.stops_together:
            await asyncio.gather(*(self._end(slot) for slot in self._slots))
        for slot in reversed(self._slots):
            await self._end(slot)
        self._ended.set()

    async def _end(self, slot: _Slot) -> None:
        slot.due = None
        if slot.monitor is not None:
            slot.monitor.cancel()
            slot.monitor = None
        if slot.child is not None:
            await slot.child.stop()
            slot.child = None  # not before: whoever is cancelled here leaves it to the next who stops it
