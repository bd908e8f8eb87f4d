"""PostgreSQL over asyncpg.

A group of writes is one statement, and equal questions that wait are asked once.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from dspex.errors import ConfigurationError, ConflictError, DspexError, InternalError
from dspex.operations.framework.store import Insert, Query
from dspex.operations.storage.column_types import POSTGRES
from dspex.operations.storage.driver import UNFIT, Portion, refusal, unfit, update_statement
from dspex.operations.storage.merged_writes import MergedWrites
from dspex.operations.storage.single_statement import one_statement
from dspex.operations.storage.statements import Dialect, Statement, Statements
from dspex.operations.storage.write_groups import Step, Write

_Answer = asyncio.Future[Sequence[Sequence[Any]]]
_READERS = 4
_LIGHT, _GROUP = 64 * 1024, 4 * 1024 * 1024  # bytes of a small row, and of large rows read together
# Writes select rows by id. Plans are made once, often while tables are small, and kept while they
# grow, so all but index scans are off.
_BY_ID = "".join(
    f"SET {way} = off;" for way in ("enable_seqscan", "enable_hashjoin", "enable_mergejoin", "jit")
)
_CONNECT_SECONDS, _COMMAND_SECONDS = 10.0, 60.0
_SHARED = (
    "a pooler such as pgbouncer shares sessions of PostgreSQL between its clients, from "
    "transaction to transaction; dspex needs sessions for itself: let DSPEX_DATABASE_URL name the "
    "server itself, or set pool_mode=session there"
)


class UnreachableError(OSError):
    """No connection could be made, so nothing was sent."""


@dataclass(slots=True)
class _Reader:
    """The connection of one reading task, replaced when it is lost."""

    connection: Any


class PostgresDriver:
    """One connection for writes, a few for reads.

    Each is opened when it is needed and replaced when it is lost.
    """

    dialect = Dialect(
        POSTGRES,
        "${}".format,
        equals="IS NOT DISTINCT FROM",
        has_arrays=True,
        by_code_point=' COLLATE "C"',
        place_of="strpos",
    )

    def __init__(self, url: str, *, storage_error: Callable[[str, str], DspexError]) -> None:
        """Take the URL, and the translation of errors.

        Raises:
            ConfigurationError: the driver is not installed.
        """
        try:
            import asyncpg
        except ImportError as error:
            raise ConfigurationError(
                "PostgreSQL needs one more package: pip install 'dspex[pg]'"
            ) from error
        self._asyncpg = asyncpg
        self._foreign = (
            asyncpg.PostgresError,
            asyncpg.InterfaceError,
            asyncpg.InternalClientError,
            OSError,
        )
        self._pooler_errors = (
            asyncpg.DuplicatePreparedStatementError,
            asyncpg.InvalidSQLStatementNameError,
        )
        self._url = url
        self._storage_error = storage_error
        self._is_closed = False
        self._is_direct = False
        self._writer: Any = None
        self._idle: list[Any] = []
        self._pending: dict[Statement, list[_Answer]] = {}
        self._reading = 0
        self._readers: set[asyncio.Task[None]] = set()

    async def connect(self) -> Any:
        """Return a new connection.

        Raises:
            UnreachableError: the URL leads to no database, or the database refuses the login.
            ConfigurationError: a pooler in transaction mode is before it.
            StorageError: the database is closed.
        """
        if self._is_closed:  # nobody would close a connection that is opened now
            raise self._storage_error("use", "the database is closed")
        connection = await self._open()
        if not self._is_direct:
            try:
                await self._refuse_shared_sessions(connection)
            except BaseException:
                connection.terminate()
                raise
            self._is_direct = True
        return connection

    async def _open(self) -> Any:
        try:
            return await self._asyncpg.connect(
                self._url,
                timeout=_CONNECT_SECONDS,
                command_timeout=_COMMAND_SECONDS,
                statement_cache_size=512,
            )
        except (self._asyncpg.PostgresError, self._asyncpg.InterfaceError, ValueError) as error:
            raise UnreachableError(f"{type(error).__name__}: {error}") from error
        except OSError as error:
            raise UnreachableError(str(error) or type(error).__name__) from error

    async def _refuse_shared_sessions(self, connection: Any) -> None:
        """Refuse a pooler that shares the sessions of the server, one transaction at a time.

        A pooler reports a made-up process id to each client. It shares sessions if the same process
        of the server serves two open connections.
        """
        try:
            ours = await _server_process(connection)
        except self._asyncpg.ConnectionDoesNotExistError as error:  # statement pooling
            raise ConfigurationError(_SHARED) from error
        if ours == connection.get_server_pid():
            return
        second = await self._open()
        try:
            if await _server_process(second) == ours:
                raise ConfigurationError(_SHARED)
        finally:
            second.terminate()

    async def rows(self, statement: Statement) -> Sequence[Sequence[Any]]:
        """Return all rows of a statement; callers with the same pending statement share them."""
        answer: _Answer = asyncio.get_running_loop().create_future()
        self._pending.setdefault(statement, []).append(answer)
        if self._reading < _READERS:
            self._reading += 1
            reader = asyncio.create_task(self._read(), name="dspex reads")
            self._readers.add(reader)
            reader.add_done_callback(self._readers.discard)
        return await answer

    async def portion(self, statements: Statements[Any], query: Query, *, most: int) -> Portion:
        """Return the first rows, large ones in further reads; see `Driver.portion`."""
        weighed = await self.rows(statements.weighed(query, light=_LIGHT))
        total, number = 0, 0
        for row in weighed:
            if number and total + row[-1] > most:
                break
            total += row[-1]
            number += 1
        light_rows = [tuple(row)[:-1] for row in weighed[:number]]
        large = {statements.key(row): row[-1] for row in weighed[:number] if row[-1] > _LIGHT}
        whole = (
            {statements.key(row): row for row in await self._large(statements, query, large)}
            if large
            else {}
        )
        rows = [
            whole.get(key) if (key := statements.key(row)) in large else row for row in light_rows
        ]
        return Portion(
            [row for row in rows if row is not None], total, is_cut=number < len(weighed)
        )

    async def _large(
        self, statements: Statements[Any], query: Query, sizes: Mapping[Any, int]
    ) -> list[Any]:
        """Return whole rows by their ids, a few at a time."""
        rows: list[Any] = []
        group: list[Any] = []
        for number, key in enumerate(sizes, 1):
            group.append(UUID(int=key.int))
            if number == len(sizes) or sum(sizes[member] for member in group) > _GROUP:
                query_of_group = Query(
                    where={"id": tuple(group)}, limit=len(group), without=query.without
                )
                rows += await self.rows(statements.select(query_of_group))
                group = []
        return rows

    async def apply(self, writes: Sequence[Write]) -> Sequence[Exception | None]:
        """Commit the writes in as few statements as their order allows, or singly if one fails."""
        outcomes: list[Exception | None] = []
        together = MergedWrites()
        for steps in writes:
            if together.try_add(steps):
                continue
            outcomes += await self._commit(together)
            together = MergedWrites()
            if not together.try_add(steps):
                outcomes.append(await self._apply_singly(steps))
        return outcomes + await self._commit(together)

    async def check(self) -> None:
        """Do nothing: the server checks its files."""

    async def aclose(self) -> None:
        """Close all connections; later reads and writes fail."""
        self._is_closed = True
        for reader in list(self._readers):
            await asyncio.wait([reader])
        for connection in (self._writer, *self._idle):
            if connection is not None and not connection.is_closed():
                try:
                    await connection.close(timeout=1.0)
                except (*self._foreign, TimeoutError):
                    connection.terminate()
        self._writer = None
        self._idle.clear()

    async def _commit(self, together: MergedWrites) -> list[Exception | None]:
        if not together.writes:
            return []
        statement = one_statement(together)
        if statement is not None:
            try:
                await self._send(statement, _proof(together))
            except self._foreign as error:
                is_left = self._writer is not None and self._discard_if_lost(self._writer, error)
                if is_left or not isinstance(error, self._asyncpg.PostgresError):
                    return [self._error_from("write", error)] * len(together.writes)
                # each write below finds out whether it is wrong
            else:
                return [None] * len(together.writes)
        return [await self._apply_singly(steps) for steps in together.writes]

    async def _send(self, statement: Statement, proof: Statement | None) -> None:
        connection = await self._write_connection()
        try:
            await connection.fetchval(statement.sql, *statement.parameters)
        except self._foreign as error:
            if not self._discard_if_lost(connection, error) or proof is None:
                raise
        else:
            return
        # The connection was lost, and the statement may have been committed. It try_add effect
        # completely or not at all, and only we insert these ids: one of them proves the commit.
        try:
            connection = await self._write_connection()
        except UnreachableError as error:
            raise OSError(str(error)) from error  # no way to find out
        if await connection.fetchval(proof.sql, *proof.parameters) is not None:
            return
        try:
            await connection.fetchval(statement.sql, *statement.parameters)
        except self._asyncpg.UniqueViolationError:
            if await connection.fetchval(proof.sql, *proof.parameters) is None:
                raise

    async def _apply_singly(self, steps: Write) -> Exception | None:
        for is_last in (False, False, True):
            try:
                await self._transaction(steps)
            except DspexError as error:
                return error
            except (self._asyncpg.DeadlockDetectedError, self._asyncpg.SerializationError) as error:
                if is_last:
                    return self._error_from("write", error)
            except Exception as error:  # noqa: BLE001  # the other writes go on
                return self._error_from("write", error)
            else:
                break
        return None

    async def _transaction(self, steps: Write) -> None:
        connection = await self._write_connection()
        try:
            async with connection.transaction():
                for step in steps:
                    await _carry_out(connection, step)
        except self._foreign as error:
            self._discard_if_lost(connection, error)
            raise

    async def _write_connection(self) -> Any:
        if self._writer is None or self._writer.is_closed():
            connection = await self.connect()
            await connection.execute(_BY_ID)
            self._writer = connection
        return self._writer

    async def _read(self) -> None:
        reader = _Reader(self._idle.pop() if self._idle else None)
        try:
            while self._pending:
                statement = next(iter(self._pending))
                await self._answer(reader, statement, self._pending.pop(statement))
        finally:
            self._reading -= 1  # at once: the next statement has to start a reader
            if reader.connection is not None and not reader.connection.is_closed():
                self._idle.append(reader.connection)

    async def _answer(
        self, reader: "_Reader", statement: Statement, answers: list[_Answer]
    ) -> None:
        """Give the rows or the error to all callers."""
        try:
            rows = await self._fetch_with(reader, statement)
        except asyncio.CancelledError:
            for answer in answers:
                answer.cancel()
            raise
        except Exception as error:  # noqa: BLE001  # given to all callers
            translated = self._error_from("read", error)
            for answer in answers:
                if not answer.done():
                    answer.set_exception(copy(translated))
        else:
            for answer in answers:
                if not answer.done():
                    answer.set_result(rows)

    async def _fetch_with(self, reader: "_Reader", statement: Statement) -> Any:
        for is_last in (False, True):
            if reader.connection is None or reader.connection.is_closed():
                reader.connection = await self.connect()
            try:
                return await reader.connection.fetch(statement.sql, *statement.parameters)
            except self._foreign as error:
                if not self._discard_if_lost(reader.connection, error) or is_last:
                    raise
        raise AssertionError  # the second round returns or raises

    def _discard_if_lost(self, connection: Any, error: Exception) -> bool:
        """Close a connection that this error has lost; return whether it is closed."""
        if self._is_lost(error):
            connection.terminate()
        return bool(connection.is_closed())

    def _is_lost(self, error: Exception) -> bool:
        lost = (self._asyncpg.PostgresConnectionError, self._asyncpg.AdminShutdownError)
        return isinstance(
            error,
            (*lost, self._asyncpg.CrashShutdownError, self._asyncpg.InternalClientError, OSError),
        )

    def _error_from(self, operation: str, error: Exception) -> DspexError:
        if isinstance(error, DspexError):
            return error
        if isinstance(error, self._pooler_errors):
            return ConfigurationError(_SHARED)
        if isinstance(error, self._asyncpg.IntegrityConstraintViolationError):
            return ConflictError(f"this exists already, or refers to what does not: {error}")
        if isinstance(error, (self._asyncpg.DataError, *UNFIT)):
            return unfit(error)
        if not isinstance(error, (*self._foreign, TimeoutError)):
            return InternalError(f"a {operation} failed: {type(error).__name__}: {error}")
        is_known = (
            operation != "write" or isinstance(error, UnreachableError) or not self._is_lost(error)
        )
        name = "" if isinstance(error, UnreachableError) else f"{type(error).__name__}: "
        return self._storage_error(
            operation, f"{name}{error}{'' if is_known else '; whether it was done is not known'}"
        )


async def _server_process(connection: Any) -> int:
    """Return the process that serves a connection, and leave nothing in its session."""
    async with connection.transaction():
        return int(await (await connection.prepare("SELECT pg_backend_pid()", name="")).fetchval())


def _proof(together: MergedWrites) -> Statement | None:
    for statements, entities in together.inserts.items():
        return Statement(statements.status(), (entities[0].id,))
    return None


async def _carry_out(connection: Any, step: Step) -> None:
    statements, change = step.statements, step.change
    if isinstance(change, Insert):
        await connection.execute(statements.insert, *statements.row(change.entity))
        return
    update = update_statement(statements, change)
    outcome = await connection.execute(update.sql, *update.parameters)
    if outcome.endswith(" 0"):
        raise refusal(change, await connection.fetchval(statements.status(), change.id))
