"""What the actions on all kinds of jobs do: create and enqueue, cancel, pause, resume, requeue."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar
from uuid import UUID

from dspex.error_text import suggest
from dspex.errors import ConfigurationError
from dspex.operations.framework.field_errors import invalid
from dspex.operations.framework.operations import Operations
from dspex.operations.framework.store import Change, Insert
from dspex.operations.jobs.job import JobRecord, JobResource, job_changes, status_event
from dspex.operations.jobs.job_engine import JobEngine

_EXPECTED: Mapping[type | tuple[type, ...], str] = {
    str: "text",
    list: "a list of texts",
    bool: "true or false",
}
_RANGES: Mapping[str, tuple[float, float]] = {
    "concurrency": (1, 1000),
    "rows": (1, math.inf),
    "limit": (1, math.inf),
    "parts": (1, 64),
    "holdout": (0, 0.99),
}
J = TypeVar("J", bound=JobRecord)


async def cancel_job(operations: Operations, resource: JobResource[J], key: UUID) -> J:
    """Cancel a job, whose worker stops within a second.

    Raises:
        NotFoundError: the job does not exist.
        ConflictError: it has ended.
    """
    values = {"finished_at": operations.clock.now()}
    return await _step(operations, resource, key, step="cancel", values=values)


async def pause_job(operations: Operations, resource: JobResource[J], key: UUID) -> J:
    """Pause a job; see `cancel_job`."""
    return await _step(operations, resource, key, step="pause", values={})


async def resume_job(operations: Operations, resource: JobResource[J], key: UUID) -> J:
    """Queue a paused or failed job again; see `cancel_job`."""
    values = {"attempts": 0, "retry_at": None, "error": None, "finished_at": None}
    return await _step(operations, resource, key, step="resume", values=values)


async def requeue_job(operations: Operations, resource: JobResource[J], key: UUID) -> J:
    """Take a running job from its worker and queue it again; see `cancel_job`."""
    return await _step(
        operations, resource, key, step="requeue", values={"attempts": 0, "retry_at": None}
    )


async def _step(
    operations: Operations,
    resource: JobResource[J],
    key: UUID,
    *,
    step: Literal["cancel", "pause", "resume", "requeue"],
    values: dict[str, Any],
) -> J:
    engine, job, now = (
        engine_of(operations),
        await operations.row(resource, key),
        operations.clock.now(),
    )
    values |= {"status": resource.step(step, job.status), "updated_at": now, "waiting": None}
    begins_turn = step in {"resume", "requeue"}
    changes = job_changes(
        resource,
        job,
        values,
        id=operations.new_id(),
        now=now,
        statuses=resource.transitions[step].sources,
        begins_turn=begins_turn,
    )
    await operations.store.write(*changes)
    await (engine.enqueue if begins_turn else engine.stop)(resource, key)
    return await operations.row(resource, key)


async def enqueue(
    operations: Operations,
    resource: JobResource[J],
    job: J,
    *,
    engine: JobEngine,
    changes: Sequence[Change] = (),
) -> J:
    """Write a new job with `changes` and hand it to the engine; return its row as it is then."""
    await operations.store.write(
        *changes,
        Insert(job),
        status_event(job, resource, id=operations.new_id(), now=job.created_at),
    )
    await engine.enqueue(resource, job.id)
    return await operations.store.get(resource, id=job.id) or job


def engine_of(operations: Operations) -> JobEngine:
    """Return the engine that runs jobs.

    Raises:
        ConfigurationError: this process does not run jobs.
    """
    engine = operations.services.get(JobEngine)
    if engine is None:
        raise ConfigurationError(
            "this process does not run jobs; use the server or the command line"
        )
    return engine


def check_settings(
    field: str, settings: Mapping[str, Any], types: Mapping[str, type | tuple[type, ...]]
) -> None:
    """Check the names, types and ranges of settings.

    Raises:
        InvalidError: a setting is unknown or invalid; the message has its path.
    """
    for name, value in settings.items():
        if name not in types:
            message = f"there is no setting {name!r}.{suggest(name, types)}"
            raise invalid(
                f"{field}.{name}", value, ", ".join(types), message=message, constraint="job"
            )
        is_flag = isinstance(value, bool) and types[name] is not bool
        least, most = _RANGES.get(name, (0, math.inf))
        is_out = isinstance(value, int | float) and not least <= value <= most
        if is_flag or not isinstance(value, types[name]) or is_out:
            up_to = "" if most == math.inf else f" to {most}"
            expected = _EXPECTED.get(types[name], f"a number from {least}{up_to}")
            raise invalid(f"{field}.{name}", value, expected, constraint="job")
