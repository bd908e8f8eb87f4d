"""Stored optimizations: jobs that search for a better version of a program."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from dspex.failures import without_frames
from dspex.operations.jobs.job import (
    JOB_HIDDEN,
    JOB_POINTERS,
    JOB_STEPS,
    JobResource,
    ProgramJobRecord,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizationJobRecord(ProgramJobRecord):
    """One optimization. `best` and `progress` show its state; all trials are in its journal.

    `program_version_id` is the version that it starts from. `needs` is the code root and revision
    that a worker must have. `result_version_id` is the new program version, or None if no
    significantly better one was found. `turn`, `worker`, `retry_at` and `attempts` are as in an
    evaluation.
    """

    optimizer: str
    budget: dict[str, Any]
    trials: list[Any] | None = None
    best: dict[str, Any] | None = None
    result_version_id: UUID | None = None


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
    pointers=JOB_POINTERS,
    owner="program_id",
    indexes=(("workspace", "id"), ("status",), ("program_id",)),
    hidden=JOB_HIDDEN,
    redactions={"error": without_frames},
)
