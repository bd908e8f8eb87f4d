"""The actions on optimizations.

The optimizers are imported by the actions that need them: every command imports this module.
"""

from collections.abc import Mapping
from typing import Any

from dspex.error_text import suggest
from dspex.errors import DefinitionError
from dspex.operations.evaluations.actions import job_columns
from dspex.operations.evaluations.metrics import report_name
from dspex.operations.framework.action import action
from dspex.operations.framework.field_errors import invalid
from dspex.operations.framework.heavy_work import HeavyWork
from dspex.operations.framework.operations import Operations
from dspex.operations.jobs.actions import (
    cancel_job,
    check_settings,
    engine_of,
    enqueue,
    pause_job,
    requeue_job,
    resume_job,
)
from dspex.operations.jobs.inputs import JobRef
from dspex.operations.optimizations.inputs import (
    CreateOptimization,
    FrontOf,
    KnownOptimizers,
    OptimizationFront,
    OptimizerList,
    PromoteTrial,
)
from dspex.operations.optimizations.promotion_job import promote
from dspex.operations.optimizations.records import OPTIMIZATION_JOB, OptimizationJobRecord
from dspex.operations.optimizations.stored_trials import front_of, trials_of
from dspex.operations.programs.declarations import check_declarations, read_declarations
from dspex.operations.programs.program_cache import ProgramCache
from dspex.operations.programs.stored_programs import find_program

_OPTIMIZATION_SETTINGS: Mapping[str, type | tuple[type, ...]] = {
    "concurrency": int,
    "rows": int,
    "seed": int,
    "holdout": (int, float),
    "insist": bool,
    "race": bool,
    "ablate": bool,
    "maximize": str,
    "subject_to": list,
    "alpha": (int, float),
    "on_error": (int, float),
    "options": dict,
    "compile": dict,
}

_ON_FRONT = ("number", "label", "score", "rows", "figures")
_BUDGET: Mapping[str, type | tuple[type, ...]] = {
    "usd": (int, float),
    "tokens": int,
    "calls": int,
    "seconds": (int, float),
}


@action(OPTIMIZATION_JOB, scope="write")
async def create_optimization(
    operations: Operations, request: CreateOptimization
) -> OptimizationJobRecord:
    """Search for a better version of a program, as a job."""
    from dspex.learning.optimizers.registry import OPTIMIZERS

    engine = engine_of(operations)
    if request.optimizer not in OPTIMIZERS:
        hint = suggest(request.optimizer, OPTIMIZERS)
        raise invalid(
            "optimizer",
            request.optimizer,
            ", ".join(OPTIMIZERS),
            message=f"there is no such optimizer.{hint}",
            constraint="job",
        )
    check_settings("configuration", request.configuration, _OPTIMIZATION_SETTINGS)
    _check_options(request)
    check_settings("budget", request.budget, _BUDGET)
    settings = {**request.configuration, **await _declarations(operations, request)}
    columns = await job_columns(operations, request, configuration=settings)
    _check_goal(request.configuration, columns["metrics"])
    job = OptimizationJobRecord(**columns, optimizer=request.optimizer, budget=dict(request.budget))
    return await enqueue(operations, OPTIMIZATION_JOB, job, engine=engine)


@action(OPTIMIZATION_JOB, scope="write")
async def promote_trial(operations: Operations, request: PromoteTrial) -> OptimizationJobRecord:
    """Make a trial the current version if it is better on rows that are new to it, as a job.

    The same request returns the same job.

    Raises:
        NotBetterError: the trial was compared on these rows already, and is not better.
        ConflictError: it is being compared on other rows.
        InvalidError: it may not win, or no rows were held out.
    """
    return await promote(operations, request, engine=engine_of(operations))


@action(OPTIMIZATION_JOB, scope="execute")
async def cancel_optimization(operations: Operations, request: JobRef) -> OptimizationJobRecord:
    """Cancel the job; its worker stops within a second."""
    return await cancel_job(operations, OPTIMIZATION_JOB, request.id)


