"""The actions on optimizations."""

from collections.abc import Mapping
from typing import Any

from dspex.error_text import suggest
from dspex.errors import (
    DefinitionError,
)
from dspex.execution.modules.code import CodeRoot
from dspex.operations.datasets.actions import dataset_of
from dspex.operations.evaluations.actions import program_of, stored_metrics
from dspex.operations.evaluations.code_revision import needs_of
from dspex.operations.framework.action import Action
from dspex.operations.framework.operations import Operations
from dspex.operations.jobs.actions import (
    check_settings,
    engine_of,
    enqueue,
    invalid_setting,
    move_actions,
    new_job,
)
from dspex.operations.optimizations.inputs import CreateOptimization
from dspex.operations.optimizations.optimizer_options import Part, caller_problem
from dspex.operations.optimizations.records import OPTIMIZATION_JOB, OptimizationJobRecord

OPTIMIZERS = ("LabeledFewShot", "BootstrapFewShot", "RandomSearch", "MIPROv2", "Joint")


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


_BUDGET: Mapping[str, type | tuple[type, ...]] = {
    "usd": (int, float),
    "tokens": int,
    "calls": int,
    "seconds": (int, float),
}


async def create_optimization(
    operations: Operations, request: CreateOptimization
) -> OptimizationJobRecord:
    """Create and enqueue an optimization; see `CreateOptimization`."""
    engine = engine_of(operations)
    if request.optimizer not in OPTIMIZERS:
        hint = suggest(request.optimizer, OPTIMIZERS)
        raise invalid_setting(
            "optimizer",
            request.optimizer,
            f"there is no such optimizer.{hint}",
            f"{', '.join(OPTIMIZERS)}",
        )
    check_settings("configuration", request.configuration, _OPTIMIZATION_SETTINGS)
    _check_options(request)
    check_settings("budget", request.budget, _BUDGET)
    program, version, value = await program_of(operations, request.program_id, request.program)
    data = await dataset_of(operations, request.dataset_id, request.dataset)
    code = operations.services.get(CodeRoot)
    metrics = stored_metrics(operations, request.metrics)
    _check_goal(request.configuration, metrics)
    job = OptimizationJobRecord(
        **new_job(operations),
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
    return await enqueue(operations, OPTIMIZATION_JOB, job, engine=engine)


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
            raise invalid_setting(
                path.partition(".")[0], settings.get(name), error.message, name, path=path
            ) from error


def _check_options(request: CreateOptimization) -> None:
    """Check that callers may give these options; the worker checks them again for its backend."""
    parts: tuple[Part, ...] = ("options", "compile")
    for part in parts:
        problem = caller_problem(request.optimizer, request.configuration.get(part, {}), part=part)
        if problem is not None:
            path = f"configuration.{part}.{problem.name}"
            raise invalid_setting(
                "configuration", problem.value, problem.message, problem.expected, path=path
            )


OPTIMIZATION_ACTIONS: tuple[Action, ...] = (
    Action(
        name="create_optimization",
        resource=OPTIMIZATION_JOB,
        input=CreateOptimization,
        scope="write",
        run=create_optimization,
        description="Search for a better version of a program, as a job.",
    ),
    *move_actions(OPTIMIZATION_JOB, "optimization"),
)
