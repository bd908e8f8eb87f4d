"""The services that every surface uses, and their life."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID

import uuid_utils.compat

from dspex.bootstrap.keys import stored_keys, vault_of
from dspex.clock import Clock, SystemClock
from dspex.errors import StorageError
from dspex.execution.backends import Backend, MockBackend, NativeBackend
from dspex.execution.context import RunContext, adapter_named
from dspex.execution.modules import CodeRoot
from dspex.operations.resources import DOMAIN, Floor, Operations
from dspex.operations.resources.executing import Executor
from dspex.operations.resources.keyring import KeyRing
from dspex.operations.storage import HEAD, Database, SQLStore, migrate, revision
from dspex.session import ModelResolver
from dspex.settings import Settings
from dspex.telemetry import Observer, Silent

DATABASE = "dspex.sqlite3"


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Everything that a surface needs, ready to use. `examine` gives the reasons not to send requests here."""

    settings: Settings
    operations: Operations
    context: RunContext
    database: Path
    keys: KeyRing
    examine: Callable[[], Awaitable[list[str]]]


@asynccontextmanager
async def open_services(
    settings: Settings,
    *,
    code: CodeRoot | None = None,
    observer: Observer | None = None,
    say: Callable[[str], None] = lambda _text: None,
    clock: Clock | None = None,
) -> AsyncIterator[Services]:
    """Open the state folder (made and announced by `say` where it is new), bring its schema up to date, and close it.

    Args:
        settings: what was set from outside.
        code: where code programs come from; without it they are refused.
        observer: hears of every span and event.
        say: takes messages for people.
        clock: the time.

    Raises:
        StorageError: the folder or its database cannot be used.
        ConfigurationError: the model or adapter of the settings is wrong.
    """
    time = clock or SystemClock()
    resolver = ModelResolver(settings)
    file = _state_folder(settings.state_dir, say) / DATABASE
    database = Database.embedded(file)
    try:
        await migrate(database, say=say)
        store = SQLStore(database)
        vault = vault_of(settings)
        resolver.settings = replace(settings, keys={**await stored_keys(store, vault, say=say), **settings.keys})
        context = RunContext(
            model=resolver(settings.model) if settings.model else None,
            adapter=adapter_named(settings.adapter),
            observer=observer or Silent(),
            models=resolver,
            records_payloads=True,
            clock=time,
        )
        backends: dict[str, Backend] = {"native": NativeBackend(code=code), "mock": MockBackend()}
        executor = Executor(store, backends=backends, context=context, clock=time, new_id=new_id)
        floor = Floor(store=store, executor=executor, backends=backends, clock=time, new_id=new_id, vault=vault)
        keys = KeyRing(store, vault, clock=time)
        yield Services(
            settings=settings,
            operations=Operations(floor),
            context=context,
            database=file,
            keys=keys,
            examine=lambda: _examine(database),
        )
    finally:
        await resolver.aclose()
        await database.aclose()


def new_id() -> UUID:
    """Return a UUID of version 7: its order is that of creation."""
    return uuid_utils.compat.uuid7()


async def _examine(database: Database) -> list[str]:
    try:
        found = await revision(database)
    except StorageError as error:
        return [error.message]
    return [] if found == HEAD else [f"the database has schema {found}, this server reads {HEAD}"]


def _state_folder(folder: Path, say: Callable[[str], None]) -> Path:
    if not folder.is_dir():
        try:
            folder.mkdir(parents=True)
        except OSError as error:
            raise StorageError(
                f"cannot make the state folder {str(folder)!r}: {error}; set DSPEX_STATE_DIR to a writable one"
            ) from error
        say(f"made {folder}/ for programs and executions")
    return folder


async def examine_database(file: Path) -> str:
    """Return one line on an embedded database: its schema and how many executions it holds.

    Raises:
        StorageError: it cannot be read.
    """
    database = Database.embedded(file)
    try:
        found = await revision(database)
        count = await SQLStore(database).count(DOMAIN["execution"], {}) if found == HEAD else 0
        state = "current" if found == HEAD else f"will be brought from {found} to {HEAD} at the next use"
        return f"{file}: schema {found or 'none'} ({state}), {count} executions"
    finally:
        await database.aclose()
