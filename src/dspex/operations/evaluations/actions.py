"""The actions on evaluations."""

from collections.abc import Mapping
from typing import Any

from dspex.error_text import suggest
from dspex.execution.modules.code import CodeRoot
from dspex.learning.evaluation.metrics import METRICS
from dspex.operations.datasets.actions import dataset_of
from dspex.operations.evaluations.code_revision import needs_of
from dspex.operations.evaluations.inputs import (
    CreateEvaluation,
    KnownMetrics,
    MetricNames,
    ProgramOnDataset,
)
from dspex.operations.evaluations.metrics import RegisteredMetrics, check_metric
from dspex.operations.evaluations.records import EVALUATION, EvaluationRecord
from dspex.operations.framework.action import action
from dspex.operations.framework.field_errors import invalid
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
from dspex.operations.programs.records import PROGRAM
from dspex.operations.programs.stored_programs import current_version, find_program, program_value

_EVALUATION_SETTINGS: Mapping[str, type | tuple[type, ...]] = {"concurrency": int, "limit": int}


@action(EVALUATION, scope="execute")
async def create_evaluation(operations: Operations, request: CreateEvaluation) -> EvaluationRecord:
    """Score a program on a data set, as a job."""
    engine = engine_of(operations)
    check_settings("configuration", request.configuration, _EVALUATION_SETTINGS)
    columns = await job_columns(
        operations, request, configuration=request.configuration, metrics=request.metrics
    )
    job = EvaluationRecord(**columns)
    return await enqueue(operations, EVALUATION, job, engine=engine)


@action(EVALUATION, scope="execute")
async def cancel_evaluation(operations: Operations, request: JobRef) -> EvaluationRecord:
    """Cancel the job; its worker stops within a second."""
    return await cancel_job(operations, EVALUATION, request.id)


@action(EVALUATION, scope="execute")
async def pause_evaluation(operations: Operations, request: JobRef) -> EvaluationRecord:
    """Pause the job; its worker stops within a second, and no model reply is lost."""
    return await pause_job(operations, EVALUATION, request.id)


@action(EVALUATION, scope="execute")
async def resume_evaluation(operations: Operations, request: JobRef) -> EvaluationRecord:
    """Queue a paused or failed job again; it continues where it stopped."""
    return await resume_job(operations, EVALUATION, request.id)


@action(EVALUATION, scope="execute")
async def requeue_evaluation(operations: Operations, request: JobRef) -> EvaluationRecord:
    """Take a running job from its worker and queue it again; it continues where it stopped."""
    return await requeue_job(operations, EVALUATION, request.id)


async def job_columns(
    operations: Operations,
    request: ProgramOnDataset,
    *,
    configuration: dict[str, Any],
    metrics: list[Any],
) -> dict[str, Any]:
    """Return the columns that new evaluations and optimizations have in common."""
    program = await find_program(operations, request.program_id, request.program)
    PROGRAM.step("execute", program.status)
    version = await current_version(operations, program)
    value = await program_value(operations, program)
    data = await dataset_of(operations, request.dataset_id, request.dataset)
    metrics = _stored_metrics(operations, metrics)
    return {
        **operations.new_row(),
        "actor": operations.actor.name,
        "program_id": program.id,
        "program_version_id": version.id,
        "dataset_id": data.id,
        "metrics": metrics,
        "configuration": dict(configuration),
        "needs": needs_of(value, metrics, operations.services.get(CodeRoot)),
        "progress": {},
    }


@action(EVALUATION, scope="read")
async def known_metrics(operations: Operations, request: KnownMetrics) -> MetricNames:
    """The metrics that jobs can use by name."""
    names = [*METRICS, *sorted(operations.services[RegisteredMetrics].targets)]
    return MetricNames(names=[name for name in names if name.startswith(request.starts_with)])


def _stored_metrics(operations: Operations, names: list[Any] | None) -> list[Any]:
    """Return metrics as they are stored.

    Metrics of the settings are stored with their target in the code root.
    """
    registered = operations.services[RegisteredMetrics].targets
    code = operations.services.get(CodeRoot)
    if names is not None and not isinstance(names, list):
        raise invalid("metrics", names, "a list of names", constraint="job")
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
            raise invalid(
                f"metrics[{number}]", metric, "a metric", message=problem, constraint="job"
            )
        result.append(metric if target is None else f"{metric}={target}")
    return result
