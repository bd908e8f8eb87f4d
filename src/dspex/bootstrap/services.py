"""The services that every surface uses, and their life."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import uuid_utils.compat

from dspex.bootstrap.backends import open_backends
from dspex.clock import Clock, SystemClock
from dspex.errors import StorageError
from dspex.execution.backends import Backends
from dspex.execution.context import RunContext, adapter_named
from dspex.execution.modules import CodeRoot
from dspex.operations.resources import DOMAIN, Floor, Operations
from dspex.operations.resources.executing import Executor
from dspex.operations.resources.feed import AnnouncingStore, StoredFeed, Wakes
from dspex.operations.resources.housekeeping import Housekeeper
from dspex.operations.storage import HEAD, Database, SQLStore, migrate, revision
from dspex.session import ModelResolver
from dspex.settings import Settings
from dspex.telemetry import Observer, Silent

DATABASE = "dspex.sqlite3"
GRACE = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Everything that a surface needs, ready to use."""

    settings: Settings
    operations: Operations
    context: RunContext
    backends: Backends
    database: Path


@asynccontextmanager
async def open_services(
    settings: Settings,
    *,
    code: CodeRoot | None = None,
    observer: Observer | None = None,
    say: Callable[[str], None] = lambda _text: None,
    clock: Clock | None = None,
    serves: bool = False,
) -> AsyncIterator[Services]:
    """Open the state folder (made and announced by `say` where it is new), bring its schema up to date, and close it.

    Args:
        settings: what was set from outside.
        code: where code programs come from; without it they are refused.
        observer: hears of every span and event.
        say: takes messages for people.
        clock: the time.
        serves: whether this process lives on to serve others; `dspex workers` then shows it before it has workers.

    Raises:
        StorageError: the folder or its database cannot be used.
        ConfigurationError: the model or adapter of the settings is wrong.
    """
    time = clock or SystemClock()
    resolver = ModelResolver(settings)
    context = RunContext(
        model=resolver(settings.model) if settings.model else None,
        adapter=adapter_named(settings.adapter),
        observer=observer or Silent(),
        models=resolver,
        records_payloads=True,
        clock=time,
    )
    file = _state_folder(settings.state_dir, say) / DATABASE
    database = Database.embedded(file)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(database.aclose)
        stack.push_async_callback(resolver.aclose)
        await migrate(database, say=say)
        wakes = Wakes()
        store = AnnouncingStore(SQLStore(database), wakes)
        feed = StoredFeed(store, wakes, clock=time, new_id=new_id)
        opened = open_backends(settings, code=code, observer=observer, serves=serves)
        backends = await stack.enter_async_context(opened)
        executor = Executor(store, backends=backends, context=context, clock=time, new_id=new_id)
        await stack.enter_async_context(Housekeeper(store, executor, clock=time, observer=context.observer))
        stack.push_async_callback(executor.runs.drain, GRACE)
        floor = Floor(store=store, executor=executor, backends=backends, clock=time, new_id=new_id, feed=feed)
        yield Services(
            settings=settings, operations=Operations(floor), context=context, backends=backends, database=file
        )


def new_id() -> UUID:
    """Return a UUID of version 7: its order is that of creation."""
    return uuid_utils.compat.uuid7()


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
