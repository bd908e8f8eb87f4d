"""What actions need of a database, and nothing more."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, NamedTuple, Protocol, TypeVar
from uuid import UUID

from dspex.operations.resources.resource import Comparison, Resource
from dspex.operations.resources.trail import EventRecord

E = TypeVar("E")


@dataclass(frozen=True, slots=True)
class Insert:
    """Add this row."""

    entity: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """Change one row: `values` replace, `increments` are added in the database.

    Where `statuses` are given, the row has to be in one of them, and it has to equal `expected`; otherwise nothing of
    the whole write happens.
    """

    resource: Resource[Any]
    id: UUID
    values: Mapping[str, Any] = field(default_factory=dict)
    increments: Mapping[str, int] = field(default_factory=dict)
    statuses: tuple[str, ...] = ()
    expected: Mapping[str, Any] = field(default_factory=dict)


Change = Insert | Update


@dataclass(frozen=True, slots=True)
class Match:
    """What a value in `where` has to be beside equal: all comparisons hold.

    "in" has a tuple beside it, "is_null" a bool. "after" and "before" leave the moment itself out, "gte" and "lte" do
    not. Texts are compared letter by letter, and case counts. A NULL is in no range.
    """

    comparisons: tuple[tuple[Comparison, Any], ...]


def both(first: Any, second: Any) -> Match:  # noqa: ANN401  # what `where` takes
    """Return what a value has to be that fits both."""
    return Match((*_comparisons(first), *_comparisons(second)))


def _comparisons(value: Any) -> tuple[tuple[Comparison, Any], ...]:  # noqa: ANN401
    if isinstance(value, Match):
        return value.comparisons
    return (("in" if isinstance(value, tuple) else "eq", value),)


@dataclass(frozen=True, slots=True)
class Sort:
    """By which attribute rows are sorted.

    Texts are in the order of their code points. Of equal ones, the older comes first (`is_descending`: the newer). Rows
    without a value come last either way.
    """

    attribute: str
    is_descending: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Rows that equal `where`, newest first (`oldest_first` turns it round), beyond the row `after`, at most `limit`.

    A value in `where` that is a tuple matches any of its members, a `Match` what it says. With `sort`, rows are in that
    order, and `after_value` is what the attribute was in the row `after`: the row may have changed or gone. Nullable
    attributes named in `without` are not read: they are None in every row.
    """

    where: Mapping[str, Any] = field(default_factory=dict)
    after: UUID | None = None
    limit: int = 50
    oldest_first: bool = False
    sort: Sort | None = None
    after_value: Any = None
    without: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[E]):
    """Rows, whether there are more behind them, and how long their texts and JSON values are together."""

    rows: Sequence[E]
    has_more: bool
    size: int


class Store(Protocol):
    """Rows behind a database; safe to use from many tasks of one loop.

    Every method may raise `StorageError` (the database is locked, read-only, full or gone), and `InvalidError` where a
    value is one that it cannot keep or compare with.
    """

    def resource_of(self, entity: object) -> Resource[Any]:
        """Return the resource of which `entity` is a row."""
        ...

    async def get(self, resource: Resource[E], **key: Any) -> E | None:  # noqa: ANN401
        """Return the row whose attributes equal `key`, or None. `key` is the id or a unique group."""
        ...

    async def select(self, resource: Resource[E], query: Query) -> Sequence[E]:
        """Return the rows that `query` describes."""
        ...

    async def page(self, resource: Resource[E], query: Query, *, most: int) -> Page[E]:
        """Return the first of the rows that `query` describes: as many as are at most about `most` bytes, or one.

        No more than that is ever held in memory, however large the rows behind them are.
        """
        ...

    async def count(self, resource: Resource[Any], where: Mapping[str, Any]) -> int:
        """Return how many rows `where` describes; see `Query`."""
        ...

    async def write(self, *changes: Change) -> None:
        """Make all changes or none; returns when they are committed.

        Raises:
            ConflictError: a unique group exists already, or a row is not as an update needs it.
            NotFoundError: an update names no row.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One figure over rows: how many, or the sum, mean, greatest value or percentile of an attribute.

    `of` is an attribute, or a member of a JSON attribute ("usage.input_tokens"); rows without it do not count. `where`
    narrows the rows of this one figure.
    """

    kind: Literal["count", "sum", "mean", "max", "p50", "p95"]
    of: str = "id"
    where: Mapping[str, Any] = field(default_factory=dict)


