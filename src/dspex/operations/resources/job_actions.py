"""What can be done to jobs: create and enqueue, cancel, pause, resume."""

import dataclasses
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from dspex.errors import ConfigurationError, FieldError, InvalidError, NotFoundError, suggest
from dspex.execution.modules.code import CodeRoot
from dspex.language.programs import Program
from dspex.operations.resources.actions import Action
from dspex.operations.resources.dataset import DATASET, DatasetRecord
from dspex.operations.resources.evaluation import EVALUATION, EvaluationRecord
from dspex.operations.resources.job_inputs import CreateEvaluation, CreateOptimization, JobRef
from dspex.operations.resources.jobs import OPTIMIZERS, check_metric, needs_of, told
from dspex.operations.resources.operations import Operations
from dspex.operations.resources.optimization_job import OPTIMIZATION_JOB, OptimizationJobRecord
from dspex.operations.resources.ports import Insert, JobEngine, Query, Update
from dspex.operations.resources.program import PROGRAM, ProgramRecord, ProgramVersionRecord
from dspex.operations.resources.resource import Resource

_EVALUATION_SETTINGS: Mapping[str, type | tuple[type, ...]] = {"concurrency": int, "limit": int}
_OPTIMIZATION_SETTINGS: Mapping[str, type | tuple[type, ...]] = {
    "concurrency": int,
    "rows": int,
    "seed": int,
    "holdout": (int, float),
    "insist": bool,
    "options": dict,
    "compile": dict,
}
J = TypeVar("J", EvaluationRecord, OptimizationJobRecord)
_BUDGET: Mapping[str, type | tuple[type, ...]] = {
    "usd": (int, float),
    "tokens": int,
    "calls": int,
    "seconds": (int, float),
}


async def create_evaluation(operations: Operations, given: CreateEvaluation) -> EvaluationRecord:
    """Write a queued evaluation and tell the engine; see `CreateEvaluation`."""
    engine = _engine(operations)
    _check_settings("configuration", given.configuration, _EVALUATION_SETTINGS)
    program, version, value = await _program(operations, given)
    data = await _dataset(operations, given)
    code = operations.floor.code
    metrics = _metrics(given.metrics, code)
    job = EvaluationRecord(
        **_common(operations),
        program_id=program.id,
        program_version_id=version.id,
        dataset_id=data.id,
        metrics=metrics,
        configuration=dict(given.configuration),
        needs=needs_of(value, metrics, code),
        progress={},
    )
    return await _written(operations, EVALUATION, job, engine=engine)


async def create_optimization(operations: Operations, given: CreateOptimization) -> OptimizationJobRecord:
    """Write a queued optimization and tell the engine; see `CreateOptimization`."""
    engine = _engine(operations)
    if given.optimizer not in OPTIMIZERS:
        hint = suggest(given.optimizer, OPTIMIZERS)
        raise _invalid("optimizer", given.optimizer, f"there is no such optimizer.{hint}", f"{', '.join(OPTIMIZERS)}")
    _check_settings("configuration", given.configuration, _OPTIMIZATION_SETTINGS)
    _check_settings("budget", given.budget, _BUDGET)
    program, version, value = await _program(operations, given)
    data = await _dataset(operations, given)
    code = operations.floor.code
    metrics = _metrics(given.metrics, code)
    job = OptimizationJobRecord(
        **_common(operations),
        program_id=program.id,
        program_version_id=version.id,
        dataset_id=data.id,
        optimizer=given.optimizer,
        metrics=metrics,
        configuration=dict(given.configuration),
        budget=dict(given.budget),
        needs=needs_of(value, metrics, code),
        progress={},
    )
    return await _written(operations, OPTIMIZATION_JOB, job, engine=engine)


def _moving(resource: Resource[Any], step: str) -> Callable[[Operations, JobRef], Awaitable[Any]]:
    async def move(operations: Operations, given: JobRef) -> Any:  # noqa: ANN401  # a job
        engine, floor = _engine(operations), operations.floor
        job = await operations.store.get(resource, workspace=operations.workspace, id=given.id)
        if job is None:
            raise NotFoundError(f"there is no {resource.name} {str(given.id)!r}")
        now = floor.clock.now()
        values: dict[str, Any] = {"status": resource.step(step, job.status), "updated_at": now, "waiting": None}
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
        moved = dataclasses.replace(job, **values, turn=job.turn + increments.get("turn", 0))
        await operations.store.write(change, told(moved, resource, id=floor.new_id(), now=now))
        await (engine.enqueue if step == "resume" else engine.stop)(resource, job.id)
        return await operations.store.get(resource, id=job.id)

    return move


