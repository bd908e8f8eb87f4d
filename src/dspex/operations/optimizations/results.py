"""The results of optimizations as columns, and as stored jobs that a command has done itself."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from dspex.learning.evaluation import Dataset
from dspex.learning.optimizers import Outcome
from dspex.learning.optimizers.trials import TIMES
from dspex.learning.optimizers.verdict import Verdict
from dspex.operations.evaluations.results import completed_columns, finite, insert_job
from dspex.operations.framework.operations import Operations
from dspex.operations.framework.store import Insert
from dspex.operations.optimizations.records import (
    OPTIMIZATION_JOB,
    OptimizationJobRecord,
    TrialRecord,
)
from dspex.operations.programs.records import ProgramRecord


def outcome_values(outcome: Outcome[Any]) -> dict[str, Any]:
    """Return the columns of an optimization that its outcome fills."""
    from pydantic_core import to_jsonable_python

    best, verdict = outcome.best, outcome.verdict
    return {
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
            "figures": _without_times(_finite(best.figures)),
            "front": [_without_times(row) for row in outcome.front_table()],
            "importance": _finite(outcome.importance()),
            "prompt_changes": outcome.prompt_changes(),
            "ablation": {name: each.to_dict() for name, each in outcome.ablation.items()},
            "values": to_jsonable_python(dict(best.candidate.assignment)),
            **verdict_values(verdict),
        },
    }


def trial_columns(outcome: Outcome[Any]) -> list[dict[str, Any]]:
    """Return the columns of each trial that its outcome fills, in the order of the search."""
    from pydantic_core import to_jsonable_python

    best_ones = {row["trial"] for row in outcome.front_table()}
    return [
        {
            "number": trial.number,
            "label": trial.candidate.label,
            "score": trial.score,
            "rows": trial.report.scored,
            "failed": trial.report.failed,
            "calls": trial.report.usage.calls,
            "is_final": trial.candidate.is_final,
            "is_on_front": trial.number in best_ones,
            "figures": _finite(trial.figures),
            "assignment": to_jsonable_python(dict(trial.candidate.assignment)),
        }
        for trial in outcome.trials
    ]


def trial_rows(
    job: OptimizationJobRecord,
    columns: Sequence[Mapping[str, Any]],
    *,
    new_id: Callable[[], UUID],
    now: datetime,
) -> list[Insert]:
    """Return the trials of a job as rows to store."""
    shared: dict[str, Any] = {
        "workspace": job.workspace,
        "created_at": now,
        "updated_at": now,
        "optimization_job_id": job.id,
        "program_id": job.program_id,
    }
    return [Insert(TrialRecord(**shared, **values, id=new_id())) for values in columns]


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
    trials = trial_rows(
        job, trial_columns(outcome), new_id=operations.new_id, now=operations.clock.now()
    )
    await insert_job(operations, OPTIMIZATION_JOB, job, *trials)
    return job


def _finite(figures: Mapping[str, float]) -> dict[str, float | None]:
    """Return figures as JSON-ready data."""
    return {name: finite(value) for name, value in figures.items()}


def _without_times(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Return figures but for times, which are not the same when a job is resumed."""
    return {name: value for name, value in figures.items() if name not in TIMES}
