"""Work that a command waits for: done in this process where no worker takes it."""

import os
import platform
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar
from uuid import UUID

from dspex.bootstrap.jobs import handlers_of
from dspex.bootstrap.services import Services, job_policy, new_id
from dspex.errors import ConflictError, NotFoundError
from dspex.execution.modules import CodeRoot
from dspex.execution.workers.orphans import is_running
from dspex.operations.executions.executor import Executor
from dspex.operations.executions.records import EXECUTION, ExecutionRecord
from dspex.operations.executions.resumption import Resumption
from dspex.operations.framework.store import Insert, Query, Update
from dspex.operations.jobs import JobRows, JobRunner, OrphanSweeper, WorkerRegistry
from dspex.operations.jobs.heartbeat import heartbeat
from dspex.operations.jobs.job import JobRecord, JobResource
from dspex.operations.jobs.records import JOB_WORKER
from dspex.operations.jobs.worker_registry import new_worker_row

J = TypeVar("J", bound=JobRecord)
_AT_ONCE = 100


async def run_here(
    services: Services, resource: JobResource[J], job_id: UUID, *, code: CodeRoot | None = None
) -> J:
    """Return a job when it does not run any more; see below who runs it.

    This process is a worker meanwhile: it runs the queued jobs of the same kind, the oldest first,
    and those whose worker has died. Other workers may take them from it.
    """
    operations = services.operations
    store, policy = operations.dependencies.store, job_policy(services.settings)
    sweeper = OrphanSweeper(store, policy=policy, clock=operations.clock, new_id=new_id)
    async with _worker(services, resource, code) as runner:
        while True:
            job = await store.get(resource, id=job_id)
            if job is None:
                raise NotFoundError(f"the {resource.name} {job_id} was deleted")
            if job.status not in {"queued", "running"}:
                return job
            await sweeper.tick()
            for queued in await _due(services, resource):
                await runner.run(resource.queue, queued.id, queued.turn)
            await operations.clock.sleep(policy.poll)


async def _due(services: Services, resource: JobResource[J]) -> list[J]:
    """Return the queued jobs that may begin, the oldest first."""
    query = Query(where={"status": "queued"}, limit=_AT_ONCE, oldest_first=True)
    jobs = await services.operations.dependencies.store.select(resource, query)
    now = services.operations.clock.now()
    return [job for job in jobs if job.retry_at is None or job.retry_at <= now]


@asynccontextmanager
async def _worker(
    services: Services, resource: JobResource[Any], code: CodeRoot | None
) -> AsyncIterator[JobRunner]:
    """Register this process as a worker inside the block."""
    operations, me = services.operations, new_id()
    store, clock, policy = (
        operations.dependencies.store,
        operations.clock,
        job_policy(services.settings),
    )
    rows = JobRows(store, policy=policy, clock=clock, new_id=new_id, worker=str(me))
    runner = JobRunner(rows, handlers=handlers_of(services, code=code), policy=policy)
    row = new_worker_row(
        me,
        clock=clock,
        host=platform.node(),
        pid=os.getpid(),
        queues=[resource.queue],
        code=lambda: ("", ""),
    )
    await store.write(Insert(row))
    registry = WorkerRegistry(store, policy=policy, clock=clock, me=me)
    stopped = Update(resource=JOB_WORKER, id=me, values={"status": "stopped"}, statuses=("alive",))
    try:
        async with heartbeat(registry, every=policy.beat, on_death=runner.abandon):
            yield runner
    finally:
        await runner.hand_back()
        with suppress(ConflictError):  # others have declared it dead
            await store.write(stopped)


async def continue_here(services: Services, execution: ExecutionRecord) -> ExecutionRecord:
    """Return a pending execution when it has ended or waits again, if this process continues it.

    Where a worker or a server runs, or the code of the program is elsewhere, it stays pending.
    """
    operations = services.operations
    store = operations.dependencies.store
    workers = await store.select(JOB_WORKER, Query(where={"status": "alive"}, limit=_AT_ONCE))
    if any(row.host != platform.node() or is_running(row.pid, 0) for row in workers):
        return execution
    resumption = Resumption(
        store, operations.services[Executor], clock=operations.clock, leaves_foreign=True
    )
    await resumption.resume_if_ours(execution)
    return await store.get(EXECUTION, id=execution.id) or execution
