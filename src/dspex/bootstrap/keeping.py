"""What of executions is kept, and for how long: from the settings."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from dspex.bootstrap.readiness import Readiness
from dspex.clock import Clock
from dspex.errors import ConfigurationError, ConflictError, StorageError
from dspex.execution.context import RunContext
from dspex.execution.modules import CodeRoot
from dspex.operations.resources.executing import Executor, StorageLimits
from dspex.operations.resources.housekeeping import Housekeeper
from dspex.operations.resources.keeping import Keeping, Place, Redact, by_patterns
from dspex.operations.resources.ports import Figures, Store
from dspex.operations.resources.quotas import Quota, Quotas
from dspex.operations.resources.retention import Retention
from dspex.operations.storage import Database
from dspex.settings import Settings

GRACE = 5.0
PRUNE = 3600.0
COUNT = 1.0


def keeping_of(settings: Settings, code: CodeRoot | None) -> Keeping:
    """Return what decides over stored inputs, outputs and traces.

    Raises:
        ConfigurationError: the redaction hook is not in the code root, or is no function.
    """
    hooks: list[Redact] = []
    if settings.redact_patterns:
        hooks.append(by_patterns(settings.redact_patterns))
    if (found := redaction_of(settings, code)) is not None:
        hooks.append(found)
    return Keeping(stores_inputs=settings.store_inputs, redact=_in_turn(hooks) if hooks else None)


def redaction_of(settings: Settings, code: CodeRoot | None) -> Redact | None:
    """Return the function that `redact` names in the code root, None where it names none.

    Raises:
        ConfigurationError: there is no code root, or it is no function.
        DefinitionError: it cannot be imported.
    """
    if settings.redact is None:
        return None
    if code is None:
        raise ConfigurationError("redact names a function, and this process has no code root to import it from")
    found: Redact = code.load(settings.redact)
    if not callable(found):
        raise ConfigurationError(f"{settings.redact!r} is no function of (place, value)")
    return found


def _in_turn(hooks: list[Redact]) -> Redact:
    def redact(place: Place, value: Any) -> Any:  # noqa: ANN401  # any JSON value
        for hook in hooks:
            value = hook(place, value)
        return value

    return redact


def retention_of(settings: Settings, store: Store, figures: Figures, *, clock: Clock) -> Retention:
    """Return what deletes old executions."""
    return Retention(store, figures, clock=clock, days=settings.keep_days, count=settings.keep_count)


def limits_of(settings: Settings, code: CodeRoot | None, store: Store, *, clock: Clock) -> StorageLimits:
    """Return what decides over what is stored of executions, and over how much of it.

    Raises:
        ConfigurationError: the redaction hook is not in the code root, or is no function.
    """
    quota = Quota(executions=settings.quota_executions, mib=settings.quota_mib)
    return StorageLimits(keeping=keeping_of(settings, code), quotas=Quotas(store, clock=clock, default=quota))


async def _give_up(executor: Executor) -> None:
    """Record what was abandoned as interrupted; where the database is away, another process does it later."""
    for execution_id in executor.runs.abandoned:
        with suppress(StorageError, ConflictError):
            await executor.give_up(execution_id)


@asynccontextmanager
async def at_work(
    store: Store, executor: Executor, retention: Retention | None, *, context: RunContext, database: Database
) -> AsyncIterator[Readiness]:
    """Keep house beside an executor for the length of the block; at its end, let what runs end or be interrupted."""
    keeper = Housekeeper(store, executor, clock=context.clock, observer=context.observer)
    if retention is not None:
        keeper.add(PRUNE, retention.tick)
    if executor.quotas is not None:
        keeper.add(COUNT, executor.quotas.flush)
    readiness = Readiness(database, executor, prove=keeper.prove, clock=context.clock)
    async with keeper:
        try:
            yield readiness
        finally:
            await readiness.aclose()
            await executor.runs.drain(GRACE)
            await _give_up(executor)
    if executor.quotas is not None:
        with suppress(StorageError):  # it is away: what was counted in the last second is lost
            await executor.quotas.flush()
