"""What all kinds of jobs share: the columns, the states, the queue, and the events."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal, TypeVar
from uuid import UUID

from dspex.failures import without_frames
from dspex.operations.events.records import EventRecord
from dspex.operations.framework.resource import Resource, Row, Transition
from dspex.operations.framework.store import Insert, Update

E = TypeVar("E")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord(Row):
    """The columns that all kinds of jobs have. `needs` is the code that a worker must have."""

    status: Literal["queued", "running", "paused", "completed", "failed", "cancelled"] = "queued"
    configuration: dict[str, Any]
    needs: dict[str, Any]
    progress: dict[str, Any]
    waiting: str | None = None
    attempts: int = 0
    error: dict[str, Any] | None = None
    actor: str = "local"
    turn: int = 0
    worker: str | None = None
    retry_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def event_program_id(self) -> UUID | None:
        """The program that the events of this job belong to, None if it is about no program."""
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramJobRecord(JobRecord):
    """The columns of jobs that run a program on a data set.

    `judge_version_id` is the program that scores the answers, one of the `metrics`, and
    `judge_model` the model that it runs on by default.
    """

    program_id: UUID
    program_version_id: UUID
    dataset_id: UUID
    metrics: list[Any]
    judge_version_id: UUID | None = None
    judge_model: str | None = None

    @property
    def event_program_id(self) -> UUID:
        """The program that the job runs."""
        return self.program_id


JOB_STEPS = {
    "start": Transition(("queued", "running"), "running"),
    "pause": Transition(("queued", "running"), "paused"),
    "resume": Transition(("paused", "failed"), "queued"),
    "complete": Transition(("running",), "completed"),
    "fail": Transition(("queued", "running"), "failed"),
    "requeue": Transition(("running",), "queued"),
    "cancel": Transition(("queued", "running", "paused"), "cancelled"),
}
JOB_POINTERS = {"judge_version_id": "program_version"}
JOB_HIDDEN = ("workspace", "lock_version", "turn")


@dataclass(frozen=True, kw_only=True)
class JobResource(Resource[E]):
    """A kind of job. `queue` is the name of its queue, and the topic of the events of its jobs.

    A worker runs `per_worker` of its jobs at once; by default as many as the `JobPolicy` says.
    """

    queue: str
    per_worker: int | None = None


def status_event(
    job: JobRecord,
    resource: JobResource[Any],
    *,
    id: UUID,
    now: datetime,
    message: str | None = None,
) -> Insert:
    """Return the event with the state of `job`: status, progress, reason to wait, and a message.

    Every reader of the workspace may follow events, so its error is without lines of code.
    """
    payload = {
        "status": job.status,
        "progress": job.progress,
        "waiting": job.waiting,
        "attempts": job.attempts,
        "message": message,
        "error": without_frames(job.error),
    }
    return Insert(
        EventRecord(
            id=id,
            workspace=job.workspace,
            created_at=now,
            updated_at=now,
            topic=resource.queue,
            subject_id=job.id,
            program_id=job.event_program_id,
            payload=payload,
        )
    )


def job_update(
    resource: JobResource[Any],
    job_id: UUID,
    values: Mapping[str, Any],
    *,
    turn: int,
    statuses: tuple[str, ...],
    begins_turn: bool = False,
) -> Update:
    """Return a change of a job in one of these states, made only if it is still at this turn."""
    return Update(
        resource=resource,
        id=job_id,
        values=values,
        increments={"turn": 1} if begins_turn else {},
        statuses=statuses,
        expected={"turn": turn},
    )


def job_changes(
    resource: JobResource[Any],
    job: JobRecord,
    values: Mapping[str, Any],
    *,
    id: UUID,
    now: datetime,
    message: str | None = None,
    statuses: tuple[str, ...] = (),
    begins_turn: bool = False,
) -> tuple[Update, Insert]:
    """Return a change of a job, by default in the state of `job`, and the event that reports it."""
    update = job_update(
        resource,
        job.id,
        values,
        turn=job.turn,
        statuses=statuses or (job.status,),
        begins_turn=begins_turn,
    )
    changed_job = replace(job, **values)
    return update, status_event(changed_job, resource, id=id, now=now, message=message)
