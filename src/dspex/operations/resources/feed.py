"""Events as they are committed: told at once within this process, found by looking in the others."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, TypeVar
from uuid import UUID

from dspex.clock import Clock
from dspex.operations.resources.ports import Change, Insert, Query, Store
from dspex.operations.resources.resource import Resource
from dspex.operations.resources.trail import EVENT, EventRecord
from dspex.sync import unbroken

E = TypeVar("E")
POLL = 0.2
WINDOW = 3.0
PAGE = 200
_TIME_BITS = 80  # of an id of version 7: the milliseconds stand above them


class Wakes:
    """Who waits for events in this process. Safe to use from any thread."""

    def __init__(self) -> None:
        """Begin with nobody."""
        self._waiting: dict[tuple[str, str], dict[asyncio.Event, asyncio.AbstractEventLoop]] = {}

    def add(self, workspace: str, topic: str) -> asyncio.Event:
        """Return an event of the running loop that is set whenever the topic has something new."""
        wake = asyncio.Event()
        self._waiting.setdefault((workspace, topic), {})[wake] = asyncio.get_running_loop()
        return wake

    def remove(self, workspace: str, topic: str, wake: asyncio.Event) -> None:
        """Forget one."""
        waiting = self._waiting.get((workspace, topic), {})
        waiting.pop(wake, None)
        if not waiting:
            self._waiting.pop((workspace, topic), None)

    def wake(self, workspace: str, topic: str) -> None:
        """Wake all that wait for a topic."""
        for wake, loop in tuple(self._waiting.get((workspace, topic), {}).items()):
            if not loop.is_closed():
                loop.call_soon_threadsafe(wake.set)

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))


class AnnouncingStore:
    """A store that wakes followers as soon as events are committed through it."""

    def __init__(self, store: Store, wakes: Wakes) -> None:
        """Take the store behind it, and who waits."""
        self._store = store
        self._wakes = wakes

    def resource_of(self, entity: object) -> Resource[Any]:
        """Return the resource of which `entity` is a row."""
        return self._store.resource_of(entity)

    async def get(self, resource: Resource[E], **key: Any) -> E | None:  # noqa: ANN401
        """Return one row or None; see `Store.get`."""
        return await self._store.get(resource, **key)

    async def select(self, resource: Resource[E], query: Query) -> Sequence[E]:
        """Return rows; see `Store.select`."""
        return await self._store.select(resource, query)

    async def count(self, resource: Resource[Any], where: Mapping[str, Any]) -> int:
        """Return how many rows match; see `Store.count`."""
        return await self._store.count(resource, where)

    async def write(self, *changes: Change) -> None:
        """Make all changes in one transaction, then wake who follows their events; see `Store.write`."""
        await self._store.write(*changes)
        for change in changes:
            if type(change) is Insert and type(change.entity) is EventRecord:
                self._wakes.wake(change.entity.workspace, change.entity.topic)


class StoredFeed:
    """Follows the events in a store.

    Ids of two processes can become visible out of order, so each look goes back a window behind the newest event and
    gives what it has not given before. Hosts therefore have to agree on the time to within the window, and an event
    has to be committed within it. Memory holds the ids of one window and one page of events, however slow the reader.
    """

    def __init__(
        self,
        store: Store,
        wakes: Wakes,
        *,
        clock: Clock,
        new_id: Callable[[], UUID],
        poll: float = POLL,
        window: float = WINDOW,
    ) -> None:
        """Take the collaborators; `poll` and `window` are seconds."""
        self._store = store
        self._wakes = wakes
        self._clock = clock
        self._new_id = new_id
        self._poll = poll
        self._window_ms = int(window * 1000)

    def follow(
        self, workspace: str, topic: str, *, program_id: UUID | None = None, after: UUID | None = None
    ) -> AsyncIterator[EventRecord]:
        """Give each event once; see `Feed.follow`. Without a cursor, what is committed after this call is given."""
        where: dict[str, Any] = {"workspace": workspace, "topic": topic}
        if program_id is not None:
            where["program_id"] = program_id
        return self._follow(where, start=after or self._new_id(), is_new=after is None)

    async def _follow(self, where: dict[str, Any], *, start: UUID, is_new: bool) -> AsyncIterator[EventRecord]:
        floor = self._behind(start) if is_new else start
        wake = self._wakes.add(where["workspace"], where["topic"])
        try:
            seen = await self._seen_before(where, floor, start=start) if is_new else {}
            newest = start
            while True:
                wake.clear()
                async for event in self._unseen(where, floor, seen=seen):
                    newest = max(newest, event.id)
                    yield event
                floor = max(floor, self._behind(newest))
                seen = {key: None for key in seen if key > floor}
                await self._rest(wake)
        finally:
            self._wakes.remove(where["workspace"], where["topic"], wake)

    async def _unseen(
        self, where: dict[str, Any], floor: UUID, *, seen: dict[UUID, None]
    ) -> AsyncIterator[EventRecord]:
        page = await self._page(where, floor)
        while page:
            for event in page:
                if event.id not in seen:
                    seen[event.id] = None
                    yield event
            page = await self._page(where, page[-1].id) if len(page) == PAGE else ()

    async def _seen_before(self, where: dict[str, Any], floor: UUID, *, start: UUID) -> dict[UUID, None]:
        """Return what is visible already and was made before `start`: it is no news."""
        found: dict[UUID, None] = {}
        page = await self._page(where, floor)
        while page and page[0].id < start:
            found |= {event.id: None for event in page if event.id < start}
            page = await self._page(where, page[-1].id) if len(page) == PAGE else ()
        return found

    async def _page(self, where: dict[str, Any], after: UUID) -> Sequence[EventRecord]:
        wanted = Query(where=where, after=after, limit=PAGE, oldest_first=True)
        return await unbroken(self._store.select(EVENT, wanted))

    def _behind(self, newest: UUID) -> UUID:
        """Return the id a window before `newest`, or before now where `newest` comes from a clock ahead of ours."""
        now = int(self._clock.now().timestamp() * 1000)
        return UUID(int=(min(newest.int >> _TIME_BITS, now) - self._window_ms) << _TIME_BITS)

    async def _rest(self, wake: asyncio.Event) -> None:
        try:
            async with asyncio.timeout(self._poll):
                await wake.wait()
        except TimeoutError:
            return
