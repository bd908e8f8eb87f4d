"""One database: its engine, its settings, and its errors as `StorageError`."""

import json
import math
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dspex.errors import ConfigurationError, ConflictError, StorageError
from dspex.operations.storage.postgres import PostgresDriver
from dspex.operations.storage.sqlite import SQLiteDriver
from dspex.operations.storage.write_groups import WriteGroups

if TYPE_CHECKING:
    import sqlalchemy as sa
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from dspex.operations.storage.driver import Driver

PRAGMAS = ("journal_mode=WAL", "synchronous=NORMAL", "busy_timeout=5000", "foreign_keys=ON")
# An arbitrary number: migrations of a PostgreSQL database hold this advisory lock.
_LOCK = 7204107
_PAUSE = 1.0  # seconds
_EMBEDDED = "sqlite+aiosqlite:///"


class Database:
    """An engine for one URL; `url` is its text.

    SQLAlchemy is imported when the engine is needed: rows of SQLite are read without it.
    With SQLite, WAL lets readers and one writer of several processes work at once.
    `synchronous=NORMAL` keeps every commit through a crash of the process; a loss of power may undo
    the last commits.
    """

    def __init__(self, url: str) -> None:
        """Take a URL; nothing is opened yet.

        It is postgresql://user:password@host/name, or sqlite+aiosqlite:///file.

        Raises:
            ConfigurationError: the URL is invalid, or its driver is not installed.
        """
        self.url = url
        self.file = url.removeprefix(_EMBEDDED) if url.startswith(_EMBEDDED) else None
        self.display_url = self.file or _without_password(url)
        self.driver: Driver = (
            PostgresDriver(url, storage_error=self.storage_error)
            if self.file is None
            else SQLiteDriver(self.file, storage_error=self.storage_error)
        )
        self.writes = WriteGroups(self.driver.apply)

    @cached_property
    def engine(self) -> "AsyncEngine":
        """Connections for everything but rows: the schema, and custom statements."""
        import sqlalchemy as sa
        from sqlalchemy.ext.asyncio import create_async_engine

        options: dict[str, Any] = {"json_serializer": _to_json, "json_deserializer": json.loads}
        if isinstance(self.driver, PostgresDriver):
            engine = create_async_engine(
                "postgresql+asyncpg://", async_creator=self.driver.connect, **options
            )
            sa.event.listen(engine.sync_engine, "checkin", _note_use)
            sa.event.listen(engine.sync_engine, "checkout", _check_connection)
            return engine
        engine = create_async_engine(self.url, **options)
        sa.event.listen(engine.sync_engine, "connect", _set_pragmas)
        sa.event.listen(engine.sync_engine, "begin", _begin)
        return engine

    @classmethod
    def embedded(cls, file: Path) -> "Database":
        """Return the SQLite database in `file`, which is created at the first use."""
        return cls(f"{_EMBEDDED}{file}")

    @property
    def is_sqlite(self) -> bool:
        """Whether it is SQLite."""
        return self.file is not None

    @asynccontextmanager
    async def reading(self) -> "AsyncIterator[AsyncConnection]":
        """Give a connection for reads.

        Raises:
            StorageError: the database cannot be read.
        """
        with self.errors("read"):
            async with self.engine.connect() as connection:
                yield connection

    @asynccontextmanager
    async def writing(self, begin: str = "BEGIN IMMEDIATE") -> "AsyncIterator[AsyncConnection]":
        """Give a connection in a transaction, committed at the end of the block unless it raises.

        `begin` is the statement that begins it in SQLite.

        Raises:
            ConflictError: a unique group exists already.
            StorageError: the database cannot be written.
        """
        with self.errors("write"):
            async with self.engine.connect() as connection:
                await connection.execution_options(dspex_begin=begin)
                async with connection.begin():
                    yield connection

    @asynccontextmanager
    async def autocommit(self) -> "AsyncIterator[AsyncConnection]":
        """Give a connection for one statement that is a transaction by itself.

        A process that is stopped after sending it leaves no open transaction for others to wait
        for.

        Raises:
            ConflictError: a unique group exists already.
            StorageError: the database cannot be written.
        """
        options = {"dspex_begin": ""} if self.is_sqlite else {"isolation_level": "AUTOCOMMIT"}
        with self.errors("write"):
            async with self.engine.connect() as connection:
                await connection.execution_options(**options)
                yield connection

    @asynccontextmanager
    async def migrating(self) -> "AsyncIterator[AsyncConnection]":
        """Give a connection like `writing` for changes of the schema, to one caller at a time.

        In SQLite, tables that others refer to can be recreated on it.
        """
        if not self.is_sqlite:
            async with self.writing() as connection:
                await connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
                yield connection
            return
        try:
            async with self.writing("PRAGMA foreign_keys=OFF; BEGIN IMMEDIATE") as connection:
                yield connection
                broken = (await connection.exec_driver_sql("PRAGMA foreign_key_check")).all()
                if broken:
                    raise StorageError(
                        f"the migration would leave references to nothing: {broken[:3]}"
                    )
        finally:
            # later users of this connection must not find foreign keys switched off
            await self.engine.dispose()

    async def aclose(self) -> None:
        """Finish the pending writes, and close all connections."""
        await self.writes.aclose()
        await self.driver.aclose()
        if "engine" in self.__dict__:
            await self.engine.dispose()

    def storage_error(self, operation: str, text: str) -> StorageError:
        """Return an error with the driver's `text` and how to fix it.

        Its `public_message` contains neither the URL of the database nor the text of the driver.
        """
        fix = _fix_for(text)
        public = f"cannot {operation} the database now" + (
            f": {fix}" if fix else "; the server's log says more"
        )
        return StorageError(
            f"cannot {operation} the database {self.display_url!r}: {text}{fix and f': {fix}'}",
            public_message=public,
        )

    @contextmanager
    def errors(self, operation: str) -> Iterator[None]:
        """Attribute the errors of the database and of its driver inside the block."""
        from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError

        try:
            yield
        except IntegrityError as error:
            raise ConflictError(
                f"this exists already, or refers to what does not: {error.orig}"
            ) from error
        except DBAPIError as error:
            raise self.storage_error(operation, str(error.orig)) from error
        except (SQLAlchemyError, OSError) as error:
            raise self.storage_error(operation, str(error)) from error