class Figures(Protocol):
    """What a database computes over many rows, and what it forgets.

    Every method may raise `StorageError`.
    """

    async def aggregate(
        self, resource: Resource[Any], where: Mapping[str, Any], measures: Mapping[str, Measure]
    ) -> dict[str, Any]:
        """Return each figure over the rows that equal `where`, None for one that no row has (a count is 0)."""
        ...

    async def prune(
        self,
        resource: Resource[Any],
        where: Mapping[str, Any],
        *,
        before: UUID | None,
        keep: int | None,
        sized: tuple[str, ...] = (),
    ) -> "Pruned":
        """Delete the rows that equal `where` and are older than `before`, or not among the newest `keep`.

        A row stays to which a row of another resource refers (`Resource.references`). Done in portions that leave the
        database to others in between; returns how many were deleted, and how many bytes their `sized` attributes had.
        """
        ...


class Pruned(NamedTuple):
    """Rows that are gone."""

    rows: int
    size: int


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where an event stands in the order in which events become certain; as text it is a cursor."""

    position: int
    id: UUID

    def __str__(self) -> str:
        return f"{self.position}.{self.id}"


@dataclass(frozen=True, slots=True)
class Sight:
    """Which positions of events a moment could see: all before `until`, none from `before` on, no `running` one."""

    until: int
    before: int
    running: frozenset[int] = frozenset()

    def saw(self, position: int) -> bool:
        """Return whether events at a position were visible."""
        return position < self.until or (position < self.before and position not in self.running)


@dataclass(frozen=True, slots=True)
class Look:
    """What one look found, in order: no event will ever come to stand between or before these.

    `reached` is where the next look has to begin. `is_whole` is False where there is more already, `is_waiting` True
    where there are events that a transaction under way may still be put before.
    """

    events: Sequence[tuple[Place, EventRecord]]
    reached: Place
    is_whole: bool
    is_waiting: bool


class EventLog(Protocol):
    """All events in one order, in which each has its place for good once it is given.

    Every method may raise `StorageError`.
    """

    async def read(self, after: Place, where: Mapping[str, Any], *, limit: int) -> Look:
        """Return the events behind a place that equal `where`."""
        ...

    async def sight(self) -> Sight:
        """Return what is visible now."""
        ...

    async def first(self, after: UUID, where: Mapping[str, Any]) -> int | None:
        """Return the first position at which an event stands whose id is greater than `after`."""
        ...

    async def place(self, event_id: UUID) -> Place | None:
        """Return where an event stands, None where there is none."""
        ...


@dataclass(frozen=True, slots=True)
class Told:
    """An event that a feed gives, and the cursor behind which it goes on."""

    event: EventRecord
    cursor: str


class Feed(Protocol):
    """Events as they are committed, by this process or another one."""

    def follow(
        self, workspace: str, topic: str, *, program_id: UUID | None = None, after: str | None = None
    ) -> AsyncIterator[Told]:
        """Give each event of a topic once, from the one behind the cursor `after` on (None: from now on), without end.

        The id of an event is a cursor, too; of any other id, it is the events with a greater one.

        Raises:
            InvalidError: `after` is no cursor, or one of another database.
            StorageError: the database cannot be read.
        """
        ...


class JobEngine(Protocol):
    """Runs durable jobs: rows with a state machine (an evaluation, an optimization) whose work is a handler elsewhere.

    The row is the job: it is written as queued first, by the caller, and the engine moves it on from there.
    """

    async def enqueue(self, resource: Resource[Any], job_id: UUID) -> None:
        """Take note of a queued row; taking note twice is once. A row that nobody noted is found by the engine itself.

        Raises:
            StorageError: the database cannot be written.
        """
        ...

    async def stop(self, resource: Resource[Any], job_id: UUID) -> None:
        """Make the worker that runs the job stop within a second; its row is paused or cancelled already."""
        ...
