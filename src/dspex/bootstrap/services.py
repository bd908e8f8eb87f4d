"""The services that every surface uses."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from uuid import UUID

import uuid_utils.compat

from dspex.bootstrap.backends import open_backends
from dspex.bootstrap.database import database_of, domain_of, prepare
from dspex.bootstrap.embedders import connect_collections
from dspex.bootstrap.ids import ids_after
from dspex.bootstrap.keys import vault_of
from dspex.bootstrap.models import KeyedModels, hosts_of
from dspex.bootstrap.retention import limits_of, retention_of, run_maintenance
from dspex.clock import Clock, SystemClock
from dspex.execution.adapters.registry import find_adapter
from dspex.execution.backends import Backends
from dspex.execution.clients import LanguageModel
from dspex.execution.context import RunContext
from dspex.execution.modules import CodeRoot
from dspex.execution.modules.adapter_code import load_adapters
from dspex.operations import storage
from dspex.operations.collections.collection_storage import CollectionStorage
from dspex.operations.collections.embedders import CollectionEmbedders
from dspex.operations.domain import QUEUES
from dspex.operations.evaluations.metrics import RegisteredMetrics
from dspex.operations.events.event_log import Feed
from dspex.operations.events.feed import AnnouncingStore, StoredFeed
from dspex.operations.events.poller import Waiters
from dspex.operations.executions.child_execution import connect_programs
from dspex.operations.executions.executor import Executor
from dspex.operations.executions.retention import Retention
from dspex.operations.framework.dependencies import Dependencies, Lazy, ServiceRegistry
from dspex.operations.framework.heavy_work import HeavyWork, InputLimits
from dspex.operations.framework.operations import Operations
from dspex.operations.framework.store import Figures, Removals
from dspex.operations.jobs import JobPolicy, QueuedJobs
from dspex.operations.jobs.job_engine import JobEngine
from dspex.operations.programs.named_settings import ModelNames
from dspex.operations.programs.program_cache import ProgramCache
from dspex.operations.programs.tools import RegisteredTools
from dspex.operations.storage import Database, SQLEventLog, SQLStore
from dspex.operations.storage.memory_cache import MIB, MemoryCache
from dspex.operations.tenancy.keyring import KeyRing
from dspex.operations.tenancy.reach import check_reach
from dspex.operations.tenancy.vault import Vault
from dspex.session import ModelResolver, check_embedder, check_model
from dspex.settings import Settings
from dspex.telemetry import Observer, Silent


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Everything that a surface needs, ready to use.

    `data` is the database and `database` its location, without the password. `examine` returns the
    reasons not to send requests here. `retention` deletes old executions.
    """

    settings: Settings
    operations: Operations
    context: RunContext
    backends: Backends
    database: str
    data: Database
    keys: KeyRing
    examine: Callable[[], Awaitable[list[str]]]
    retention: Retention


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
    """Open the services (see `prepare` for the database), and close them at the end.

    Programs of code need the code root `code`. `say` receives messages for people. `serves` says
    that this process is a server; `dspex worker list` then lists it before it has workers.

    Raises:
        StorageError: the database cannot be used, or has another schema.
        ConfigurationError: the model or adapter of the settings is wrong.
    """
    clock, resolver = clock or SystemClock(), ModelResolver(settings)
    async with AsyncExitStack() as stack:
        dependencies, database = await _dependencies(
            settings, code, stack=stack, clock=clock, say=say
        )
        store, vault = dependencies.store, dependencies.services[Vault]
        models = KeyedModels(store, vault, resolver=resolver, clock=clock, say=say)
        stack.push_async_callback(models.aclose)
        context = _context(
            settings, resolver, model=await models.start(), observer=observer, clock=clock
        )
        backends = await stack.enter_async_context(
            open_backends(settings, code=code, observer=observer, serves=serves)
        )
        executor = _executor(settings, code, dependencies, backends=backends, context=context)
        executor.context_provider = models.context_for
        services = dependencies.services
        embedders = connect_collections(executor, services, store=store, context=context)
        connect_programs(executor)
        executor.input_limits = InputLimits() if serves else None
        stack.callback(executor.heavy.close)
        retention = retention_of(settings, store, lambda: services[Figures], clock=clock)
        periodic = retention if serves else None
        work = run_maintenance(store, executor, periodic, context=context, database=database)
        readiness = await stack.enter_async_context(work)
        dependencies = dependencies.with_services(
            {Backends: backends, CodeRoot: code, CollectionEmbedders: embedders}
        )
        yield Services(
            settings=settings,
            operations=Operations(with_executor(dependencies, executor)),
            context=context,
            backends=backends,
            database=database.display_url,
            data=database,
            keys=KeyRing(store, vault, clock=clock),
            examine=readiness.problems,
            retention=retention,
        )


