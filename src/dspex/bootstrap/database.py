"""The database of the settings: opening, preparing, migrating and examining it."""

from collections.abc import Callable
from pathlib import Path

from dspex.bootstrap.privacy import private_file, private_folder
from dspex.error_text import quantity, shorten
from dspex.errors import ConfigurationError
from dspex.execution.modules import CodeRoot
from dspex.operations import storage
from dspex.operations.domain import DOMAIN
from dspex.operations.framework.domain import Domain
from dspex.operations.storage import HEAD, Database, SQLStore, migrate, require_head, revision
from dspex.settings import Settings

DATABASE = "dspex.sqlite3"


def _silent(_text: str) -> None:
    pass


def database_of(settings: Settings, *, say: Callable[[str], None] = _silent) -> Database:
    """Return the database of the settings; the folder of an embedded one is created and announced.

    An embedded database and its folder are made readable by their owner only.

    Raises:
        StorageError: the folder cannot be created.
        ConfigurationError: the URL is invalid, or its driver is not installed.
    """
    if settings.database_url is not None:
        return Database(settings.database_url.reveal())
    return Database.embedded(private_file(private_folder(settings.state_dir, say) / DATABASE))


def domain_of(settings: Settings, code: CodeRoot | None) -> Domain:
    """Return the domain of the settings ("pkg.mod:NAME" in the code root), or the built-in one.

    Raises:
        ConfigurationError: this process has no code root, or the value is not an extended DOMAIN.
        DefinitionError: it cannot be imported.
    """
    if settings.domain is None:
        return DOMAIN
    if code is None:
        raise ConfigurationError(
            f"the domain {settings.domain!r} needs a code root to be imported from"
        )
    domain = code.load(settings.domain)
    if not isinstance(domain, Domain) or not DOMAIN.items() <= domain.items():
        raise ConfigurationError(
            f"the domain {settings.domain!r} must be the result of DOMAIN.extended(...), but it "
            f"is {shorten(domain)}"
        )
    return domain


async def prepare(
    database: Database, *, domain: Domain = DOMAIN, say: Callable[[str], None] = _silent
) -> None:
    """Migrate an embedded database to the current schema; check the schema of any other.

    The tables of custom resources are created or compared in both. A database that several
    servers may share changes only by `dspex db migrate`.

    Raises:
        SchemaError: the schema is not the current one; the message says what to do.
        StorageError: the database cannot be used.
    """
    if database.is_sqlite:
        await migrate(database, say=say)
    else:
        await require_head(database)
    if domain.extensions:
        await storage.ensure_tables(database, domain)


async def migrate_database(
    settings: Settings, *, to: str = HEAD, say: Callable[[str], None] = _silent
) -> tuple[str, str | None, str | None]:
    """Migrate the database of the settings to schema `to`; return its location, old and new schema.

    Raises:
        ConfigurationError: the schema is unknown.
        StorageError: the database cannot be used.
    """
    database = database_of(settings, say=say)
    try:
        before = await revision(database)
        await migrate(database, to=to, say=say)
        return database.display_url, before, await revision(database)
    finally:
        await database.aclose()


async def examine_database(settings: Settings) -> tuple[str, str]:
    """Return a line on the database of the settings, and what to do before it can be used, or "".

    The line shows the schema and the number of executions. Nothing is created, not even a missing
    embedded database.

    Raises:
        StorageError: it cannot be read.
    """
    file = Path(settings.state_dir) / DATABASE
    if settings.database_url is None and not file.exists():
        return f"{file} does not exist yet; it is created at the first use", ""
    database = database_of(settings)
    try:
        schema = await revision(database)
        if schema == HEAD:
            count = await SQLStore(database, DOMAIN).count(DOMAIN["execution"], {})
            size = quantity(count, "execution")
            return f"{database.display_url}: schema {schema} (current), {size}", ""
        line = f"{database.display_url}: schema {schema or 'none'}, this dspex reads {HEAD}"
        if schema is not None and schema > HEAD:
            return line, "update dspex: a later version wrote this database"
        return (
            (f"{line}; the next use migrates it", "")
            if database.is_sqlite
            else (line, "run `dspex db migrate`")
        )
    finally:
        await database.aclose()
