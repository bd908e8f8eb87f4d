"""One look for the events that many follow: what is found is handed out to each of them."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final
from uuid import UUID

from dspex.operations.resources.ports import EventLog, Place
from dspex.operations.resources.trail import EventRecord
from dspex.sync import unbroken

PAGE: Final = 200
QUEUE: Final = 256
LAST: Final = UUID(int=(1 << 128) - 1)
_SOON = 0.01  # where events wait for a transaction under way; such a wait doubles up to the usual one
_Key = tuple[str, str]


class Wakes:
    """Who waits for events in this process. Safe to use from any thread."""

    def __init__(self) -> None:
        """Begin with nobody."""
        self._waiting: dict[_Key, dict[asyncio.Event, asyncio.AbstractEventLoop]] = {}

    def add(self, key: _Key, wake: asyncio.Event) -> None:
        """Set an event of the running loop whenever a workspace's topic has something new."""
        self._waiting.setdefault(key, {})[wake] = asyncio.get_running_loop()

    def remove(self, key: _Key, wake: asyncio.Event) -> None:
        """Forget one."""
        waiting = self._waiting.get(key, {})
        waiting.pop(wake, None)
        if not waiting:
            self._waiting.pop(key, None)

    def wake(self, workspace: str, topic: str) -> None:
        """Wake all that wait for a topic."""
        for wake, loop in tuple(self._waiting.get((workspace, topic), {}).items()):
            if not loop.is_closed():
                loop.call_soon_threadsafe(wake.set)

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))


@dataclass(frozen=True)
class Wanted:
    """Which events somebody follows."""

    workspace: str
    topic: str
    program_id: UUID | None = None

    @cached_property
    def where(self) -> dict[str, Any]:
        """The same for the log."""
        where: dict[str, Any] = {"workspace": self.workspace, "topic": self.topic}
        return where if self.program_id is None else {**where, "program_id": self.program_id}


class Follower:
    """The events that were handed out to one who follows and has not taken them yet: at most `size`.

    Where there are more, it is behind: it is handed nothing more until it has read the log and calls `restart`.
    """

    def __init__(self, event_filter: Wanted, *, size: int = QUEUE) -> None:
        """Take what is followed."""
        self.wanted = event_filter
        self._size = size
        self._queue: deque[tuple[Place, EventRecord]] = deque()
        self._changed = asyncio.Event()
        self._is_behind = False
        self._error: Exception | None = None

    def restart(self) -> None:
        """Take what is handed out from now on."""
        self._is_behind = False

    def offer(self, place: Place, event: EventRecord) -> None:
        """Hand out one event; never waits."""
        if self._is_behind or self.wanted.program_id not in {None, event.program_id}:
            return
        if len(self._queue) < self._size:
            self._queue.append((place, event))
        else:
            self._is_behind = True
        self._changed.set()

    def fail(self, error: Exception) -> None:
        """Let it know that nothing is handed out any more."""
        self._error = error
        self._changed.set()

    async def next(self) -> tuple[Place, EventRecord] | None:
        """Return the next event, None where there are more than were handed out."""
        while not self._queue:
            if self._is_behind:
                return None
            if self._error is not None:
                raise self._error
            self._changed.clear()
            await self._changed.wait()
        return self._queue.popleft()


class Poller:
    """Looks for new events every `poll` seconds, and at once when it is woken, while anybody follows."""

    def __init__(self, log: EventLog, wakes: Wakes, *, poll: float) -> None:
        """Take the collaborators."""
        self._log = log
        self._wakes = wakes
        self._poll = poll
        self._wake = asyncio.Event()
        self._followers: dict[_Key, set[Follower]] = {}
        self._where: dict[str, Any] = {}
        self._task: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def joined(self, follower: Follower, place: Place) -> AsyncIterator[None]:
        """Hand out to a follower inside the block all that comes behind `place`, a recent one, or behind a later one.

        What the log shows after the block was entered, and what is handed out, are together all events.
        """
        key = (follower.wanted.workspace, follower.wanted.topic)
        if key not in self._followers:
            self._wakes.add(key, self._wake)
        self._followers.setdefault(key, set()).add(follower)
        self._changed()
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._keep(place), name="dspex feed")
        try:
            yield
        finally:
            await self._leave(key, follower)

    async def _leave(self, key: _Key, follower: Follower) -> None:
        self._followers[key].discard(follower)
        if not self._followers[key]:
            del self._followers[key]
            self._wakes.remove(key, self._wake)
        self._changed()
        if not self._followers and self._task is not None:
            task, self._task = self._task, None
            task.cancel()
            await asyncio.wait({task})

    def _changed(self) -> None:
        self._where = {name: tuple(sorted({key[n] for key in self._followers})) for n, name in _NAMES}

    async def _keep(self, place: Place) -> None:
        pause = _SOON
        try:
            while True:
                self._wake.clear()
                look = await unbroken(self._log.read(place, self._where, limit=PAGE))
                self._hand_out(look.events)
                place = look.reached
                if look.is_whole:
                    pause = min(2 * pause, self._poll) if look.is_waiting else _SOON
                    await self._rest(pause if look.is_waiting else self._poll)
        except Exception as error:  # noqa: BLE001  # it is given to all who follow
            self._task = None
            for follower in [member for group in self._followers.values() for member in group]:
                follower.fail(error)

    def _hand_out(self, events: Sequence[tuple[Place, EventRecord]]) -> None:
        for place, event in events:
            for follower in self._followers.get((event.workspace, event.topic), ()):
                follower.offer(place, event)

    async def _rest(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return


_NAMES = ((0, "workspace"), (1, "topic"))
