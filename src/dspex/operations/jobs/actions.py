"""The actions on jobs: create and enqueue, cancel, pause, resume."""

import dataclasses
import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from dspex.error_text import suggest
from dspex.errors import (
    ConfigurationError,
    FieldError,
    InvalidError,
    NotFoundError,
)
from dspex.operations.framework.action import Action
from dspex.operations.framework.operations import Operations
from dspex.operations.framework.store import Insert, Update
from dspex.operations.jobs.inputs import JobRef
from dspex.operations.jobs.job import JobRecord, JobResource, status_event
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
    "holdout": (0, 0.99),
}
J = TypeVar("J", bound=JobRecord)


def _move_action(
    resource: JobResource[Any], step: str
) -> Callable[[Operations, JobRef], Awaitable[Any]]:
    async def move(operations: Operations, request: JobRef) -> Any:
        engine = engine_of(operations)
        job = await operations.store.get(resource, workspace=operations.workspace, id=request.id)
        if job is None:
            raise NotFoundError(f"there is no {resource.name} {str(request.id)!r}")
        now = operations.clock.now()
        values: dict[str, Any] = {
            "status": resource.step(step, job.status),
            "updated_at": now,
            "waiting": None,
        }
        increments = {}
        if step == "cancel":
            values["finished_at"] = now
        if step == "resume":
            values |= {"attempts": 0, "retry_at": None, "error": None, "finished_at": None}
            increments = {"turn": 1}
        change = Update(
            resource=resource,
            id=job.id,
            values=values,
            increments=increments,
            statuses=resource.transitions[step].sources,
            expected={"turn": job.turn},
        )
        new_job = dataclasses.replace(job, **values, turn=job.turn + increments.get("turn", 0))
        await operations.store.write(
            change, status_event(new_job, resource, id=operations.new_id(), now=now)
        )
        await (engine.enqueue if step == "resume" else engine.stop)(resource, job.id)
        return await operations.store.get(resource, id=job.id)

    return move


async def enqueue(
    operations: Operations, resource: JobResource[J], job: J, *, engine: JobEngine
) -> J:
    """Write a new job and hand it to the engine; return its row as it is then."""
    await operations.store.write(
        Insert(job), status_event(job, resource, id=operations.new_id(), now=job.created_at)
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


def new_job(operations: Operations) -> dict[str, Any]:
    """Return the columns that all new jobs have."""
    return {**operations.new_row(), "actor": operations.actor.name}


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
            raise invalid_setting(field, value, message, ", ".join(types), path=f"{field}.{name}")
        is_flag = isinstance(value, bool) and types[name] is not bool
        least, most = _RANGES.get(name, (0, math.inf))
        is_out = isinstance(value, int | float) and not least <= value <= most
        if is_flag or not isinstance(value, types[name]) or is_out:
            up_to = "" if most == math.inf else f" to {most}"
            expected = _EXPECTED.get(types[name], f"a number from {least}{up_to}")
            raise invalid_setting(
                field, value, f"{value!r} is not {expected}", expected, path=f"{field}.{name}"
            )


def invalid_setting(  # noqa: PLR0917
    field: str, value: object, message: str, expected: str, *, path: str | None = None
) -> InvalidError:
    """Return the error of one invalid setting of a job."""
    error = FieldError(
        field=field,
        path=path or field,
        value=value,
        message=message,
        constraint="job",
        expected=expected,
    )
    return InvalidError(f"{path or field}: {message}", errors=[error])


def move_actions(resource: JobResource[Any], noun: str) -> tuple[Action, ...]:
    """Return the actions that cancel, pause and resume one kind of job."""
    what = {
        "cancel": "Cancel the job; its worker stops within a second.",
        "pause": "Pause the job; its worker stops within a second, and no model reply is lost.",
        "resume": "Queue a paused or failed job again; it continues where it stopped.",
    }
    return tuple(
        Action(
            name=f"{step}_{noun}",
            resource=resource,
            input=JobRef,
            scope="execute",
            run=_move_action(resource, step),
            description=text,
        )
        for step, text in what.items()
    )
