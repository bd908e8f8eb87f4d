"""The actions on jobs: create and enqueue, cancel, pause, resume."""

import dataclasses
import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from dspex.error_text import suggest
from dspex.errors import (
    ConfigurationError,
    DefinitionError,
    FieldError,
    InvalidError,
    NotFoundError,
)
from dspex.language.programs import Program
from dspex.operations.resources.actions import Action
from dspex.operations.resources.datasets import dataset_of
from dspex.operations.resources.evaluation import EVALUATION, EvaluationRecord
from dspex.operations.resources.job_inputs import (
    CreateEvaluation,
    CreateOptimization,
    JobRef,
    KnownMetrics,
    MetricNames,
)
from dspex.operations.resources.jobs import (
    METRICS,
    OPTIMIZERS,
    check_metric,
    needs_of,
    status_event,
)
from dspex.operations.resources.operations import Operations
from dspex.operations.resources.optimization_job import OPTIMIZATION_JOB, OptimizationJobRecord
from dspex.operations.resources.optimizer_options import Part, caller_problem
from dspex.operations.resources.ports import Insert, JobEngine, Update
from dspex.operations.resources.program import PROGRAM, ProgramRecord, ProgramVersionRecord
from dspex.operations.resources.resource import Resource

_EVALUATION_SETTINGS: Mapping[str, type | tuple[type, ...]] = {"concurrency": int, "limit": int}
_OPTIMIZATION_SETTINGS: Mapping[str, type | tuple[type, ...]] = {
    "concurrency": int,
    "rows": int,
    "seed": int,
    "holdout": (int, float),
    "insist": bool,
    "maximize": str,
    "subject_to": list,
    "alpha": (int, float),
    "on_error": (int, float),
    "options": dict,
    "compile": dict,
}
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
J = TypeVar("J", EvaluationRecord, OptimizationJobRecord)
_BUDGET: Mapping[str, type | tuple[type, ...]] = {
    "usd": (int, float),
    "tokens": int,
    "calls": int,
    "seconds": (int, float),
}


async def create_evaluation(operations: Operations, request: CreateEvaluation) -> EvaluationRecord:
    """Create and enqueue an evaluation; see `CreateEvaluation`."""
    engine = _engine(operations)
    _check_settings("configuration", request.configuration, _EVALUATION_SETTINGS)
    program, version, value = await _program(operations, request)
    data = await dataset_of(operations, request.dataset_id, request.dataset)
    code = operations.floor.code
    metrics = _metrics(request.metrics, operations)
    job = EvaluationRecord(
        **_common(operations),
        program_id=program.id,
        program_version_id=version.id,
        dataset_id=data.id,
        metrics=metrics,
        configuration=dict(request.configuration),
        needs=needs_of(value, metrics, code),
        progress={},
    )
    return await _enqueue(operations, EVALUATION, job, engine=engine)


async def create_optimization(
    operations: Operations, request: CreateOptimization
) -> OptimizationJobRecord:
    """Create and enqueue an optimization; see `CreateOptimization`."""
    engine = _engine(operations)
    if request.optimizer not in OPTIMIZERS:
        hint = suggest(request.optimizer, OPTIMIZERS)
        raise _invalid(
            "optimizer",
            request.optimizer,
            f"there is no such optimizer.{hint}",
            f"{', '.join(OPTIMIZERS)}",
        )
    _check_settings("configuration", request.configuration, _OPTIMIZATION_SETTINGS)
    _check_options(request)
    _check_settings("budget", request.budget, _BUDGET)
    program, version, value = await _program(operations, request)
    data = await dataset_of(operations, request.dataset_id, request.dataset)
    code = operations.floor.code
    metrics = _metrics(request.metrics, operations)
    _check_goal(request.configuration, metrics)
    job = OptimizationJobRecord(
        **_common(operations),
        program_id=program.id,
        program_version_id=version.id,
        dataset_id=data.id,
        optimizer=request.optimizer,
        metrics=metrics,
        configuration=dict(request.configuration),
        budget=dict(request.budget),
        needs=needs_of(value, metrics, code),
        progress={},
    )
    return await _enqueue(operations, OPTIMIZATION_JOB, job, engine=engine)


def _move_action(
    resource: Resource[Any], step: str
) -> Callable[[Operations, JobRef], Awaitable[Any]]:
    async def move(operations: Operations, request: JobRef) -> Any:
        engine, floor = _engine(operations), operations.floor
        job = await operations.store.get(resource, workspace=operations.workspace, id=request.id)
        if job is None:
            raise NotFoundError(f"there is no {resource.name} {str(request.id)!r}")
        now = floor.clock.now()
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
            change, status_event(new_job, resource, id=floor.new_id(), now=now)
        )
        await (engine.enqueue if step == "resume" else engine.stop)(resource, job.id)
        return await operations.store.get(resource, id=job.id)

    return move


async def _enqueue(
    operations: Operations, resource: Resource[J], job: J, *, engine: JobEngine
) -> J:
    floor = operations.floor
    await operations.store.write(
        Insert(job), status_event(job, resource, id=floor.new_id(), now=job.created_at)
    )
    await engine.enqueue(resource, job.id)
    return await operations.store.get(resource, id=job.id) or job


def _engine(operations: Operations) -> JobEngine:
    if operations.floor.jobs is None:
        raise ConfigurationError(
            "this process does not run jobs; use the server or the command line"
        )
    return operations.floor.jobs


