"""The interfaces that actions need from a database."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Literal, NamedTuple, Protocol, TypeVar
from uuid import UUID

from dspex.operations.framework.attribute_kinds import Comparison
from dspex.operations.framework.audit import AuditEntry
from dspex.operations.framework.resource import Resource

E = TypeVar("E")


@dataclass(frozen=True, slots=True)
class Insert:
    """Add a row."""

    entity: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """Change one row: `values` replace, `increments` are added in the database.

    The row must be in one of `statuses`, if given, and match `expected`; otherwise the whole write
    fails.
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
    """Comparisons for a value in `where`; all of them must hold.

    "in" takes a tuple, "is_null" a bool. "after" and "before" exclude the moment itself; "gte" and
    "lte" include their bound. Text comparison is case-sensitive. A NULL is outside every range.
    """

    comparisons: tuple[tuple[Comparison, Any], ...]


def both(first: Any, second: Any) -> Match:
    """Return a match that requires both conditions."""
    return Match((*_comparisons(first), *_comparisons(second)))


def _comparisons(value: Any) -> tuple[tuple[Comparison, Any], ...]:
    if isinstance(value, Match):
        return value.comparisons
    return (("in" if isinstance(value, tuple) else "eq", value),)


@dataclass(frozen=True, slots=True)
class Sort:
    """The attribute to sort rows by.

    Texts are sorted by code points. Equal rows are sorted by age, oldest first (`is_descending`:
    newest first). Rows without a value always come last.
    """

    attribute: str
    is_descending: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Selects at most `limit` rows that match `where`, after the row `after`.

    The newest come first, or with `oldest_first` the oldest. A tuple in `where` matches any of its
    members, a `Match` by its comparisons. With `sort`, rows are in that order, and `after_value` is
    the sort value of the row `after`, which may have been changed or deleted since. Nullable
    attributes in `without` are not read: they are None in every row.
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
    """Rows, whether more follow, and the total size of their texts and JSON values."""

    rows: Sequence[E]
    has_more: bool
    size: int


class Store(Protocol):
    """Stored rows; safe to use from many tasks of one event loop.

    Every method may raise `StorageError` (the database is locked, read-only, full or unavailable),
    and `InvalidError` for a value that it cannot store or compare.
    """

    def resource_of(self, entity: object) -> Resource[Any]:
        """Return the resource of which `entity` is a row."""
        ...

    async def get(self, resource: Resource[E], **key: Any) -> E | None:
        """Return the row with this `key` or None.

        `key` is the id or a unique group of attributes.
        """
        ...

    async def select(self, resource: Resource[E], query: Query) -> Sequence[E]:
        """Return the rows that `query` selects."""
        ...

    async def page(self, resource: Resource[E], query: Query, *, most: int) -> Page[E]:
        """Return the first rows that `query` selects, but no more than fit.

        These are up to about `most` bytes, but at least one row. It never holds more than that in
        memory, however large the following rows are.
        """
        ...

    async def count(self, resource: Resource[Any], where: Mapping[str, Any]) -> int:
        """Return how many rows match `where`; see `Query`."""
        ...

    async def write(self, *changes: Change) -> None:
        """Make all changes or none; return when they are committed.

        Raises:
            ConflictError: a unique group exists already, or a row is not in the state that an
                update requires.
            NotFoundError: the row of an update does not exist.
        """
        ...


async def each_row(store: Store, resource: Resource[E], query: Query) -> AsyncIterator[E]:
    """Yield all rows that `query` selects by age; reads them in pages of `query.limit`."""
    while True:
        page: Sequence[Any] = await store.select(resource, query)
        for row in page:
            yield row
        if len(page) < query.limit:
            return
        query = replace(query, after=page[-1].id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One figure over rows: the count, or the sum, mean, maximum or percentile of an attribute.

    `of` is an attribute, or a member of a JSON attribute ("usage.input_tokens"); rows without it
    are ignored. `where` narrows the rows of this figure.
    """

    kind: Literal["count", "sum", "mean", "max", "p50", "p95"]
    of: str = "id"
    where: Mapping[str, Any] = field(default_factory=dict)


class Figures(Protocol):
    """Aggregation and deletion of many rows in the database.

    Every method may raise `StorageError`.
    """

    async def aggregate(
        self, resource: Resource[Any], where: Mapping[str, Any], measures: Mapping[str, Measure]
    ) -> dict[str, Any]:
        """Return each figure over the rows that match `where`.

        It is None if no row has a value (a count is 0).
        """
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
        """Delete the rows that match `where` and are old or not among the newest `keep`.

        Old means older than `before`. Rows that another resource refers to (`Resource.references`)
        stay; indexed pointers to a deleted row (`Resource.pointers`) become null. Deletes in
        batches so that other clients can use the database in between. Returns the
        number of deleted rows and the bytes of their `sized` attributes.
        """
        ...


class Removals(Protocol):
    """Deletion of one row with all that belongs to it. It may raise `StorageError`."""

    async def remove(
        self, resource: Resource[Any], key: UUID, *, busy: Sequence[str], entry: AuditEntry
    ) -> "Mapping[str, Pruned]":
        """Delete a row and the rows that it owns (`Resource.owner`), in one transaction.

        The audit entry `entry` is written with it. Pointers of other rows to a deleted one become
        empty. Returns how much of each resource was deleted, by its name.

        Raises:
            NotFoundError: the row does not exist.
            ConflictError: an owned row is in one of the states `busy`, or another row refers to
                one that would be deleted. Nothing is deleted.
        """
        ...


class Pruned(NamedTuple):
    """The number of deleted rows and their bytes."""

    rows: int
    size: int
