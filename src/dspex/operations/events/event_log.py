"""The order of committed events, and feeds of them."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

from dspex.operations.events.records import EventRecord


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """The place of an event in commit order; as text, it is a cursor."""

    position: int
    id: UUID

    def __str__(self) -> str:
        return f"{self.position}.{self.id}"


@dataclass(frozen=True, slots=True)
class Sight:
    """A snapshot of visible positions.

    They are all before `until`, none from `before` on, and none in `running`.
    """

    until: int
    before: int
    running: frozenset[int] = frozenset()

    def saw(self, position: int) -> bool:
        """Return whether events at a position were visible."""
        return position < self.until or (position < self.before and position not in self.running)


@dataclass(frozen=True, slots=True)
class Look:
    """The events of one read, in order; no event will ever be inserted between or before them.

    `reached` is where the next read must start. `is_whole` is False if more events are available
    now. `is_waiting` is True if later events exist that an open transaction may still precede.
    """

    events: Sequence[tuple[Place, EventRecord]]
    reached: Place
    is_whole: bool
    is_waiting: bool


class EventLog(Protocol):
    """All events in one order; the place of an event never changes once it is assigned.

    Every method may raise `StorageError`.
    """

    async def read(self, after: Place, where: Mapping[str, Any], *, limit: int) -> Look:
        """Return the events after a place that match `where`."""
        ...

    async def sight(self) -> Sight:
        """Return the positions that are visible now."""
        ...

    async def first(self, after: UUID, where: Mapping[str, Any]) -> int | None:
        """Return the first position of an event whose id is greater than `after`."""
        ...

    async def place(self, event_id: UUID) -> Place | None:
        """Return the place of an event, or None if it does not exist."""
        ...


@dataclass(frozen=True, slots=True)
class FeedEvent:
    """An event of a feed and the cursor to continue after it."""

    event: EventRecord
    cursor: str


class Feed(Protocol):
    """Events as they are committed, by this process or another one."""

    def follow(
        self,
        workspace: str,
        topic: str,
        *,
        program_id: UUID | None = None,
        after: str | None = None,
    ) -> AsyncGenerator[FeedEvent, None]:
        """Yield each event of a topic once, after the cursor `after`, without end.

        Without a cursor (None), it starts from now on. The id of an event is also a cursor; any
        other id selects the events with greater ids.

        Raises:
            InvalidError: `after` is not a cursor, or it comes from another database.
            StorageError: the database cannot be read.
        """
        ...
