"""The results of optimizations as columns, and as stored jobs that a command has done itself."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from dspex.learning.evaluation import Dataset
from dspex.learning.optimizers import Outcome, Trial
from dspex.learning.optimizers.trials import TIMES
from dspex.learning.optimizers.verdict import Verdict
from dspex.operations.evaluations.results import completed_columns, finite, insert_job
from dspex.operations.framework.operations import Operations
from dspex.operations.optimizations.records import OPTIMIZATION_JOB, OptimizationJobRecord
from dspex.operations.programs.records import ProgramRecord


def outcome_values(outcome: Outcome[Any]) -> dict[str, Any]:
    """Return the columns of an optimization that its outcome fills."""
    from pydantic_core import to_jsonable_python

    best, verdict = outcome.best, outcome.verdict
    return {
        "trials": outcome.table(),
        "best": {
            "trial": best.number,
            "label": best.candidate.label,
            "score": best.score,
            "changes": outcome.changes(),
            "result": outcome.result,
            "stopped": outcome.stopped,
            "warnings": list(outcome.warnings),
            "conclusion": outcome.conclusion,
            "unmet": list(outcome.unmet),
            "figures": _figures(best),
            "front": [_without_times(row) for row in outcome.front_table()],
            "values": to_jsonable_python(dict(best.candidate.assignment)),
            **verdict_values(verdict),
        },
    }


def verdict_values(verdict: Verdict | None) -> dict[str, Any]:
    """Return a verdict as members of `best`."""
    return {"verdict": None} if verdict is None else verdict.to_dict()


async def record_optimization(
    operations: Operations,
    outcome: Outcome[Any],
    *,
    program: ProgramRecord,
    rows: Dataset,
    metrics: Sequence[str],
    optimizer: str,
    budget: dict[str, Any],
    configuration: dict[str, Any],
    result: UUID | None,
) -> OptimizationJobRecord:
    """Store an optimization that has been done, as a completed job.

    `metrics` are as in `CreateEvaluation`; `program` is the one that it began with, and `result`
    the version that it has stored, if any. The training rows are stored as a data set, unless they
    are.

    Raises:
        InvalidError: the rows are too many or too large to be stored.
    """
    job = OptimizationJobRecord(
        **await completed_columns(operations, program=program, rows=rows, split="train"),
        **outcome_values(outcome),
        metrics=[*metrics],
        optimizer=optimizer,
        budget=budget,
        configuration=configuration,
        progress={"trials": len(outcome.trials), "best": outcome.best.score},
        started_at=outcome.trials[0].report.started_at,
        result_version_id=result,
    )
    await insert_job(operations, OPTIMIZATION_JOB, job)
    return job


def _figures(trial: Trial) -> dict[str, float | None]:
    """Return the figures of a trial as JSON-ready data."""
    return _without_times({name: finite(value) for name, value in trial.figures.items()})


def _without_times(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Return figures but for times, which are not the same when a job is resumed."""
    return {name: value for name, value in figures.items() if name not in TIMES}
