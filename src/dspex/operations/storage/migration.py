"""Bringing a database to the schema that this version of dspex reads."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING

from dspex.errors import ConfigurationError, SchemaError
from dspex.operations.storage.database import Database
from dspex.operations.storage.event_log import settle_positions
from dspex.operations.storage.statements import Statement

if TYPE_CHECKING:
    import sqlalchemy as sa

_FOLDER = Path(__file__).parent / "migrations"
REVISIONS = (
    "base",
    *sorted(file.stem.partition("_")[0] for file in _FOLDER.glob("versions/[0-9]*.py")),
)
HEAD = REVISIONS[-1]
# alembic's `op` and `context` are global to the process: one migration at a time
_ALEMBIC = threading.Lock()
_RETRY_S = 0.01
_REVISION = "SELECT version_num FROM alembic_version"
_TABLE = {
    True: "SELECT name FROM sqlite_master WHERE name = 'alembic_version'",
    False: "SELECT to_regclass('alembic_version')::text",
}


async def migrate(
    database: Database, *, to: str = HEAD, say: Callable[[str], None] = lambda _text: None
) -> None:
    """Bring the schema to revision `to`, forward or back.

    It costs one query if the schema is current. A migration succeeds completely or changes nothing,
    and of several processes only one migrates. A SQLite database with another schema is first
    copied to a new file in its folder, while nobody else can write.

    Raises:
        ConfigurationError: the revision is unknown.
        SchemaError: it was written by a later version of dspex.
        StorageError: the database cannot be read or written.
    """
    if to not in REVISIONS:
        raise ConfigurationError(f"unknown revision {to!r}; revisions are: {', '.join(REVISIONS)}")
    current = await revision(database)
    if current == to == HEAD:
        await settle_positions(database)
    if _is_at(current, to):
        return
    async with _exclusive(), database.migrating() as connection:
        current = await revision(database)  # another process may have moved it meanwhile
        _check_not_later(database, current)
        if _is_at(current, to):
            return
        if current is not None and database.is_sqlite:
            copy = await asyncio.to_thread(_copy_database, database, to)
            say(f"the database had schema {current}; a copy is in {copy}")
        await connection.run_sync(_move, current or "base", to)


@asynccontextmanager
async def _exclusive() -> AsyncIterator[None]:
    """Wait until no other migration runs in this process.

    It may run on this event loop or another; the loop is not blocked.
    """
    while not _ALEMBIC.acquire(blocking=False):  # noqa: ASYNC110  # an event belongs to one loop
        await asyncio.sleep(_RETRY_S)
    try:
        yield
    finally:
        _ALEMBIC.release()


def _is_at(current: str | None, to: str) -> bool:
    return (current or "base") == to


async def require_head(database: Database) -> None:
    """Raise unless the schema is the one that this dspex reads.

    Raises:
        SchemaError: it is another one; the message says how to fix that.
        StorageError: the database cannot be read.
    """
    current = await revision(database)
    _check_not_later(database, current)
    if current != HEAD:
        had = f"has schema {current}" if current else "has no tables of dspex yet"
        raise SchemaError(
            f"the database {database.display_url!r} {had}, this dspex reads {HEAD}: "
            "run `dspex db migrate`"
        )


async def revision(database: Database) -> str | None:
    """Return the schema's revision, None for a database without one."""
    for sql in (_TABLE[database.is_sqlite], _REVISION):
        rows = await database.driver.rows(Statement(sql, ()))
        if not rows or rows[0][0] is None:
            return None
    return str(rows[0][0])


def _check_not_later(database: Database, current: str | None) -> None:
    if current is not None and current > HEAD:
        raise SchemaError(
            f"the database {database.display_url!r} has schema {current}, this dspex reads {HEAD}: "
            "update dspex"
        )


def _copy_database(database: Database, to: str) -> Path:
    """Return the file of a complete copy; an unfinished copy has another name.

    Raises:
        StorageError: it cannot be written.
    """
    file = Path(str(database.file))
    names = chain([f"{file.name}.before-{to}"], (f"{file.name}.before-{to}.{n}" for n in count(2)))
    copy = next(path for path in map(file.with_name, names) if not path.exists())
    part = copy.with_name(f"{copy.name}.part")
    try:
        part.unlink(missing_ok=True)
        part.touch(mode=0o600, exist_ok=False)  # as private as the database itself
        with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(part)) as target:
            source.backup(target)  # a plain copy would miss the write-ahead log
        return part.rename(copy)
    except (sqlite3.Error, OSError) as error:
        raise database.storage_error("copy", str(error)) from error


def _move(connection: "sa.Connection", current: str, to: str) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_FOLDER))
    config.attributes["connection"] = connection
    if REVISIONS.index(current) < REVISIONS.index(to):
        command.upgrade(config, to)
    else:
        command.downgrade(config, to)
