"""Bringing a database to the schema that this version of dspex reads."""

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

import sqlalchemy as sa

from dspex.errors import StorageError
from dspex.operations.storage.database import Database

HEAD = "0002"
_FOLDER = Path(__file__).parent / "migrations"


async def migrate(database: Database, *, say: Callable[[str], None] = lambda _text: None) -> None:
    """Bring the schema to `HEAD`; a database that is there already costs one query.

    An embedded database that has an older schema is copied beside itself first.

    Raises:
        StorageError: the database cannot be read or written, or was written by a later version of dspex.
    """
    found = await revision(database)
    if found == HEAD:
        return
    if found is not None and found > HEAD:
        raise StorageError(f"the database {database.shown!r} has schema {found}, this dspex reads {HEAD}: update dspex")
    if found is not None and database.is_sqlite:
        copy = f"{database.url.database}.before-{HEAD}"
        await asyncio.to_thread(shutil.copy2, str(database.url.database), copy)
        say(f"the database had schema {found}; a copy is in {copy}")
    async with database.writing() as connection:
        await connection.run_sync(_upgrade)


async def revision(database: Database) -> str | None:
    """Return the schema's revision, None for a database without one."""
    async with database.reading() as connection:
        has_table = await connection.run_sync(lambda sync: sa.inspect(sync).has_table("alembic_version"))
        if not has_table:
            return None
        found = (await connection.execute(sa.text("SELECT version_num FROM alembic_version"))).scalar()
    return None if found is None else str(found)


def _upgrade(connection: sa.Connection, target: str = "head") -> None:
    from alembic import command

    command.upgrade(alembic_config(connection), target)


def downgrade(connection: sa.Connection, target: str) -> None:
    """Take the schema back to revision `target` ("base" for none), inside the caller's transaction."""
    from alembic import command

    command.downgrade(alembic_config(connection), target)


def alembic_config(connection: sa.Connection):  # type: ignore[no-untyped-def]  # noqa: ANN201  # imported on demand
    """Return Alembic's configuration over one open connection."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_FOLDER))
    config.attributes["connection"] = connection
    return config
