"""Jobs: the worker that runs them, and their supervision in a server."""

import asyncio
import socket
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from dspex.bootstrap.database import domain_of
from dspex.bootstrap.services import Services, job_policy, new_id, open_services
from dspex.execution.modules import CodeRoot
from dspex.operations import storage
from dspex.operations.collections.collection_storage import CollectionStorage
from dspex.operations.collections.embedders import CollectionEmbedders
from dspex.operations.evaluations.code_revision import revision_of
from dspex.operations.executions.executor import Executor
from dspex.operations.executions.resumption import Resumption
from dspex.operations.executions.resumption_process import ResumptionProcess
from dspex.operations.jobs import (
    Handler,
    JobChild,
    JobMonitor,
    JobRows,
    JobRunner,
    JobWorker,
    OrphanSweeper,
    QueuedJobs,
    WorkerConfig,
    WorkerProcess,
    WorkerRegistry,
)
from dspex.operations.jobs.job import JobResource
from dspex.operations.jobs.job_engine import JobEngine
from dspex.settings import Settings, environment_of

if TYPE_CHECKING:
    from dspex.learning.optimizers import Journal


def handlers_of(services: Services, *, code: CodeRoot | None = None) -> Mapping[str, Handler]:
    """Return the handlers of jobs by queue."""
    from dspex.operations.collections.jobs import IngestionHandler
    from dspex.operations.evaluations.job_environment import JobEnvironment
    from dspex.operations.evaluations.jobs import EvaluationHandler, EvaluationPartHandler
    from dspex.operations.optimizations.jobs import OptimizationHandler

    def open_journal(resource: JobResource[Any], job_id: UUID, turn: int) -> "Journal":
        return storage.SQLJournal(services.data, job_id, resource=resource, turn=turn)

    environment = JobEnvironment(
        store=services.operations.dependencies.store,
        backends=services.backends,
        context=services.context,
        context_provider=services.operations.services[Executor].context_provider,
        open_journal=open_journal,
        clock=services.operations.clock,
        new_id=new_id,
        code=code,
    )
    dependencies = services.operations.dependencies
    return {
        "ingestion": IngestionHandler(
            dependencies.store,
            dependencies.services[CollectionStorage],
            dependencies.services[CollectionEmbedders],
        ),
        "evaluation": EvaluationHandler(environment),
        "evaluation_part": EvaluationPartHandler(environment),
        "optimization": OptimizationHandler(environment),
    }


async def run_worker(
    settings: Settings,
    *,
    code: CodeRoot | None,
    stopping: asyncio.Event,
    say: Callable[[str], None],
    ends_idle: bool = False,
) -> None:
    """Run jobs, each in a separate process, until `stopping` is set; then return unfinished ones.

    Another process continues executions that have waited for people. With `ends_idle` it also
    returns when there is nothing to do.

    Raises:
        ConfigurationError: DBOS is missing, or a setting is wrong.
        StorageError: the database cannot be used, or has another schema.
    """
    async with open_services(settings, code=code, say=say) as services:
        dependencies = services.operations.dependencies
        resumption = ResumptionProcess(
            lambda: [*worker_command(settings), "--executions", "--attached"],
            store=dependencies.store,
            clock=dependencies.clock,
            environment=environment_of(settings),
        )
        config = WorkerConfig(
            url=services.data.url,
            store=dependencies.store,
            leftovers=storage.SQLLeftovers(services.data, domain_of(settings, code)),
            keep_days=settings.keep_job_days,
            command=lambda channel: [*worker_command(settings), "--channel", str(channel)],
            environment=environment_of(settings),
            clock=dependencies.clock,
            new_id=new_id,
            policy=job_policy(settings),
            code=lambda: _code_revision(code),
            more_work=resumption.tick,
        )
        try:
            await JobWorker(config, say=say, ends_idle=ends_idle).serve(stopping)
        finally:
            await resumption.aclose()


async def run_executions(
    settings: Settings,
    *,
    code: CodeRoot | None,
    stopping: asyncio.Event,
    say: Callable[[str], None],
) -> None:
    """Continue executions that have waited for people, until none is left or `stopping` is set.

    Raises:
        ConfigurationError: a setting is wrong.
        StorageError: the database cannot be used, or has another schema.
    """
    async with open_services(settings, code=code, say=say) as services:
        dependencies = services.operations.dependencies
        resumption = Resumption(
            dependencies.store,
            dependencies.services[Executor],
            clock=dependencies.clock,
            leaves_foreign=True,
        )
        await resumption.run_until_idle(stopping)


async def run_job_process(
    settings: Settings, *, code: CodeRoot | None, channel: socket.socket, say: Callable[[str], None]
) -> None:
    """Run the jobs that the worker at the other end of `channel` sends, until it closes.

    They run one at a time.

    Raises:
        ConfigurationError: a setting is wrong.
        StorageError: the database cannot be used, or has another schema.
    """
    async with open_services(settings, code=code, say=say) as services:
        dependencies, policy = services.operations.dependencies, job_policy(settings)
        handlers = handlers_of(services, code=code)

        def make_runner(worker: str) -> JobRunner:
            rows = JobRows(
                dependencies.store,
                policy=policy,
                clock=dependencies.clock,
                new_id=new_id,
                worker=worker,
                code=lambda: _code_revision(code),
            )
            return JobRunner(rows, handlers=handlers, policy=policy)

        await JobChild(make_runner, beat=policy.beat).serve(channel)


def _code_revision(code: CodeRoot | None) -> tuple[str, str]:
    return ("", "") if code is None else (code.name, revision_of(code))


@asynccontextmanager
async def watch_jobs(services: Services, *, is_embedded: bool) -> AsyncIterator[None]:
    """Supervise the jobs of a server inside the block; `is_embedded` adds a worker process."""
    dependencies, policy = services.operations.dependencies, job_policy(services.settings)
    sweeper = OrphanSweeper(
        dependencies.store,
        policy=policy,
        clock=dependencies.clock,
        new_id=dependencies.new_id,
        starts_worker=is_embedded,
    )
    registry = WorkerRegistry(dependencies.store, policy=policy, clock=dependencies.clock)
    engine, wakeup = dependencies.services.get(JobEngine), asyncio.Event()
    if isinstance(engine, QueuedJobs):
        engine.starts_worker, wakeup = is_embedded, engine.wakeup
    worker = None
    if is_embedded:
        command, variables = (
            [*worker_command(services.settings), "--attached"],
            environment_of(services.settings),
        )
        worker = WorkerProcess(
            command, store=dependencies.store, clock=dependencies.clock, environment=variables
        )
    async with JobMonitor(
        sweeper, registry, wakeup=wakeup, clock=dependencies.clock, worker=worker
    ):
        yield


def worker_command(settings: Settings) -> list[str]:
    """Return the command that starts a worker with these settings.

    Every user of the machine can read command lines, so settings that may contain secrets are in
    the environment (`environment_of`).
    """
    command = [
        sys.executable,
        "-m",
        "dspex",
        "worker",
        "start",
        "--state-dir",
        str(Path(settings.state_dir)),
    ]
    for name in ("adapter", "isolation"):
        value = getattr(settings, name)
        command += [] if value is None else [f"--{name}", str(value)]
    return command
