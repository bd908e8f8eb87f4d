"""Stored evaluations: jobs that score a program version on a data set."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from dspex.operations.resources.resource import Resource, Row, Transition


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationRecord(Row):
    """One evaluation. `rows` are the results in the order of the data set.

    `waiting` is the reason why a queued job does not run yet. `turn` counts how often the job was
    queued; writes for an earlier turn are rejected. `worker` is the current or last worker. A
    queued job with `retry_at` waits until then. `attempts` counts starts since the last request.
    """

    program_id: UUID
    program_version_id: UUID
    dataset_id: UUID
    status: Literal["queued", "running", "paused", "completed", "failed", "cancelled"] = "queued"
    metrics: list[Any]
    configuration: dict[str, Any]
    needs: dict[str, Any]
    progress: dict[str, Any]
    waiting: str | None = None
    attempts: int = 0
    rows: list[Any] | None = None
    mean: float | None = None
    interval: list[Any] | None = None
    cost_usd: float | None = None
    p50_ms: float | None = None
    p95_ms: float | None = None
    error: dict[str, Any] | None = None
    actor: str = "local"
    turn: int = 0
    worker: str | None = None
    retry_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None


JOB_STEPS = {
    "start": Transition(("queued", "running"), "running"),
    "pause": Transition(("queued", "running"), "paused"),
    "resume": Transition(("paused", "failed"), "queued"),
    "complete": Transition(("running",), "completed"),
    "fail": Transition(("queued", "running"), "failed"),
    "requeue": Transition(("running",), "queued"),
    "cancel": Transition(("queued", "running", "paused"), "cancelled"),
}
JOB_HIDDEN = ("workspace", "lock_version", "turn")
EVALUATION = Resource(
    name="evaluation",
    plural="evaluations",
    entity=EvaluationRecord,
    transitions=JOB_STEPS,
    references={
        "program_id": "program",
        "program_version_id": "program_version",
        "dataset_id": "dataset",
    },
    indexes=(("workspace", "id"), ("status",), ("program_id",)),
    hidden=JOB_HIDDEN,
)
