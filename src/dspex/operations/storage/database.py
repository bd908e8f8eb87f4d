"""One database: its engine, its settings, and its errors as ours."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from dspex.errors import ConflictError, StorageError

PRAGMAS = ("journal_mode=WAL", "synchronous=NORMAL", "busy_timeout=5000", "foreign_keys=ON")


class Database:
    """An engine for one URL. With SQLite, WAL lets readers and one writer of several processes work at once.

    `synchronous=NORMAL` keeps every commit through a crash of the process; a loss of power may undo the last commits.
    """

    def __init__(self, url: str) -> None:
        """Take an SQLAlchemy URL with an async driver; nothing is opened yet."""
        self.url = sa.make_url(url)
        self.engine: AsyncEngine = create_async_engine(self.url, json_serializer=_to_json, json_deserializer=json.loads)
        if self.is_sqlite:
            sa.event.listen(self.engine.sync_engine, "connect", _set_pragmas)

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
        with self._errors("read"):
            async with self.engine.connect() as connection:
                yield connection

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """Give a connection in a transaction that is committed at the end of the block, or undone.

        Raises:
            ConflictError: a unique group exists already.
            StorageError: the database cannot be written.
        """
        with self._errors("write"):
            async with self.engine.begin() as connection:
                yield connection

    async def aclose(self) -> None:
        """Close all connections."""
        await self.engine.dispose()

    @contextmanager
    def _errors(self, doing: str) -> Iterator[None]:
        try:
            yield
        except IntegrityError as error:
            raise ConflictError(f"this exists already, or refers to what does not: {error.orig}") from error
        except DBAPIError as error:
            raise StorageError(f"cannot {doing} the database {self.shown!r}: {_mend(str(error.orig))}") from error
        except (SQLAlchemyError, OSError) as error:
            raise StorageError(f"cannot {doing} the database {self.shown!r}: {error}") from error


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


def _set_pragmas(connection: Any, _record: object) -> None:  # noqa: ANN401  # a driver's connection
    cursor = connection.cursor()
    try:
        for pragma in PRAGMAS:
            cursor.execute(f"PRAGMA {pragma}")
    finally:
        cursor.close()
