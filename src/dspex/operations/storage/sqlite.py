"""SQLite without threads in the way.

Statements take microseconds, and whatever try_add longer is done elsewhere.
"""

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any, TypeVar

from dspex.errors import ConflictError, DspexError, InternalError
from dspex.operations.framework.store import Insert, Query
from dspex.operations.storage.column_types import SQLITE
from dspex.operations.storage.driver import UNFIT, Portion, refusal, unfit, update_statement
from dspex.operations.storage.merged_writes import COUNT, MergedWrites
from dspex.operations.storage.statements import Dialect, Statement, Statements, quoted
from dspex.operations.storage.write_groups import Step, Write

T = TypeVar("T")
PRAGMAS = ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", "wal_autocheckpoint=0")
_READ_SECONDS = 0.002  # for a read on the loop; a longer one starts again in a thread
_PROGRESS = 2000  # virtual machine instructions between two checks of the clock
_CHANGES = 1500  # changed rows after which the write-ahead log is written back into the file
_LOG_PAGES = 16_000  # 64 MB of log, after which writes pause until all of it is written back
_FIRST_WAIT, _LONGEST_WAIT = 0.001, 0.05


class SQLiteDriver:
    """One file, one connection on the loop for writes and short reads.

    A thread costs more than a short read, and beside a busy loop it waits for the interpreter's
    lock at each row. Long reads and checkpoints of the log, which wait for the disk, use threads.
    """

    dialect = Dialect(
        SQLITE, lambda _n: "?", equals="IS", has_arrays=False, by_code_point="", place_of="instr"
    )

    def __init__(
        self,
        file: str,
        *,
        storage_error: Callable[[str, str], DspexError],
        busy_seconds: float = 5.0,
    ) -> None:
        """Take the file, the translation of errors, and the seconds to wait for another writer.

        The file may be an URI.
        """
        self._file = file
        self._path = file.removeprefix("file:").partition("?")[0]
        self._place = (0, 0)
        self._storage_error = storage_error
        self._busy_seconds = busy_seconds
        self._read_seconds = _READ_SECONDS
        self._opened: sqlite3.Connection | None = None
        self._is_closed = False
        self._deadline = 0.0
        self._back: asyncio.Task[None] | None = None
        self._written_back = 0
        self._log_pages = _LOG_PAGES
        self._writing = asyncio.Lock()

    async def rows(self, statement: Statement) -> Sequence[Sequence[Any]]:
        """Return all rows of a statement."""
        return await self._read(lambda connection: _all(connection, statement))

    async def _read(self, ask: Callable[[sqlite3.Connection], T]) -> T:
        with self._errors("read"):
            try:
                return await self._retry_while_busy(
                    lambda connection: self._short_read(connection, ask)
                )
            except _Late:
                return await asyncio.to_thread(self._long_read, ask)

    async def portion(self, statements: Statements[Any], query: Query, *, most: int) -> Portion:
        """Return the first rows, read one by one; see `Driver.portion`."""
        statement = statements.select(query)

        def first(connection: sqlite3.Connection) -> Portion:
            rows: list[Any] = []
            total = 0
            for row in connection.execute(statement.sql, statement.parameters):
                size = statements.size(row)
                if rows and total + size > most:
                    return Portion(rows, total, is_cut=True)
                rows.append(row)
                total += size
            return Portion(rows, total, is_cut=False)

        return await self._read(first)

    async def apply(self, writes: Sequence[Write]) -> Sequence[Exception | None]:
        """Commit the writes in one transaction, merged if none fails; undo only a failed one."""
        with self._errors("write"):
            connection = self._connection()
            self._check_place()
            merging = MergedWrites()
            if all(merging.try_add(steps) for steps in writes):
                try:
                    await self._transaction(connection, lambda: _execute_merge(connection, merging))
                except sqlite3.OperationalError:
                    raise
                except Exception:  # noqa: BLE001, S110  # the wrong write is found below
                    pass
                else:
                    return [None] * len(writes)
            return await self._transaction(
                connection, lambda: [_one(connection, steps) for steps in writes]
            )

    async def check(self) -> None:
        """Read the file again; see `Driver.check`."""
        with self._errors("read"):
            await asyncio.to_thread(self._reread)

    def _reread(self) -> None:
        """Read the beginning of each table on a new connection.

        Only SQLite may open the file: closing any other descriptor of it drops the locks of this
        process, and the next process that closes the database would delete the log under it.
        """
        if self._opened is not None:
            self._check_place()
        with closing(self._connect()) as connection:
            tables = connection.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table'"
            ).fetchall()
            for (name,) in tables:
                connection.execute(f"SELECT * FROM {quoted(name)} LIMIT 1").fetchall()  # quoted

    async def aclose(self) -> None:
        """Close the connection after writing back the log; later reads and writes fail."""
        self._is_closed = True
        if self._back is not None:
            await self._back
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    async def _retry_while_busy(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Repeat `work` while another process holds the database, without blocking the loop."""
        end = time.monotonic() + self._busy_seconds
        wait = _FIRST_WAIT
        while True:
            try:
                return work(self._connection())
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                    raise
            await asyncio.sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT)

    def _short_read(
        self, connection: sqlite3.Connection, ask: Callable[[sqlite3.Connection], T]
    ) -> T:
        self._deadline = time.perf_counter() + self._read_seconds
        try:
            return ask(connection)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
                raise
            raise _Late from error
        finally:
            self._deadline = 0.0

    async def _transaction(self, connection: sqlite3.Connection, work: Callable[[], T]) -> T:
        async with self._writing:
            await self._retry_while_busy(lambda connection: connection.execute("BEGIN IMMEDIATE"))
            try:
                result = work()
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:  # on a full disk, SQLite has undone it already
                    connection.execute("ROLLBACK")
                raise
        self._keep_log_short(connection)
        return result

    def _connection(self) -> sqlite3.Connection:
        if self._is_closed:  # nobody would close a connection that is opened now
            raise self._storage_error("use", "the database is closed")
        if self._opened is None:
            self._opened = self._connect()
            self._opened.execute("PRAGMA busy_timeout=0")  # `_retry_while_busy` waits
            self._opened.set_progress_handler(self._is_late, _PROGRESS)
            self._place = self._file_identity()
        return self._opened

    def _check_place(self) -> None:
        """Refuse a file that was moved or replaced while it was in use.

        Writes to a deleted file would be lost at the end of the process.
        """
        try:
            is_there = self._file_identity() == self._place
        except FileNotFoundError:
            is_there = False
        if not is_there:
            raise OSError(
                "the file was moved or replaced while it was in use; put it back, or start again"
            )

    def _file_identity(self) -> tuple[int, int]:
        status = os.stat(self._path)  # runs before each group of writes
        return status.st_dev, status.st_ino

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

    def _long_read(self, ask: Callable[[sqlite3.Connection], T]) -> T:
        with closing(self._connect()) as connection:
            return ask(connection)

    def _keep_log_short(self, connection: sqlite3.Connection) -> None:
        if self._back is None and connection.total_changes - self._written_back >= _CHANGES:
            self._written_back = connection.total_changes
            self._back = asyncio.create_task(self._write_back(), name="dspex log")

    async def _write_back(self) -> None:
        try:
            if await asyncio.to_thread(self._checkpoint) > self._log_pages:
                async with self._writing:  # without a pause of writes, the log may never end
                    await asyncio.to_thread(self._checkpoint)
        finally:
            self._back = None

    def _checkpoint(self) -> int:
        """Write back the part of the log without readers; return the number of its pages."""
        try:
            with closing(self._connect()) as connection:
                _busy, pages, _done = connection.execute(
                    "PRAGMA wal_checkpoint(PASSIVE)"
                ).fetchone()
                return int(pages)
        except sqlite3.Error:
            # Nothing is lost, the log only stays long; the next write raises the error of the disk.
            return 0

    @contextmanager
    def _errors(self, operation: str) -> Iterator[None]:
        try:
            yield
        except OverflowError as error:  # of a number
            raise unfit(error) from error
        except (sqlite3.Error, OSError) as error:
            raise self._storage_error(operation, str(error)) from error


class _Late(Exception):  # noqa: N818  # a signal: the read continues in a thread
    pass


def _all(connection: sqlite3.Connection, statement: Statement) -> list[Any]:
    return connection.execute(statement.sql, statement.parameters).fetchall()


def _execute_merge(connection: sqlite3.Connection, merging: MergedWrites) -> None:
    for statements in sorted(merging.inserts, key=lambda statements: statements.place):
        connection.executemany(statements.insert, map(statements.row, merging.inserts[statements]))
    for shape, rows in merging.updates.items():
        statements = shape.statements
        sql = statements.update(
            shape.values, shape.increments, expected=shape.expected, statuses=len(shape.statuses)
        )
        for row in rows.values():
            values = [statements.encoded(name, row[name]) for name in shape.values]
            values += [row["+" + name] for name in shape.increments]
            values += [row[COUNT], statements.encoded("id", row["id"])]
            values += [statements.encoded(name, row["=" + name]) for name in shape.expected]
            if not connection.execute(sql, [*values, *shape.statuses]).rowcount:
                raise sqlite3.IntegrityError


def _one(connection: sqlite3.Connection, steps: Write) -> Exception | None:
    connection.execute("SAVEPOINT one")
    try:
        for step in steps:
            _carry_out(connection, step)
    except sqlite3.IntegrityError as error:
        outcome: Exception = ConflictError(
            f"this exists already, or refers to what does not: {error}"
        )
    except DspexError as error:
        outcome = error
    except (sqlite3.ProgrammingError, sqlite3.InterfaceError, *UNFIT) as error:
        outcome = unfit(error)
    except sqlite3.Error:
        raise  # of the database, and so of every write
    except Exception as error:  # noqa: BLE001  # it belongs to this write alone
        outcome = InternalError(f"a write failed: {type(error).__name__}: {error}")
    else:
        connection.execute("RELEASE one")
        return None
    connection.execute("ROLLBACK TO one")
    connection.execute("RELEASE one")
    return outcome


def _carry_out(connection: sqlite3.Connection, step: Step) -> None:
    statements, change = step.statements, step.change
    if isinstance(change, Insert):
        connection.execute(statements.insert, statements.row(change.entity))
        return
    update = update_statement(statements, change)
    if not connection.execute(update.sql, update.parameters).rowcount:
        row = connection.execute(
            statements.status(), (statements.encoded("id", change.id),)
        ).fetchone()
        raise refusal(change, row[0] if row else None)
