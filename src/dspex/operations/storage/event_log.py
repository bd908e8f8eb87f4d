"""All events in their final order: the protocol `EventLog` on both databases.

The database gives each row its `position`. SQLite counts: it has one writer at a time, so numbers
become visible in order. PostgreSQL takes the number of the transaction. Transactions end in any
order, so a position is final when all transactions with lower numbers have ended (the snapshot's
xmin): then no event can come before it.
"""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from dspex.operations.events.event_log import Look, Place, Sight
from dspex.operations.events.poller import LAST
from dspex.operations.events.records import EVENT, EventRecord
from dspex.operations.storage.database import Database
from dspex.operations.storage.statements import Statement, Statements, quoted

# the count of AUTOINCREMENT; the newest event may be deleted already
_COUNTED = "(SELECT coalesce(max(seq), 0) AS horizon FROM sqlite_sequence WHERE name = 'events')"
_HORIZON = {
    True: f"SELECT horizon FROM {_COUNTED}",  # a constant
    False: "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint - 1 AS horizon",
}
_SIGHT = {
    True: f"SELECT (horizon + 1) || ':' || (horizon + 1) || ':' FROM {_COUNTED}",  # a constant
    False: "SELECT pg_current_snapshot()::text",
}
_FOREIGN = (
    'UPDATE events SET "position" = 0 WHERE "position" >= '
    "pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
)


class SQLEventLog:
    """The events in a database; see `EventLog`."""

    def __init__(self, database: Database) -> None:
        """Take the database, which its owner closes."""
        self._driver = database.driver
        self._is_sqlite = database.is_sqlite
        self._statements = Statements(EVENT, self._driver.dialect)

    async def read(self, after: Place, where: Mapping[str, Any], *, limit: int) -> Look:
        """Return the events after a place, read by one statement and so at one moment."""
        rows = await self._driver.rows(self._read_statement(after, where, limit))
        horizon = int(rows[0][0])
        present = [row for row in rows if row[1] is not None]
        certain = [row for row in present if row[1] <= horizon]
        events = [self._event(row) for row in certain]
        is_whole = len(present) < limit or len(certain) < len(present)
        reached = max(after, Place(horizon, LAST)) if is_whole else events[-1][0]
        return Look(events, reached, is_whole=is_whole, is_waiting=len(certain) < len(present))

    async def sight(self) -> Sight:
        """Return what is visible now."""
        [[text]] = await self._driver.rows(Statement(_SIGHT[self._is_sqlite], ()))
        until, before, running = str(text).split(":")
        return Sight(int(until), int(before), frozenset(map(int, filter(None, running.split(",")))))

    async def first(self, after: UUID, where: Mapping[str, Any]) -> int | None:
        """Return the first position of an event whose id is greater."""
        conditions, parameters = self._where(where)
        conditions.append(f'"id" > {self._mark(parameters, "id", after)}')
        sql = (
            f'SELECT min("position") FROM events WHERE {" AND ".join(conditions)}'  # names of ours
        )
        [[position]] = await self._driver.rows(Statement(sql, tuple(parameters)))
        return None if position is None else int(position)

    async def place(self, event_id: UUID) -> Place | None:
        """Return the place of an event."""
        parameters: list[Any] = []
        sql = f'SELECT "position" FROM events WHERE "id" = {self._mark(parameters, "id", event_id)}'
        rows = await self._driver.rows(Statement(sql, tuple(parameters)))
        return Place(int(rows[0][0]), event_id) if rows else None

    def _read_statement(self, after: Place, where: Mapping[str, Any], limit: int) -> Statement:
        conditions, parameters = self._where(where)
        mark = self._driver.dialect.parameter
        parameters.append(after.position)
        position = mark(len(parameters))
        conditions.append(
            f'("position", "id") > ({position}, {self._mark(parameters, "id", after.id)})'
        )
        parameters.append(limit)
        columns = ", ".join(map(quoted, self._statements.names))
        rows = (
            # names of ours
            f'SELECT "position", {columns} FROM events WHERE {" AND ".join(conditions)} '
            f'ORDER BY "position", "id" LIMIT {mark(len(parameters))}'
        )
        sql = (
            f"SELECT * FROM ({_HORIZON[self._is_sqlite]}) h LEFT JOIN ({rows}) e ON true ORDER BY "
            '"position", "id"'
        )
        return Statement(sql, tuple(parameters))

    def _where(self, where: Mapping[str, Any]) -> tuple[list[str], list[Any]]:
        parameters: list[Any] = []
        conditions = []
        for name, value in where.items():
            members = value if isinstance(value, tuple) else (value,)
            marks = ", ".join([self._mark(parameters, name, member) for member in members])
            conditions.append(f"{quoted(name)} IN ({marks})")
        return conditions, parameters

    def _mark(self, parameters: list[Any], name: str, value: Any) -> str:
        parameters.append(self._statements.encoded(name, value))
        return self._driver.dialect.parameter(len(parameters))

    def _event(self, row: Sequence[Any]) -> tuple[Place, EventRecord]:
        event = self._statements.entity(row[2:])
        return Place(int(row[1]), event.id), event


async def settle_positions(database: Database) -> None:
    """Put events that were restored from another PostgreSQL server before all new ones.

    Positions there are transaction numbers of the other server. If they are ahead of this one, the
    events would not be final for a long time.

    Raises:
        StorageError: the database cannot be written.
    """
    if not database.is_sqlite:
        async with database.writing() as connection:
            await connection.exec_driver_sql(_FOREIGN)
