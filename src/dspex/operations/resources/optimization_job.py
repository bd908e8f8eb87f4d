"""Stored optimizations: jobs that search for a better version of a program."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from dspex.operations.resources.evaluation import JOB_HIDDEN, JOB_STEPS
from dspex.operations.resources.resource import Resource, Row


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizationJobRecord(Row):
    """One optimization. `best` and `progress` show its state; all trials are in its journal.

    `program_version_id` is the version that it starts from. `needs` is the code root and revision
    that a worker must have. `result_version_id` is the new program version, or None if no
    significantly better one was found. `turn`, `worker`, `retry_at` and `attempts` are as in an
    evaluation.
    """

    program_id: UUID
    program_version_id: UUID
    dataset_id: UUID
    status: Literal["queued", "running", "paused", "completed", "failed", "cancelled"] = "queued"
    optimizer: str
    metrics: list[Any]
    configuration: dict[str, Any]
    budget: dict[str, Any]
    needs: dict[str, Any]
    progress: dict[str, Any]
    waiting: str | None = None
    attempts: int = 0
    trials: list[Any] | None = None
    best: dict[str, Any] | None = None
    result_version_id: UUID | None = None
    error: dict[str, Any] | None = None
    actor: str = "local"
    turn: int = 0
    worker: str | None = None
    retry_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None


OPTIMIZATION_JOB = Resource(
    name="optimization_job",
    plural="optimization_jobs",
    entity=OptimizationJobRecord,
    transitions=JOB_STEPS,
    references={
        "program_id": "program",
        "program_version_id": "program_version",
        "dataset_id": "dataset",
        "result_version_id": "program_version",
    },
    indexes=(("workspace", "id"), ("status",), ("program_id",)),
    hidden=JOB_HIDDEN,
)