async def _written(operations: Operations, resource: Resource[J], job: J, *, engine: JobEngine) -> J:
    floor = operations.floor
    await operations.store.write(Insert(job), told(job, resource, id=floor.new_id(), now=job.created_at))
    await engine.enqueue(resource, job.id)
    return await operations.store.get(resource, id=job.id) or job


def _engine(operations: Operations) -> JobEngine:
    if operations.floor.jobs is None:
        raise ConfigurationError("this process keeps no jobs; use the server, or the command line")
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
    operations: Operations, given: CreateEvaluation | CreateOptimization
) -> tuple[ProgramRecord, ProgramVersionRecord, Program]:
    found = await operations.program(given.program_id, given.program)
    PROGRAM.step("execute", found.status)
    return found, await operations.current_version(found), await operations.program_value(found)


async def _dataset(operations: Operations, given: CreateEvaluation | CreateOptimization) -> DatasetRecord:
    if (given.dataset_id is None) == (given.dataset is None):
        raise InvalidError("give either the data set's id or its name")
    key = {"id": given.dataset_id} if given.dataset_id is not None else {"name": given.dataset}
    found = await operations.store.select(DATASET, Query(where={"workspace": operations.workspace, **key}, limit=1))
    if not found:
        raise NotFoundError(f"there is no data set {given.dataset_id or given.dataset!r}")
    return found[0]


def _metrics(given: list[Any] | None, code: CodeRoot | None) -> list[Any]:
    if given is not None and not isinstance(given, list):
        raise _invalid("metrics", given, f"{given!r} is no list of names", "a list")
    metrics = given or ["exact_match"]
    for number, metric in enumerate(metrics):
        said = check_metric(metric, code)
        if said is not None:
            raise _invalid("metrics", metric, said, "a metric", path=f"metrics[{number}]")
    return list(metrics)


def _check_settings(field: str, given: Mapping[str, Any], known: Mapping[str, type | tuple[type, ...]]) -> None:
    for name, value in given.items():
        if name not in known:
            said = f"there is no setting {name!r}.{suggest(name, known)}"
            raise _invalid(field, value, said, ", ".join(known), path=f"{field}.{name}")
        is_flag = isinstance(value, bool) and known[name] is not bool
        if is_flag or not isinstance(value, known[name]) or (isinstance(value, int | float) and value < 0):
            raise _invalid(field, value, f"{value!r} does not fit", "a number from 0", path=f"{field}.{name}")


def _invalid(field: str, value: object, message: str, expected: str, *, path: str | None = None) -> InvalidError:  # noqa: PLR0917
    error = FieldError(
        field=field, path=path or field, value=value, message=message, constraint="job", expected=expected
    )
    return InvalidError(f"{path or field}: {message}", errors=[error])


def _moves(resource: Resource[Any], noun: str) -> tuple[Action, ...]:
    what = {
        "cancel": "Cancel it; the worker that runs it stops within a second.",
        "pause": "Pause it; the worker that runs it stops within a second, and nothing that was answered is lost.",
        "resume": "Queue a paused or failed one again; it goes on where it was.",
    }
    return tuple(
        Action(
            name=f"{step}_{noun}",
            resource=resource,
            input=JobRef,
            scope="execute",
            run=_moving(resource, step),
            description=text,
        )
        for step, text in what.items()
    )


JOB_ACTIONS: tuple[Action, ...] = (
    Action(
        name="create_evaluation",
        resource=EVALUATION,
        input=CreateEvaluation,
        scope="execute",
        run=create_evaluation,
        description="Score a program on a data set, as a job.",
    ),
    *_moves(EVALUATION, "evaluation"),
    Action(
        name="create_optimization",
        resource=OPTIMIZATION_JOB,
        input=CreateOptimization,
        scope="write",
        run=create_optimization,
        description="Search for a better version of a program, as a job.",
    ),
    *_moves(OPTIMIZATION_JOB, "optimization"),
)
