"""One database: its engine, its settings, and its errors as ours."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from dspex.errors import ConfigurationError, ConflictError, StorageError

PRAGMAS = ("journal_mode=WAL", "synchronous=NORMAL", "busy_timeout=5000", "foreign_keys=ON")


class Database:
    """An engine for one URL. With SQLite, WAL lets readers and one writer of several processes work at once.

    `synchronous=NORMAL` keeps every commit through a crash of the process; a loss of power may undo the last commits.
    """

    def __init__(self, url: str) -> None:
        """Take a URL (postgresql://user:password@host/name, or sqlite+aiosqlite:///file); nothing is opened yet.

        Raises:
            ConfigurationError: the URL is none, or its driver is not installed.
        """
        try:
            self.url = sa.make_url(url)
        except ArgumentError:
            raise ConfigurationError("the database URL cannot be read; write postgresql://user@host/name") from None
        options: dict[str, Any] = {"json_serializer": _to_json, "json_deserializer": json.loads}
        if self.is_sqlite:
            self.engine: AsyncEngine = create_async_engine(self.url, **options)
            sa.event.listen(self.engine.sync_engine, "connect", _set_pragmas)
            sa.event.listen(self.engine.sync_engine, "begin", _begin)
        else:
            self.engine = create_async_engine(
                "postgresql+asyncpg://", async_creator=_connector(url), pool_pre_ping=True, **options
            )

    @classmethod
    def embedded(cls, file: Path) -> "Database":
        """Return the SQLite database in `file`, which is made at the first use."""
        return cls(f"sqlite+aiosqlite:///{file}")

    @property
    def is_sqlite(self) -> bool:
        """Whether it is SQLite."""
        return self.url.get_backend_name() == "sqlite"

    @property
    def shown(self) -> str:
        """The URL without its password, for messages."""
        return self.url.database or "" if self.is_sqlite else self.url.render_as_string(hide_password=True)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """Give a connection for reads.

        Raises:
            StorageError: the database cannot be read.
        """
        with self.errors("read"):
            async with self.engine.connect() as connection:
                yield connection

    @asynccontextmanager
    async def writing(self, begin: str = "BEGIN IMMEDIATE") -> AsyncIterator[AsyncConnection]:
        """Give a connection in a transaction that is committed at the end of the block, or undone.

        `begin` is how SQLite begins it.

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
    async def migrating(self) -> AsyncIterator[AsyncConnection]:
        """Give a connection like `writing`, on which SQLite lets tables be made anew while others refer to them."""
        if not self.is_sqlite:
            async with self.writing() as connection:
                yield connection
            return
        try:
            async with self.writing("PRAGMA foreign_keys=OFF; BEGIN IMMEDIATE") as connection:
                yield connection
                broken = (await connection.exec_driver_sql("PRAGMA foreign_key_check")).all()
                if broken:
                    raise StorageError(f"the migration would leave references to nothing: {broken[:3]}")
        finally:
            await self.engine.dispose()  # no later user of this connection may find the references unchecked

    async def aclose(self) -> None:
        """Close all connections."""
        await self.engine.dispose()

    @contextmanager
    def errors(self, doing: str) -> Iterator[None]:
        """Attribute the errors of the database and of its driver inside the block."""
        try:
            yield
        except IntegrityError as error:
            raise ConflictError(f"this exists already, or refers to what does not: {error.orig}") from error
        except DBAPIError as error:
            raise StorageError(f"cannot {doing} the database {self.shown!r}: {_mend(str(error.orig))}") from error
        except (SQLAlchemyError, OSError) as error:
            raise StorageError(f"cannot {doing} the database {self.shown!r}: {error}") from error


def _connector(url: str) -> Callable[[], Awaitable[Any]]:
    try:
        import asyncpg
    except ImportError as error:
        raise ConfigurationError("PostgreSQL needs one more package: pip install 'dspex[pg]'") from error

    async def connect() -> Any:  # noqa: ANN401  # a driver's connection
        try:
            return await asyncpg.connect(url)
        except (asyncpg.PostgresError, asyncpg.ClientConfigurationError, ValueError) as error:
            raise OSError(f"{type(error).__name__}: {error}") from error

    return connect


_MENDS = {
    "locked": "another process holds it; try again, or stop that process",
    "readonly": "the file or its folder is read-only; make it writable, or set DSPEX_STATE_DIR to another folder",
    "unable to open": "the folder does not exist or is not writable; set DSPEX_STATE_DIR to another folder",
    "full": "the disk is full",
    "not a database": "the file is damaged, or is no SQLite database; move it away",
    "malformed": "the file is damaged; restore a backup copy from the same folder",
}


def _mend(text: str) -> str:
    return next((f"{text}: {mend}" for mark, mend in _MENDS.items() if mark in text), text)


def _to_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _begin(connection: sa.Connection) -> None:
    # The driver would begin late, and not at all before a change of the schema; a writer that first reads and then
    # finds another writer before it could not wait for it.
    for statement in connection.get_execution_options().get("dspex_begin", "BEGIN").split("; "):
        connection.exec_driver_sql(statement)


def _set_pragmas(connection: Any, _record: object) -> None:  # noqa: ANN401  # a driver's connection
    connection.isolation_level = None  # `_begin` says when a transaction begins
    cursor = connection.cursor()
    try:
        for pragma in PRAGMAS:
            cursor.execute(f"PRAGMA {pragma}")
    finally:
        cursor.close()
