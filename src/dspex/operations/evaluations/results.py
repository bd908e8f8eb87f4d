"""The results of evaluations as columns, and as stored jobs that a command has done itself."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from dspex.learning.evaluation import Dataset, Report
from dspex.learning.evaluation.breakdown import breakdown
from dspex.operations.datasets.actions import CreateDataset, Split, create_dataset
from dspex.operations.datasets.records import DATASET, DatasetRecord
from dspex.operations.evaluations.records import EVALUATION, EvaluationRecord
from dspex.operations.framework.operations import Operations
from dspex.operations.framework.store import Insert, Query
from dspex.operations.jobs.job import JobRecord, JobResource, status_event
from dspex.operations.programs.records import ProgramRecord


def report_values(
    report: Report, *, has_judge: bool, configuration: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the columns of an evaluation that its report fills."""
    interval = report.interval()
    parts = {name: configuration.get(name) for name in ("slice_by", "pass_at", "label")}
    return {
        "rows": [row.to_dict() for row in report.rows],
        "mean": finite(report.mean),
        "interval": [finite(interval.low), finite(interval.high)] if report.scored else None,
        "breakdown": breakdown(report, **parts) or None,
        "cost_usd": report.usage.cost_usd,
        "judge_cost_usd": report.judge_usage.cost_usd if has_judge else None,
        "p50_ms": finite(report.p50 * 1e3),
        "p95_ms": finite(report.p95 * 1e3),
    }


def finite(value: float) -> float | None:
    """Return a number that JSON has, else None."""
    return value if math.isfinite(value) else None


async def record_evaluation(
    operations: Operations,
    report: Report,
    *,
    program: ProgramRecord,
    rows: Dataset,
    metrics: Sequence[str],
    judge: ProgramRecord | None,
    configuration: dict[str, Any],
) -> EvaluationRecord:
    """Store an evaluation that has been done, as a completed job.

    `metrics` are as in `CreateEvaluation`. The rows are stored as a data set, unless they are.

    Raises:
        InvalidError: the rows are too many or too large to be stored.
    """
    failed = sum(row.error is not None for row in report.rows)
    progress = {"done": len(report.rows), "of": len(report.rows), "failed": failed}
    job = EvaluationRecord(
        **await completed_columns(operations, program=program, rows=rows, split="test"),
        **report_values(report, has_judge=judge is not None, configuration=configuration),
        metrics=[*metrics],
        judge_version_id=None if judge is None else judge.current_version_id,
        configuration=configuration,
        progress={**progress, "mean": finite(report.mean)},
        started_at=report.started_at,
    )
    await insert_job(operations, EVALUATION, job)
    return job


async def completed_columns(
    operations: Operations, *, program: ProgramRecord, rows: Dataset, split: Split
) -> dict[str, Any]:
    """Return the columns of a completed job that do not depend on its kind."""
    data = await _stored_rows(operations, rows, split)
    return {
        **operations.new_row(),
        "actor": operations.actor.name,
        "status": "completed",
        "program_id": program.id,
        "program_version_id": program.current_version_id,
        "dataset_id": data.id,
        "needs": {},
        "finished_at": operations.clock.now(),
    }


async def insert_job(
    operations: Operations, resource: JobResource[Any], job: JobRecord, *parts: Insert
) -> None:
    """Store a completed job with its parts and the event that reports it: all or nothing."""
    now = operations.clock.now()
    event = status_event(job, resource, id=operations.new_id(), now=now)
    await operations.store.write(Insert(job), *parts, event)


async def _stored_rows(operations: Operations, rows: Dataset, split: Split) -> DatasetRecord:
    """Return the version of a data set that has these rows, stored first if there is none."""
    where = {"workspace": operations.workspace, "name": rows.name, "checksum": rows.checksum}
    if versions := await operations.store.select(DATASET, Query(where=where, limit=1)):
        return versions[0]
    values = [example.to_dict() for example in rows]
    request = CreateDataset(name=rows.name, rows=values, split=split)
    return await operations.perform(create_dataset, request)
