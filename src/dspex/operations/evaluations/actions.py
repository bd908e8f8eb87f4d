"""The actions on evaluations."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dspex.error_text import suggest
from dspex.errors import DefinitionError, NotFoundError
from dspex.execution.modules.code import CodeRoot
from dspex.language.programs import Program
from dspex.language.signatures import Signature
from dspex.learning.evaluation import Dataset
from dspex.learning.evaluation.breakdown import check_columns
from dspex.learning.evaluation.judge import check_judge_inputs, judge_outputs
from dspex.learning.evaluation.metrics import METRICS
from dspex.operations.datasets.actions import dataset_of
from dspex.operations.datasets.records import DATASET, DatasetRecord
from dspex.operations.evaluations.code_revision import needs_of
from dspex.operations.evaluations.inputs import (
    CreateEvaluation,
    KnownMetrics,
    MetricNames,
    ProgramOnDataset,
)
from dspex.operations.evaluations.metrics import (
    JUDGE,
    RegisteredMetrics,
    check_metric,
    report_name,
)
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
from dspex.operations.programs.records import PROGRAM, ProgramVersionRecord
from dspex.operations.programs.stored_programs import current_version, find_program, program_value

_EVALUATION_SETTINGS: Mapping[str, type | tuple[type, ...]] = {
    "concurrency": int,
    "limit": int,
    "slice_by": str,
    "pass_at": (int, float),
    "label": str,
    "judge_repeats": int,
    "parts": int,
}


@action(EVALUATION, scope="execute")
async def create_evaluation(operations: Operations, request: CreateEvaluation) -> EvaluationRecord:
    """Score a program on a data set, as a job."""
    engine = engine_of(operations)
    check_settings("configuration", request.configuration, _EVALUATION_SETTINGS)
    if request.judge is None and "judge_repeats" in request.configuration:
        path, count = "configuration.judge_repeats", request.configuration["judge_repeats"]
        raise invalid(path, count, "a number beside `judge` only", constraint="job")
    columns = await job_columns(operations, request, configuration=request.configuration)
    data = await operations.row(DATASET, columns["dataset_id"])
    try:
        check_columns(Dataset.from_rows(data.rows).fields, request.configuration)
    except DefinitionError as error:
        raise invalid(
            "configuration", request.configuration, "fields of the rows", message=error.message
        ) from error
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
) -> dict[str, Any]:
    """Return the columns that new evaluations and optimizations have in common."""
    program = await find_program(operations, request.program_id, request.program)
    PROGRAM.step("execute", program.status)
    version = await current_version(operations, program)
    value = await program_value(operations, program)
    data = await dataset_of(operations, request.dataset_id, request.dataset)
    judge = await _judge_program(operations, request)
    metrics = _stored_metrics(operations, request)
    if judge is not None:
        _check_judge(judge, request, contract=value.signature, data=data)
    return {
        **operations.new_row(),
        "actor": operations.actor.name,
        "program_id": program.id,
        "program_version_id": version.id,
        "dataset_id": data.id,
        "metrics": metrics,
        "judge_version_id": None if judge is None else judge.version.id,
        "judge_model": request.judge_model,
        "configuration": dict(configuration),
        "needs": needs_of(
            [value] if judge is None else [value, judge.program],
            metrics,
            operations.services.get(CodeRoot),
        ),
        "progress": {},
    }


@action(EVALUATION, scope="read")
async def known_metrics(operations: Operations, request: KnownMetrics) -> MetricNames:
    """The metrics that jobs can use by name."""
    names = [*METRICS, *sorted(operations.services[RegisteredMetrics].targets)]
    return MetricNames(names=[name for name in names if name.startswith(request.starts_with)])


@dataclass(frozen=True, slots=True)
class _JudgeProgram:
    """A stored program that judges, at its current version."""

    version: ProgramVersionRecord
    program: Program


async def _judge_program(operations: Operations, request: ProgramOnDataset) -> _JudgeProgram | None:
    """Return the judge that a request names; API callers name programs of their workspace only.

    Raises:
        InvalidError: there is no such program, or a model without a judge.
        ConflictError: the program is not ready.
    """
    if request.judge is None:
        if request.judge_model is not None:
            raise invalid("judge_model", request.judge_model, "a model only beside `judge`")
        return None
    try:
        record = await find_program(operations, name=request.judge)
    except NotFoundError as error:
        message = f"{error.message}; `dspex push file.py:name` stores a judge"
        raise invalid("judge", request.judge, "a stored program", message=message) from error
    PROGRAM.step("execute", record.status)
    return _JudgeProgram(
        version=await current_version(operations, record),
        program=await program_value(operations, record),
    )


def _check_judge(
    judge: _JudgeProgram, request: ProgramOnDataset, *, contract: Signature, data: DatasetRecord
) -> None:
    """Check that a program can judge the answers of a program with `contract` on `data`.

    Raises:
        InvalidError: it cannot, or a metric has its name.
    """
    name, signature = judge.program.name, judge.program.signature
    fields = Dataset.from_rows(data.rows).fields
    if name in map(report_name, request.metrics):
        message = f"a metric has the name {name!r}, too: rename the program"
        raise invalid("judge", name, "another name than the metrics", message=message)
    try:
        judge_outputs(signature, name)
        check_judge_inputs(signature, name, contract=contract, fields=fields)
    except DefinitionError as error:
        raise invalid("judge", name, "a judge", message=error.message, constraint="job") from error


def _stored_metrics(operations: Operations, request: ProgramOnDataset) -> list[Any]:
    """Return metrics as they are stored, the judge as the last one.

    Metrics of the settings are stored with their target in the code root.
    """
    names: Any = request.metrics
    registered = operations.services[RegisteredMetrics].targets
    code = operations.services.get(CodeRoot)
    if names is not None and not isinstance(names, list):
        raise invalid("metrics", names, "a list of names", constraint="job")
    judges = [] if request.judge is None else [f"{request.judge}={JUDGE}"]
    metrics = names or ([] if judges else ["exact_match"])
    result: list[Any] = []
    for number, metric in enumerate(metrics):
        if metric in metrics[:number]:
            message = f"{metric!r} is already metrics[{metrics.index(metric)}]: name it once"
            raise invalid(
                f"metrics[{number}]", metric, "another metric", message=message, constraint="job"
            )
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
    return result + judges