async def _dependencies(
    settings: Settings,
    code: CodeRoot | None,
    *,
    stack: AsyncExitStack,
    clock: Clock,
    say: Callable[[str], None],
) -> tuple[Dependencies, Database]:
    """Open the database until the end of `stack`; return the services that need nothing else."""
    if code is not None:
        load_adapters(settings.adapters, code)
    database = database_of(settings, say=say)
    stack.push_async_callback(database.aclose)
    domain = domain_of(settings, code)
    await prepare(database, domain=domain, say=say)
    waiters = Waiters()
    store = AnnouncingStore(SQLStore(database, domain), waiters)
    new_id = await ids_after(store)
    services = {
        Feed: StoredFeed(SQLEventLog(database), waiters, new_id=new_id),
        Figures: Lazy(lambda: storage.SQLFigures(database, domain)),
        Removals: Lazy(lambda: storage.SQLRemovals(database, domain)),
        CollectionStorage: Lazy(
            lambda: storage.SQLCollections(
                database,
                domain,
                clock=clock,
                new_id=new_id,
                cache=MemoryCache(settings.search_memory_mib * MIB),
            )
        ),
        JobEngine: QueuedJobs(store, policy=job_policy(settings), clock=clock, new_id=new_id),
        RegisteredMetrics: RegisteredMetrics(settings.metrics),
        RegisteredTools: RegisteredTools(settings.tools),
        ModelNames: ModelNames(
            {"model": partial(check_model, names=settings.models), "embedder": check_embedder}
        ),
        Vault: vault_of(settings),
    }
    dependencies = Dependencies(
        store=store,
        clock=clock,
        new_id=new_id,
        checks=(partial(check_reach, hosts=hosts_of(settings)),),
        services=ServiceRegistry(services),
    )
    return dependencies, database


def _executor(
    settings: Settings,
    code: CodeRoot | None,
    dependencies: Dependencies,
    *,
    backends: Backends,
    context: RunContext,
) -> Executor:
    return Executor(
        dependencies.store,
        backends=backends,
        context=context,
        clock=dependencies.clock,
        new_id=dependencies.new_id,
        limits=limits_of(
            settings,
            code,
            dependencies.store,
            clock=dependencies.clock,
            figures=lambda: dependencies.services[Figures],
        ),
    )


def with_executor(dependencies: Dependencies, executor: Executor) -> Dependencies:
    """Return dependencies with an executor and the services that belong to it."""
    services = {
        Executor: executor,
        HeavyWork: executor.heavy,
        ProgramCache: executor.program_cache,
    }
    return replace(
        dependencies,
        quotas=executor.quotas,
        on_write=executor.on_write,
        services=dependencies.services.replace(services),
    )


def _context(
    settings: Settings,
    resolver: ModelResolver,
    *,
    model: LanguageModel | None,
    observer: Observer | None,
    clock: Clock,
) -> RunContext:
    return RunContext(
        model=model,
        embedder=settings.embedder,
        adapter=find_adapter(settings.adapter),
        observer=observer or Silent(),
        models=resolver,
        embedders=resolver.embedder,
        records_payloads=True,
        clock=clock,
        record=False,
    )


def job_policy(settings: Settings) -> JobPolicy:
    """Return the job policy of these settings."""
    limits = {"evaluation": settings.evaluation_limit, "optimization": settings.optimization_limit}
    return JobPolicy(
        queues=QUEUES,
        concurrency=settings.job_concurrency,
        limits={name: limit for name, limit in limits.items() if limit},
        stall=float(settings.job_stall_seconds),
        longest_run=float(settings.job_seconds),
    )


def new_id() -> UUID:
    """Return a UUID of version 7: its order is that of creation."""
    return uuid_utils.compat.uuid7()
