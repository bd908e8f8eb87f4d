"""SQLite without threads in the way: statements take microseconds, and whatever takes longer is done elsewhere."""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

from dspex.errors import ConflictError, DspexError, StorageError
from dspex.operations.resources.ports import Insert
from dspex.operations.storage.driver import refused, updated
from dspex.operations.storage.grouping import Step, Write
from dspex.operations.storage.statements import Dialect, Guarded, Question
from dspex.operations.storage.values import SQLITE

PRAGMAS = ("journal_mode=WAL", "synchronous=NORMAL", "busy_timeout=0", "foreign_keys=ON", "wal_autocheckpoint=0")
_READ_SECONDS = 0.002  # what one read may hold the loop for; one that needs longer begins anew in a thread
_PROGRESS = 2000  # virtual machine instructions between two looks at the clock
_CHANGES = 300  # rows, after which the log is written back into the file
_FIRST_WAIT, _LONGEST_WAIT = 0.001, 0.05


class SQLiteDriver:
    """One file, one connection on the loop for writes and short reads.

    A hand-over to a thread costs more than a short read, and each row that a busy loop's thread reads waits for the
    interpreter's lock. Long reads and the writing back of the log, which waits for the disk, are done in threads.
    """

    dialect = Dialect(SQLITE, lambda _n: "?", has_arrays=False)

    def __init__(self, file: str, *, mend: Callable[[str, str], DspexError], busy_seconds: float = 5.0) -> None:
        """Take the file (or an URI), how errors are told, and how long to wait for another process that writes."""
        self._file = file
        self._mend = mend
        self._busy_seconds = busy_seconds
        self._read_seconds = _READ_SECONDS
        self._opened: sqlite3.Connection | None = None
        self._deadline = 0.0
        self._back: asyncio.Task[None] | None = None
        self._written_back = 0

    async def rows(self, question: Question) -> Sequence[Sequence[Any]]:
        """Return all rows that answer `question`."""
        with self._errors("read"):
            connection = self._connection()
            self._deadline = time.perf_counter() + self._read_seconds
            try:
                return connection.execute(question.sql, question.parameters).fetchall()
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
                    raise
            finally:
                self._deadline = 0.0
            return await asyncio.to_thread(self._read, question)

    async def apply(self, writes: Sequence[Write]) -> Sequence[Exception | None]:
        """Commit the writes in one transaction; one that fails is undone alone."""
        with self._errors("write"):
            connection = self._connection()
            await self._begin(connection)
            try:
                outcomes = [self._write(connection, steps) for steps in writes]
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:  # SQLite has undone it already where the disk is full
                    connection.execute("ROLLBACK")
                raise
        self._keep_log_short(connection)
        return outcomes

    async def aclose(self) -> None:
        """Close the connection, after the log was written back."""
        if self._back is not None:
            await self._back
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    async def _begin(self, connection: sqlite3.Connection) -> None:
        end = time.monotonic() + self._busy_seconds
        wait = _FIRST_WAIT
        while True:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                    raise
            else:
                return
            await asyncio.sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT)

    def _write(self, connection: sqlite3.Connection, steps: Write) -> Exception | None:
        connection.execute("SAVEPOINT one")
        try:
            for step in steps:
                _carry_out(connection, step)
        except sqlite3.IntegrityError as error:
            outcome: Exception = ConflictError(f"this exists already, or refers to what does not: {error}")
        except DspexError as error:
            outcome = error
        except (
            TypeError,
            ValueError,
            OverflowError,
            AttributeError,
            sqlite3.ProgrammingError,
            sqlite3.InterfaceError,
        ) as error:
            outcome = StorageError(f"a value cannot be stored: {error}")
        else:
            connection.execute("RELEASE one")
            return None
        connection.execute("ROLLBACK TO one")
        connection.execute("RELEASE one")
        return outcome

    def _connection(self) -> sqlite3.Connection:
        if self._opened is None:
            self._opened = self._connect()
            self._opened.set_progress_handler(self._is_late, _PROGRESS)
        return self._opened

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._file,
            timeout=self._busy_seconds,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=512,
            uri=self._file.startswith("file:"),
        )
        try:
            for pragma in PRAGMAS:
                connection.execute(f"PRAGMA {pragma}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _is_late(self) -> int:
        return int(0.0 < self._deadline < time.perf_counter())

    def _read(self, question: Question) -> list[Any]:
        with closing(self._connect()) as connection:
            return connection.execute(question.sql, question.parameters).fetchall()

    def _keep_log_short(self, connection: sqlite3.Connection) -> None:
        if self._back is None and connection.total_changes - self._written_back >= _CHANGES:
            self._written_back = connection.total_changes
            self._back = asyncio.create_task(self._write_back(), name="dspex log")

    async def _write_back(self) -> None:
        try:
            await asyncio.to_thread(self._checkpoint)
        finally:
            self._back = None

    def _checkpoint(self) -> None:
        try:
            with closing(self._connect()) as connection:
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        except sqlite3.Error:
            # The log stays long, nothing is lost. Whatever is wrong with the disk, the next write meets and tells.
            return

    @contextmanager
    def _errors(self, doing: str) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise self._mend(doing, str(error)) from error


def _carry_out(connection: sqlite3.Connection, step: Step) -> None:
    statements, change = step.statements, step.change
    if isinstance(change, Insert):
        connection.execute(statements.insert, statements.row(change.entity))
        return
    parameters = updated(statements, change)
    sql = statements.update(Guarded.of(change))
    if not connection.execute(sql, parameters).rowcount:
        found = connection.execute(statements.status(), (statements.encoded("id", change.id),)).fetchone()
        raise refused(change, found[0] if found else None)