@action(OPTIMIZATION_JOB, scope="execute")
async def pause_optimization(operations: Operations, request: JobRef) -> OptimizationJobRecord:
    """Pause the job; its worker stops within a second, and no model reply is lost."""
    return await pause_job(operations, OPTIMIZATION_JOB, request.id)


@action(OPTIMIZATION_JOB, scope="execute")
async def resume_optimization(operations: Operations, request: JobRef) -> OptimizationJobRecord:
    """Queue a paused or failed job again; it continues where it stopped."""
    return await resume_job(operations, OPTIMIZATION_JOB, request.id)


@action(OPTIMIZATION_JOB, scope="execute")
async def requeue_optimization(operations: Operations, request: JobRef) -> OptimizationJobRecord:
    """Take a running job from its worker and queue it again; it continues where it stopped."""
    return await requeue_job(operations, OPTIMIZATION_JOB, request.id)


@action(OPTIMIZATION_JOB, scope="read")
async def optimization_front(operations: Operations, request: FrontOf) -> OptimizationFront:
    """Return the trials of an optimization that no other one beats in all objectives.

    Raises:
        InvalidError: an objective is not a figure of the trials.
        NotFoundError: the job does not exist.
    """
    job = await operations.row(OPTIMIZATION_JOB, request.id)
    metrics = [report_name(name) for name in job.metrics]
    try:
        front = front_of(await trials_of(operations, job.id), request.objectives, metrics=metrics)
    except DefinitionError as error:
        raise invalid(
            "objectives", request.objectives, "figures of the trials", message=error.message
        ) from error
    return OptimizationFront(
        objectives=request.objectives,
        trials=[
            {"id": str(row.id), **{name: getattr(row, name) for name in _ON_FRONT}} for row in front
        ],
    )


@action(OPTIMIZATION_JOB, scope="read")
async def known_optimizers(operations: Operations, request: KnownOptimizers) -> OptimizerList:
    """The optimizers that jobs can use by name, with their options."""
    from dspex.learning.optimizers.dspy_options import DSPY_OPTIMIZERS
    from dspex.learning.optimizers.registry import OPTIMIZERS

    del operations
    return OptimizerList(
        optimizers=[
            {
                "name": entry.name,
                "summary": entry.summary,
                "options": {name: option.words for name, option in entry.options.items()},
                "extra": entry.extra or None,
                "runs_on_dspy": entry.name in DSPY_OPTIMIZERS,
            }
            for entry in OPTIMIZERS.values()
            if entry.name.startswith(request.starts_with)
        ]
    )


async def _declarations(operations: Operations, request: CreateOptimization) -> Mapping[str, Any]:
    """Return the variables and constraints of a request as they are stored, after a check."""
    declarations = read_declarations(request.variables, request.constraints)
    if not declarations:
        return {}
    program = await find_program(operations, request.program_id, request.program)
    choice = await operations.services[ProgramCache].choice(program, None)
    await operations.services[HeavyWork].run(lambda _: check_declarations(choice, declarations))
    return {"variables": request.variables, "constraints": request.constraints}


def _check_goal(settings: Mapping[str, Any], metrics: list[Any]) -> None:
    """Check the objective, the limits and the significance level before anything runs."""
    from dspex.learning.optimizers.search import Search

    limits = settings.get("subject_to") or []
    names = [report_name(name) for name in metrics]
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
            raise invalid(
                path, settings.get(name), name, message=error.message, constraint="job"
            ) from error


def _check_options(request: CreateOptimization) -> None:
    """Check that callers may give these options; the worker checks them again for its backend."""
    from dspex.operations.optimizations.optimizer_options import PARTS, caller_problem

    for part in PARTS:
        problem = caller_problem(request.optimizer, request.configuration.get(part, {}), part=part)
        if problem is not None:
            path = f"configuration.{part}.{problem.name}"
            raise invalid(
                path, problem.value, problem.expected, message=problem.message, constraint="job"
            )
