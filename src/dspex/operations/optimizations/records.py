"""Stored optimizations: jobs that search for a better version of a program."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from dspex.failures import without_frames
from dspex.operations.framework.resource import Resource, Row
from dspex.operations.jobs.job import (
    JOB_HIDDEN,
    JOB_POINTERS,
    JOB_STEPS,
    JobResource,
    ProgramJobRecord,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizationJobRecord(ProgramJobRecord):
    """One optimization. `best` and `progress` show its state; its trials are rows of their own.

    `best` has, among others, the changes of the winner, `importance` (each variable's share of the
    scores' variance), `prompt_changes` (a diff), and, if the job ablates, `ablation`: the winner
    compared with itself without each value.

    `program_version_id` is the version that it starts from. `needs` is the code root and revision
    that a worker must have. `result_version_id` is the new program version, or None if no
    significantly better one was found. With `trial_id`, the job does not search: it compares this
    trial with the program on rows that the search of the trial did not see. `turn`, `worker`,
    `retry_at` and `attempts` are as in an evaluation.
    """

    optimizer: str
    budget: dict[str, Any]
    best: dict[str, Any] | None = None
    result_version_id: UUID | None = None
    trial_id: UUID | None = None


OPTIMIZATION_JOB = JobResource(
    name="optimization_job",
    plural="optimization_jobs",
    entity=OptimizationJobRecord,
    queue="optimization",
    transitions=JOB_STEPS,
    references={
        "program_id": "program",
        "program_version_id": "program_version",
        "dataset_id": "dataset",
        "result_version_id": "program_version",
    },
    pointers={**JOB_POINTERS, "trial_id": "trial"},
    owner="program_id",
    indexes=(("workspace", "id"), ("status",), ("program_id",)),
    hidden=JOB_HIDDEN,
    redactions={"error": without_frames},
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRecord(Row):
    """One trial of a completed optimization: what was tried, and its figures.

    `figures` are those that objectives and limits refer to. `score` is the first metric, None if no
    row could be scored. `rows` were scored, `failed` of the others failed. A trial that is not
    final may not win; those `is_on_front` no other beats in all metrics and cost. `assignment` has
    the values of its variables; it is None for trials of earlier versions. `promotion_id` is the
    job that checks or has checked whether it may become a version.
    """

    optimization_job_id: UUID
    program_id: UUID
    number: int
    label: str
    score: float | None
    rows: int
    failed: int
    calls: int
    is_final: bool
    is_on_front: bool
    figures: dict[str, Any]
    assignment: dict[str, Any] | None = None
    promotion_id: UUID | None = None


TRIAL = Resource(
    name="trial",
    plural="trials",
    entity=TrialRecord,
    references={"optimization_job_id": "optimization_job", "program_id": "program"},
    pointers={"promotion_id": "optimization_job"},
    owner="program_id",
    unique=(("optimization_job_id", "number"),),
    indexes=(("workspace", "id"), ("program_id",)),
    unsorted=("label",),
    is_audited=False,  # each is a part of the result of its job
)
