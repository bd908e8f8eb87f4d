"""Redaction, quotas, retention and maintenance of stored executions, from the settings."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext, suppress
from typing import Any

from dspex.bootstrap.readiness import Readiness
from dspex.clock import Clock
from dspex.errors import ConfigurationError, ConflictError, StorageError
from dspex.execution.context import RunContext
from dspex.execution.modules import CodeRoot
from dspex.operations.domain import QUEUES
from dspex.operations.evaluations.feedback_records import ANNOTATION, FEEDBACK
from dspex.operations.executions.executor import Executor, StorageLimits
from dspex.operations.executions.maintenance import Maintenance
from dspex.operations.executions.redaction import (
    PayloadName,
    PayloadPolicy,
    Redact,
    pattern_redactor,
)
from dspex.operations.executions.resumption import Resumption
from dspex.operations.executions.retention import Retention
from dspex.operations.framework.store import Figures, Store
from dspex.operations.storage import Database
from dspex.operations.tenancy.quotas import Quota, Quotas
from dspex.settings import Settings

GRACE = 5.0  # all three in seconds
PRUNE_INTERVAL = 3600.0
QUOTA_INTERVAL = 1.0


def redaction_policy(settings: Settings, code: CodeRoot | None) -> PayloadPolicy:
    """Return the policy for stored inputs, outputs and traces.

    Raises:
        ConfigurationError: the redaction hook is not in the code root, or is not a function.
    """
    hooks: list[Redact] = []
    if settings.redact_patterns:
        hooks.append(pattern_redactor(settings.redact_patterns))
    if (hook := redaction_of(settings, code)) is not None:
        hooks.append(hook)
    return PayloadPolicy(
        stores_inputs=settings.store_inputs, redact=_chain(hooks) if hooks else None
    )


def redaction_of(settings: Settings, code: CodeRoot | None) -> Redact | None:
    """Return the function that the setting `redact` names in the code root, or None.

    Raises:
        ConfigurationError: this process has no code root, or the value is not a function.
        DefinitionError: it cannot be imported.
    """
    if settings.redact is None:
        return None
    if code is None:
        raise ConfigurationError(
            "redact names a function, and this process has no code root to import it from"
        )
    function: Redact = code.load(settings.redact)
    if not callable(function):
        raise ConfigurationError(f"{settings.redact!r} is not a function of (place, value)")
    return function


def _chain(hooks: list[Redact]) -> Redact:
    def redact(place: PayloadName, value: Any) -> Any:
        for hook in hooks:
            value = hook(place, value)
        return value

    return redact


def retention_of(
    settings: Settings, store: Store, figures: Callable[[], Figures], *, clock: Clock
) -> Retention:
    """Return the retention that deletes old executions."""
    return Retention(
        store,
        figures,
        jobs=QUEUES.values(),
        parts=(FEEDBACK, ANNOTATION),
        clock=clock,
        days=settings.keep_days,
        count=settings.keep_count,
    )


def limits_of(
    settings: Settings,
    code: CodeRoot | None,
    store: Store,
    *,
    clock: Clock,
    figures: Callable[[], Figures],
) -> StorageLimits:
    """Return the redaction policy and the quotas of stored executions.

    Raises:
        ConfigurationError: the redaction hook is not in the code root, or is not a function.
    """
    quota = Quota(executions=settings.quota_executions, mib=settings.quota_mib)
    return StorageLimits(
        payload_policy=redaction_policy(settings, code),
        quotas=Quotas(store, clock=clock, default=quota),
        figures=figures,
    )


async def _interrupt_abandoned(executor: Executor) -> None:
    """Record abandoned executions as interrupted.

    If the database is away, another process does it later.
    """
    for execution_id in executor.runs.abandoned:
        with suppress(StorageError, ConflictError):
            await executor.give_up(execution_id)


@asynccontextmanager
async def run_maintenance(
    store: Store,
    executor: Executor,
    retention: Retention | None,
    *,
    context: RunContext,
    database: Database,
) -> AsyncIterator[Readiness]:
    """Run the maintenance of an executor inside the block; at its end, drain the executions.

    With `retention`, as in a server, it also continues executions that have waited for people.
    """
    maintenance = Maintenance(store, executor, clock=context.clock, observer=context.observer)
    if retention is not None:
        maintenance.add(PRUNE_INTERVAL, retention.tick)
    if executor.quotas is not None:
        maintenance.add(QUOTA_INTERVAL, executor.quotas.flush)
    readiness = Readiness(
        database, executor, prove=maintenance.write_heartbeat, clock=context.clock
    )
    resumption = Resumption(store, executor, clock=context.clock) if retention else nullcontext()
    async with maintenance, resumption:
        try:
            yield readiness
        finally:
            await readiness.aclose()
            await executor.runs.drain(GRACE)
            await _interrupt_abandoned(executor)
    if executor.quotas is not None:
        with suppress(StorageError):  # the database is away: the counts of the last second are lost
            await executor.quotas.flush()