def _common(operations: Operations) -> dict[str, Any]:
    now = operations.floor.clock.now()
    return {
        "id": operations.floor.new_id(),
        "workspace": operations.workspace,
        "created_at": now,
        "updated_at": now,
        "actor": operations.actor.name,
    }


async def _program(
    operations: Operations, request: CreateEvaluation | CreateOptimization
) -> tuple[ProgramRecord, ProgramVersionRecord, Program]:
    program = await operations.program(request.program_id, request.program)
    PROGRAM.step("execute", program.status)
    return (
        program,
        await operations.current_version(program),
        await operations.program_value(program),
    )


async def known_metrics(operations: Operations, request: KnownMetrics) -> MetricNames:
    """See `KnownMetrics`."""
    names = [*METRICS, *sorted(operations.floor.metrics)]
    return MetricNames(names=[name for name in names if name.startswith(request.starts_with)])


def _metrics(names: list[Any] | None, operations: Operations) -> list[Any]:
    """Return metrics as they are stored: metrics of the settings with their target in the code root."""
    registered, code = operations.floor.metrics, operations.floor.code
    if names is not None and not isinstance(names, list):
        raise _invalid("metrics", names, f"{names!r} is not a list of names", "a list")
    metrics = names or ["exact_match"]
    result = []
    for number, metric in enumerate(metrics):
        target = registered.get(metric) if isinstance(metric, str) else None
        problem = check_metric(target or metric, code)
        if target is None and isinstance(metric, str) and metric not in METRICS:
            available = [*METRICS, *sorted(registered)]
            if ":" in metric and not operations.actor.names_code:
                problem = (
                    f"{metric!r} names code, which API callers may not do. Metrics are: "
                    f"{', '.join(available)}"
                )
            elif ":" not in metric:
                problem = (
                    f"there is no metric {metric!r}.{suggest(metric, available)} Metrics are: "
                    f"{', '.join(available)}"
                )
        if problem is not None:
            raise _invalid("metrics", metric, problem, "a metric", path=f"metrics[{number}]")
        result.append(metric if target is None else f"{metric}={target}")
    return result


def _check_goal(settings: Mapping[str, Any], metrics: list[Any]) -> None:
    """Check the objective, the limits and the significance level before anything runs."""
    from dspex.learning.optimizers.search import Search

    limits = settings.get("subject_to") or []
    names = [name.partition("=")[0].rpartition(":")[2] for name in metrics]
    checks: Mapping[str, Mapping[str, Any]] = {
        "metrics": {},
        "maximize": {"maximize": settings.get("maximize")},
        "subject_to": {"subject_to": [str(limit) for limit in limits]},
        "alpha": {"alpha": settings.get("alpha", 0.05)},
    }
    for name, arguments in checks.items():
        try:
            Search(**arguments).goal(names)
        except DefinitionError as error:
            path = name if name == "metrics" else f"configuration.{name}"
            raise _invalid(
                path.partition(".")[0], settings.get(name), error.message, name, path=path
            ) from error


def _check_settings(
    field: str, settings: Mapping[str, Any], types: Mapping[str, type | tuple[type, ...]]
) -> None:
    for name, value in settings.items():
        if name not in types:
            message = f"there is no setting {name!r}.{suggest(name, types)}"
            raise _invalid(field, value, message, ", ".join(types), path=f"{field}.{name}")
        is_flag = isinstance(value, bool) and types[name] is not bool
        least, most = _RANGES.get(name, (0, math.inf))
        is_out = isinstance(value, int | float) and not least <= value <= most
        if is_flag or not isinstance(value, types[name]) or is_out:
            up_to = "" if most == math.inf else f" to {most}"
            expected = _EXPECTED.get(types[name], f"a number from {least}{up_to}")
            raise _invalid(
                field, value, f"{value!r} is not {expected}", expected, path=f"{field}.{name}"
            )


def _check_options(request: CreateOptimization) -> None:
    """Check that callers may give these options; the worker checks them again for its backend."""
    parts: tuple[Part, ...] = ("options", "compile")
    for part in parts:
        problem = caller_problem(request.optimizer, request.configuration.get(part, {}), part=part)
        if problem is not None:
            path = f"configuration.{part}.{problem.name}"
            raise _invalid(
                "configuration", problem.value, problem.message, problem.expected, path=path
            )


def _invalid(  # noqa: PLR0917
    field: str, value: object, message: str, expected: str, *, path: str | None = None
) -> InvalidError:
    error = FieldError(
        field=field,
        path=path or field,
        value=value,
        message=message,
        constraint="job",
        expected=expected,
    )
    return InvalidError(f"{path or field}: {message}", errors=[error])


def _move_actions(resource: Resource[Any], noun: str) -> tuple[Action, ...]:
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


JOB_ACTIONS: tuple[Action, ...] = (
    Action(
        name="known_metrics",
        resource=EVALUATION,
        input=KnownMetrics,
        scope="read",
        run=known_metrics,
        description="The metrics that jobs can use by name.",
        result=MetricNames,
    ),
    Action(
        name="create_evaluation",
        resource=EVALUATION,
        input=CreateEvaluation,
        scope="execute",
        run=create_evaluation,
        description="Score a program on a data set, as a job.",
    ),
    *_move_actions(EVALUATION, "evaluation"),
    Action(
        name="create_optimization",
        resource=OPTIMIZATION_JOB,
        input=CreateOptimization,
        scope="write",
        run=create_optimization,
        description="Search for a better version of a program, as a job.",
    ),
    *_move_actions(OPTIMIZATION_JOB, "optimization"),
)
