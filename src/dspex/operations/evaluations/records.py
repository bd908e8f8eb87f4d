"""Stored evaluations: jobs that score a program version on a data set, whole or in parts."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from dspex.failures import without_frames
from dspex.operations.framework.resource import Transition
from dspex.operations.jobs.job import (
    JOB_HIDDEN,
    JOB_POINTERS,
    JOB_STEPS,
    JobResource,
    ProgramJobRecord,
)

_REFERENCES = {
    "program_id": "program",
    "program_version_id": "program_version",
    "dataset_id": "dataset",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationRecord(ProgramJobRecord):
    """One evaluation. `rows` are the results in the order of the data set.

    `waiting` is the reason why a queued job does not run yet. `turn` counts how often the job was
    queued; writes for an earlier turn are rejected. `worker` is the current or last worker. A
    queued job with `retry_at` waits until then. `attempts` counts starts since the last request.
    `breakdown` has the slices, pass rates and agreement that its configuration asks for, by metric.
    `cost_usd` and the times are those of the program, `judge_cost_usd` is that of its judge.
    """

    rows: list[Any] | None = None
    mean: float | None = None
    interval: list[Any] | None = None
    breakdown: dict[str, Any] | None = None
    cost_usd: float | None = None
    judge_cost_usd: float | None = None
    p50_ms: float | None = None
    p95_ms: float | None = None


EVALUATION = JobResource(
    name="evaluation",
    plural="evaluations",
    entity=EvaluationRecord,
    queue="evaluation",
    transitions=JOB_STEPS,
    references=_REFERENCES,
    pointers=JOB_POINTERS,
    owner="program_id",
    indexes=(("workspace", "id"), ("status",), ("program_id",)),
    hidden=JOB_HIDDEN,
    redactions={"error": without_frames, "rows": without_frames},
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationPartRecord(ProgramJobRecord):
    """The part of a large evaluation with the rows from `first_row` to before `end_row`.

    Its results are the entries of its journal.
    """

    evaluation_id: UUID
    first_row: int
    end_row: int


EVALUATION_PART = JobResource(
    name="evaluation_part",
    plural="evaluation_parts",
    entity=EvaluationPartRecord,
    queue="evaluation_part",
    per_worker=1,  # so that the parts of one evaluation spread over the workers
    transitions={**JOB_STEPS, "resume": Transition(("failed", "cancelled", "completed"), "queued")},
    references={"evaluation_id": "evaluation", **_REFERENCES},
    pointers=JOB_POINTERS,
    owner="evaluation_id",
    indexes=(("evaluation_id",), ("status",)),
    hidden=JOB_HIDDEN,
    is_audited=False,
    is_internal=True,
    is_counted=False,
)
