"""The feed of committed events: woken at once in this process, polled across processes."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from uuid import UUID

from dspex.errors import InvalidError
from dspex.operations.events.event_log import EventLog, FeedEvent, Place, Sight
from dspex.operations.events.poller import LAST, PAGE, Follower, Poller, TopicFilter, Waiters
from dspex.operations.events.records import EventRecord
from dspex.operations.events.turns import Turns
from dspex.operations.framework.store import Change, Insert, Store
from dspex.operations.framework.store_wrapper import StoreWrapper
from dspex.sync import unbroken

POLL = 0.2


class AnnouncingStore(StoreWrapper):
    """A store that wakes followers when it commits events."""

    def __init__(self, store: Store, waiters: Waiters) -> None:
        """Take the store to wrap and the waiting followers."""
        super().__init__(store)
        self._waiters = waiters

    async def write(self, *changes: Change) -> None:
        """Make all changes in one transaction, then wake the followers of their events.

        See `Store.write`.
        """
        await self._store.write(*changes)
        for change in changes:
            if type(change) is Insert and type(change.entity) is EventRecord:
                self._waiters.wake(change.entity.workspace, change.entity.topic)


class StoredFeed:
    """Follows the events of a log. Owned by one event loop.

    One poller reads new events for all followers; it is idle while there are none. A follower that
    just joined, or whose queue overflowed, reads the log by itself until it has caught up.
    """

    def __init__(
        self, log: EventLog, waiters: Waiters, *, new_id: Callable[[], UUID], poll: float = POLL
    ) -> None:
        """Take the collaborators; `poll` is in seconds."""
        self._log = log
        self._new_id = new_id
        self._poller = Poller(log, waiters, poll=poll)
        self._turns = Turns()

    def follow(
        self,
        workspace: str,
        topic: str,
        *,
        program_id: UUID | None = None,
        after: str | None = None,
    ) -> AsyncGenerator[FeedEvent, None]:
        """Yield each event once; see `Feed.follow`.

        Without a cursor, start with the next committed event.
        """
        cursor = self._new_id() if after is None else _cursor(after)
        return self._follow(TopicFilter(workspace, topic, program_id), cursor, is_new=after is None)

    async def _follow(
        self, topic_filter: TopicFilter, cursor: Place | UUID, *, is_new: bool
    ) -> AsyncGenerator[FeedEvent, None]:
        sight = await unbroken(self._log.sight())
        start = await unbroken(self._start(topic_filter, cursor, sight))
        follower = Follower(topic_filter)
        async with (
            self._poller.deliver_to(follower, Place(sight.until - 1, LAST)),
            aclosing(self._events_after(follower, start)) as events,
        ):
            async for place, event in events:
                # A cursor without a position is compared by id; events not visible at the start are
                # new.
                if (
                    isinstance(cursor, UUID)
                    and event.id <= cursor
                    and (not is_new or sight.saw(place.position))
                ):
                    continue
                await self._turns.take()
                yield FeedEvent(event, str(place))

    async def _start(self, topic_filter: TopicFilter, cursor: Place | UUID, sight: Sight) -> Place:
        if isinstance(cursor, Place):
            if cursor.position >= sight.until:
                raise InvalidError(f"after: the cursor {str(cursor)!r} comes from another database")
            return cursor
        place = await self._log.place(cursor)
        if place is not None and place.position < sight.until:
            return place
        first = await self._log.first(cursor, topic_filter.where)
        return Place(min(sight.until, sight.until if first is None else first) - 1, LAST)

    async def _events_after(
        self, follower: Follower, place: Place
    ) -> AsyncGenerator[tuple[Place, EventRecord], None]:
        """Yield all events after `place`: first from the log, then from the poller."""
        while True:
            follower.restart()
            is_whole = False
            while not is_whole:
                look = await unbroken(
                    self._log.read(place, follower.topic_filter.where, limit=PAGE)
                )
                for entry in look.events:
                    yield entry
                place, is_whole = look.reached, look.is_whole
            while (next_entry := await follower.next()) is not None:
                if next_entry[0] > place:
                    place = next_entry[0]
                    yield next_entry


def _cursor(text: str) -> Place | UUID:
    position, dot, key = text.rpartition(".")
    try:
        return Place(int(position), UUID(key)) if dot else UUID(key)
    except (ValueError, AttributeError, TypeError):
        raise InvalidError(
            f"after: {text!r} is not a cursor; use the cursor of a received update"
        ) from None
