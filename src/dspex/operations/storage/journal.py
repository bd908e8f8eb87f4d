"""The journal of a job in the database: replies and trials, from which it can be resumed."""

import asyncio
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import msgspec
import sqlalchemy as sa

from dspex.errors import ConflictError, StorageError
from dspex.learning.optimizers.journal import Entry
from dspex.operations.jobs.job import JobResource
from dspex.operations.storage.database import Database
from dspex.operations.storage.tables import ENTRIES
from dspex.sync import unbroken


class SQLJournal:
    """The entries of one job; see `Journal`. Owned by one event loop.

    With `turn`, an entry is written only while the job's row (of `resource`) is at that turn, so
    that a process that was wrongly declared dead cannot write to the journal of its successor.
    """

    def __init__(
        self,
        database: Database,
        job_id: UUID,
        *,
        resource: JobResource[Any] | None = None,
        turn: int | None = None,
    ) -> None:
        """Take the database, which its owner closes, and the job."""
        self._database = database
        self._job_id = job_id
        self._row = None if resource is None or turn is None else _job_table(resource)
        self._turn = turn
        self._next: int | None = None
        self._lock = asyncio.Lock()

    async def entries(self) -> Sequence[Entry]:
        """Return all entries, oldest first."""
        return await unbroken(self._entries())

    async def _entries(self) -> Sequence[Entry]:
        statement = (
            sa.select(ENTRIES.c.entry)
            .where(ENTRIES.c.job_id == self._job_id)
            .order_by(ENTRIES.c.number)
        )
        async with self._database.reading() as connection:
            rows = (await connection.execute(statement)).scalars().all()
        return [msgspec.json.decode(row) for row in rows]

    async def append(self, entry: Entry) -> None:
        """Add an entry.

        Raises:
            ConflictError: the job is at another turn.
            StorageError: it cannot be written, or somebody else writes to the journal too; read it
            again.
        """
        await unbroken(self._append(msgspec.json.encode(entry).decode()))

    async def _append(self, text: str) -> None:
        async with self._lock:
            if self._next is None:
                self._next = await self._count()
            number, self._next = self._next, None  # set again only after a successful write
            try:
                async with self._database.autocommit() as connection:
                    inserted = (await connection.execute(self._insert(number, text))).rowcount
            except ConflictError as error:
                raise StorageError(
                    f"entry {number} of the journal was written by somebody else: {error}"
                ) from error
            if not inserted:
                raise ConflictError(
                    f"the job {str(self._job_id)!r} goes on elsewhere; this process has to leave it"
                )
            self._next = number + 1

    async def _count(self) -> int:
        statement = sa.select(sa.func.max(ENTRIES.c.number)).where(ENTRIES.c.job_id == self._job_id)
        async with self._database.reading() as connection:
            newest = (await connection.execute(statement)).scalar()
        return 0 if newest is None else int(newest) + 1

    def _insert(self, number: int, text: str) -> Any:
        values = {"job_id": self._job_id, "number": number, "entry": text}
        if self._row is None:
            return ENTRIES.insert().values(values)
        typed = [sa.literal(value, ENTRIES.c[name].type) for name, value in values.items()]
        # the row is locked with the insert, so that a turn cannot begin between the check and the
        # commit
        row = (
            sa.select(*typed)
            .where(self._row.c.id == self._job_id, self._row.c.turn == self._turn)
            .with_for_update()
        )
        return ENTRIES.insert().from_select(list(values), row)


def _job_table(resource: JobResource[Any]) -> sa.TableClause:
    return sa.table(resource.plural, sa.column("id", sa.Uuid()), sa.column("turn", sa.Integer()))