def _note_use(_connection: Any, record: Any) -> None:
    record.info["used"] = time.monotonic()


def _check_connection(connection: Any, record: Any, _proxy: Any) -> None:
    """Let the pool replace a lost connection; the server is only asked after a pause.

    Asking takes four messages, longer than most statements.
    """
    import sqlalchemy as sa

    if not connection.driver_connection.is_closed():
        if time.monotonic() - record.info.get("used", math.inf) < _PAUSE:
            return
        with suppress(sa.exc.DBAPIError, connection.dbapi.Error):
            connection.ping()
            return
    raise sa.exc.DisconnectionError("the connection is lost")


_FIXES = {
    "locked": "another process holds it; try again, or stop that process",
    "readonly": "the file or its folder is read-only; make it writable, or set DSPEX_STATE_DIR to "
    "another folder",
    "unable to open": "the folder does not exist or is not writable; set DSPEX_STATE_DIR to "
    "another folder",
    "is full": "the disk is full; make room and try again",
    "disk I/O error": "the disk is full, or fails; look at the system's log",
    "Connect call failed": "no server answers there; start it, or correct DSPEX_DATABASE_URL",
    "[Errno 2]": "no server answers there; start it, or correct DSPEX_DATABASE_URL",
    "Name or service not known": "correct the host in DSPEX_DATABASE_URL",
    "DiskFull": "the disk of the database server is full; make room and try again",
    "ReadOnlySQLTransaction": "this server takes no writes; name the primary one in "
    "DSPEX_DATABASE_URL",
    "Password": "correct the user and password in DSPEX_DATABASE_URL",
    "InvalidAuthorization": "correct the user and password in DSPEX_DATABASE_URL",
    "InvalidCatalogName": "make the database, or correct its name in DSPEX_DATABASE_URL",
    "TooManyConnections": "raise its max_connections, or run fewer servers",
    "UndefinedTable": "run `dspex db migrate`",
    "not a database": "the file is damaged, or is not a SQLite database; move it away",
    "malformed": "the file is damaged; restore a backup copy from the same folder",
}


def _fix_for(text: str) -> str:
    return next((fix for mark, fix in _FIXES.items() if mark in text), "")


def _to_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _without_password(url: str) -> str:
    import sqlalchemy as sa
    from sqlalchemy.exc import ArgumentError

    try:
        return sa.make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        raise ConfigurationError(
            "the database URL cannot be read; write postgresql://user@host/name"
        ) from None


def _begin(connection: "sa.Connection") -> None:
    # The driver would begin late, and never before a change of the schema; and a writer that reads
    # first could not wait for another writer that came in between.
    for statement in connection.get_execution_options().get("dspex_begin", "BEGIN").split("; "):
        connection.exec_driver_sql(statement)


def _set_pragmas(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # `_begin` begins transactions
    cursor = connection.cursor()
    try:
        for pragma in PRAGMAS:
            cursor.execute(f"PRAGMA {pragma}")
    finally:
        cursor.close()
