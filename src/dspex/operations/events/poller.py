"""Polls the event log once for all followers."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final
from uuid import UUID

from dspex.operations.events.event_log import EventLog, Place
from dspex.operations.events.records import EventRecord
from dspex.sync import unbroken

PAGE: Final = 200
QUEUE: Final = 256
LAST: Final = UUID(int=(1 << 128) - 1)
_SOON = 0.01  # seconds to wait while a transaction is open; doubles up to the normal interval
_Key = tuple[str, str]


class Waiters:
    """The tasks in this process that wait for events. Safe to use from any thread."""

    def __init__(self) -> None:
        """Start empty."""
        self._waiting: dict[_Key, dict[asyncio.Event, asyncio.AbstractEventLoop]] = {}

    def add(self, key: _Key, wake: asyncio.Event) -> None:
        """Register an event of the running loop, set whenever the topic has a new event."""
        self._waiting.setdefault(key, {})[wake] = asyncio.get_running_loop()

    def remove(self, key: _Key, wake: asyncio.Event) -> None:
        """Unregister an event."""
        waiting = self._waiting.get(key, {})
        waiting.pop(wake, None)
        if not waiting:
            self._waiting.pop(key, None)

    def wake(self, workspace: str, topic: str) -> None:
        """Wake all waiters of a topic."""
        for wake, loop in tuple(self._waiting.get((workspace, topic), {}).items()):
            if not loop.is_closed():
                loop.call_soon_threadsafe(wake.set)

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))


@dataclass(frozen=True)
class TopicFilter:
    """Selects the events of one follower."""

    workspace: str
    topic: str
    program_id: UUID | None = None

    @cached_property
    def where(self) -> dict[str, Any]:
        """The filter for the event log."""
        where: dict[str, Any] = {"workspace": self.workspace, "topic": self.topic}
        return where if self.program_id is None else {**where, "program_id": self.program_id}


class Follower:
    """A bounded queue of events for one follower.

    When the queue is full, the follower is behind: it gets no more events until it has read the log
    and calls `restart`.
    """

    def __init__(self, topic_filter: TopicFilter, *, size: int = QUEUE) -> None:
        """Take the filter of the events."""
        self.topic_filter = topic_filter
        self._size = size
        self._queue: deque[tuple[Place, EventRecord]] = deque()
        self._changed = asyncio.Event()
        self._is_behind = False
        self._error: Exception | None = None

    def restart(self) -> None:
        """Accept events again."""
        self._is_behind = False

    def offer(self, place: Place, event: EventRecord) -> None:
        """Queue one event if it matches; never waits."""
        if self._is_behind or self.topic_filter.program_id not in {None, event.program_id}:
            return
        if len(self._queue) < self._size:
            self._queue.append((place, event))
        else:
            self._is_behind = True
        self._changed.set()

    def fail(self, error: Exception) -> None:
        """Report that the poller has failed."""
        self._error = error
        self._changed.set()

    async def next(self) -> tuple[Place, EventRecord] | None:
        """Wait for the next event; return None if the follower is behind."""
        while not self._queue:
            if self._is_behind:
                return None
            if self._error is not None:
                raise self._error
            self._changed.clear()
            await self._changed.wait()
        return self._queue.popleft()


class Poller:
    """Reads new events every `poll` seconds and on wake-ups, while there are followers."""

    def __init__(self, log: EventLog, waiters: Waiters, *, poll: float) -> None:
        """Take the collaborators."""
        self._log = log
        self._waiters = waiters
        self._poll = poll
        self._wake = asyncio.Event()
        self._followers: dict[_Key, set[Follower]] = {}
        self._where: dict[str, Any] = {}
        self._task: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def deliver_to(self, follower: Follower, place: Place) -> AsyncIterator[None]:
        """Deliver new events to a follower inside the block, starting at `place` or later.

        The log as read inside the block and the delivered events together contain all events.
        """
        key = (follower.topic_filter.workspace, follower.topic_filter.topic)
        if key not in self._followers:
            self._waiters.add(key, self._wake)
        self._followers.setdefault(key, set()).add(follower)
        self._update_filter()
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(
                self._poll_loop(place), name="dspex feed"
            )
        try:
            yield
        finally:
            await self._leave(key, follower)

    async def _leave(self, key: _Key, follower: Follower) -> None:
        self._followers[key].discard(follower)
        if not self._followers[key]:
            del self._followers[key]
            self._waiters.remove(key, self._wake)
        self._update_filter()
        if not self._followers and self._task is not None:
            task, self._task = self._task, None
            task.cancel()
            await asyncio.wait({task})

    def _update_filter(self) -> None:
        self._where = {
            name: tuple(sorted({key[n] for key in self._followers})) for n, name in _NAMES
        }

    async def _poll_loop(self, place: Place) -> None:
        pause = _SOON
        try:
            while True:
                self._wake.clear()
                look = await unbroken(self._log.read(place, self._where, limit=PAGE))
                self._deliver(look.events)
                place = look.reached
                if look.is_whole:
                    pause = min(2 * pause, self._poll) if look.is_waiting else _SOON
                    await self._sleep(pause if look.is_waiting else self._poll)
        except Exception as error:  # noqa: BLE001  # reported to all followers
            self._task = None
            for follower in [member for group in self._followers.values() for member in group]:
                follower.fail(error)

    def _deliver(self, events: Sequence[tuple[Place, EventRecord]]) -> None:
        for place, event in events:
            for follower in self._followers.get((event.workspace, event.topic), ()):
                follower.offer(place, event)

    async def _sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return


_NAMES = ((0, "workspace"), (1, "topic"))
