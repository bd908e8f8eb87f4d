"""Which database the settings mean, and what has to be true of it before it is used."""

from collections.abc import Callable
from pathlib import Path

from dspex.bootstrap.privacy import private_file, private_folder
from dspex.errors import ConfigurationError, shorten
from dspex.execution.modules import CodeRoot
from dspex.operations.resources import DOMAIN, Domain
from dspex.operations.storage import HEAD, Database, SQLStore, ensure_tables, migrate, require_head, revision
from dspex.settings import Settings

DATABASE = "dspex.sqlite3"


def _silent(_text: str) -> None:
    pass


def database_of(settings: Settings, *, say: Callable[[str], None] = _silent) -> Database:
    """Return the database that the settings name; the folder of an embedded one is made, and announced by `say`.

    Only their owner can read an embedded database and its folder, also those that an earlier dspex made.

    Raises:
        StorageError: the folder cannot be made.
        ConfigurationError: the URL is none, or its driver is not installed.
    """
    if settings.database_url is not None:
        return Database(settings.database_url.reveal())
    return Database.embedded(private_file(private_folder(settings.state_dir, say) / DATABASE))


def domain_of(settings: Settings, code: CodeRoot | None) -> Domain:
    """Return the domain that the settings name ("pkg.mod:NAME" in the code root), or the built-in one.

    Raises:
        ConfigurationError: there is no code root, or what is named there is no domain with all built-in resources.
        DefinitionError: it cannot be imported.
    """
    if settings.domain is None:
        return DOMAIN
    if code is None:
        raise ConfigurationError(f"the domain {settings.domain!r} needs a code root to be imported from")
    found = code.load(settings.domain)
    if not isinstance(found, Domain) or not DOMAIN.items() <= found.items():
        raise ConfigurationError(
            f"the domain {settings.domain!r} has to be made by DOMAIN.extended(...), but it is {shorten(found)}"
        )
    return found


async def prepare(database: Database, *, domain: Domain = DOMAIN, say: Callable[[str], None] = _silent) -> None:
    """Bring an embedded database to the current schema; of another one, make sure that it has it.

    The tables of a domain's own resources are made, or compared, in either.

    A database that several servers use is changed by nobody but the person who runs `dspex migrate`.

    Raises:
        SchemaError: the schema is another one; the message says what to do.
        StorageError: the database cannot be used.
    """
    if database.is_sqlite:
        await migrate(database, say=say)
    else:
        await require_head(database)
    await ensure_tables(database, domain)


async def migrate_database(
    settings: Settings, *, to: str = HEAD, say: Callable[[str], None] = _silent
) -> tuple[str, str | None, str | None]:
    """Bring the database of the settings to schema `to`; return where it is, its schema before, and its schema now.

    Raises:
        ConfigurationError: there is no such schema.
        StorageError: the database cannot be used.
    """
    database = database_of(settings, say=say)
    try:
        before = await revision(database)
        await migrate(database, to=to, say=say)
        return database.shown, before, await revision(database)
    finally:
        await database.aclose()


async def examine_database(settings: Settings) -> tuple[str, str]:
    """Return one line on the database of the settings, and what has to be done before it can be used ("": nothing).

    The line tells its schema and how many executions it holds. Nothing is made: an embedded database that is not there
    yet is said to be so.

    Raises:
        StorageError: it cannot be read.
    """
    file = Path(settings.state_dir) / DATABASE
    if settings.database_url is None and not file.exists():
        return f"{file} does not exist yet; it is made when it is first needed", ""
    database = database_of(settings)
    try:
        found = await revision(database)
        if found == HEAD:
            count = await SQLStore(database).count(DOMAIN["execution"], {})
            return f"{database.shown}: schema {found} (current), {count} executions", ""
        line = f"{database.shown}: schema {found or 'none'}, this dspex reads {HEAD}"
        if found is not None and found > HEAD:
            return line, "update dspex: a later one wrote this database"
        return (f"{line}; the next use brings it there", "") if database.is_sqlite else (line, "run `dspex migrate`")
    finally:
        await database.aclose()
