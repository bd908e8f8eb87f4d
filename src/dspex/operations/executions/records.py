"""Stored executions."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from dspex.failures import without_frames
from dspex.operations.framework.resource import Calculation, Resource, Row, Transition

ENDED = ("completed", "failed", "cancelled", "interrupted")
SETTLED = (*ENDED, "waiting")
"""The states in which nothing happens until somebody acts."""
ExecutionStatus = Literal[
    "pending", "running", "waiting", "completed", "failed", "cancelled", "interrupted"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionRecord(Row):
    """One run of a program version. `cost_usd` is None if a price is unknown.

    `stages` lists the stages with status and time: definition, input validation, backend execution,
    output validation, serialization. `owner` is the process that runs it; if that process dies, the
    execution becomes interrupted. An `idempotency_key` is unique; `inputs_hash` shows whether a
    second call with the same key has the same inputs. `parent_id` is the enclosing execution,
    `retry_of` the repeated one. `payloads` says whether inputs, outputs and trace are stored as
    they were, redacted, or (inputs only) not stored.

    An execution that asks a person is `waiting` from `waiting_since` on, without a process. With an
    answer it is `pending`, until a process continues it. `duration_ms` and `deadline_at` exclude
    the time in between. `restarts` counts the processes that died while they continued it.
    `session_id` is the conversation that it belongs to.
    """

    program_id: UUID
    program_version_id: UUID
    status: ExecutionStatus
    backend: str
    inputs: dict[str, Any]
    outputs: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    usage: dict[str, Any] | None = None
    trace: dict[str, Any] | None = None
    cost_usd: float | None = None
    duration_ms: float | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    queue_ms: float | None = None
    stages: list[Any] | None = None
    parent_id: UUID | None = None
    retry_of: UUID | None = None
    idempotency_key: str | None = None
    actor: str = "local"
    owner: str | None = None
    deadline_at: datetime | None = None
    inputs_hash: str | None = None
    payloads: Literal["stored", "redacted", "withheld"] = "stored"
    question_count: int = 0
    waiting_since: datetime | None = None
    restarts: int = 0
    session_id: UUID | None = None


def total_tokens(row: ExecutionRecord) -> int | None:
    """Input and output tokens of all model calls; null until the execution ends."""
    if row.usage is None:
        return None
    return int(row.usage.get("input_tokens") or 0) + int(row.usage.get("output_tokens") or 0)


def elapsed_ms(row: ExecutionRecord) -> float | None:
    """The time from call to end, including waiting; null until the execution ends."""
    if row.finished_at is None:
        return None
    return (row.finished_at - row.created_at).total_seconds() * 1000


EXECUTION = Resource(
    name="execution",
    plural="executions",
    entity=ExecutionRecord,
    transitions={
        "start": Transition(("pending",), "running"),
        "wait": Transition(("running",), "waiting"),
        "resume": Transition(("running", "waiting"), "pending"),
        "complete": Transition(("running",), "completed"),
        "fail": Transition(("pending", "running"), "failed"),
        "cancel": Transition(("pending", "running", "waiting"), "cancelled"),
        "interrupt": Transition(("pending", "running"), "interrupted"),
    },
    references={"program_id": "program", "program_version_id": "program_version"},
    owner="program_id",
    pointers={"parent_id": "execution", "retry_of": "execution"},
    unique=(("workspace", "idempotency_key"),),
    indexes=(
        ("program_id", "id"),
        ("workspace", "id"),
        ("status", "workspace", "id"),
        ("parent_id",),
    ),
    hidden=("workspace", "lock_version", "inputs_hash"),
    redactions={"error": without_frames, "trace": without_frames},
    calculations=(
        Calculation(of=("usage",), compute=total_tokens),
        Calculation(of=("created_at", "finished_at"), compute=elapsed_ms),
    ),
    is_audited=False,  # the executor writes the audit entry itself
)


QuestionStatus = Literal["open", "answered", "expired", "cancelled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionRecord(Row):
    """A question of an execution to a person.

    `inputs` are shown, and the outputs of `signature` are the `answer`. An approval is about the
    call of a tool. At `expires_at` an open question expires. `key` identifies the question when the
    program asks it again.
    """

    execution_id: UUID | None
    program_id: UUID
    status: QuestionStatus
    kind: Literal["question", "approval"]
    inputs: dict[str, Any]
    signature: dict[str, Any]
    answer: dict[str, Any] | None = None
    answered_by: str | None = None
    answered_at: datetime | None = None
    expires_at: datetime | None = None
    key: str


QUESTION = Resource(
    name="question",
    plural="questions",
    entity=QuestionRecord,
    transitions={
        "answer": Transition(("open",), "answered"),
        "expire": Transition(("open",), "expired"),
        "cancel": Transition(("open",), "cancelled"),
    },
    references={"program_id": "program"},
    owner="program_id",
    pointers={"execution_id": "execution"},
    indexes=(("execution_id",), ("program_id", "id"), ("status", "workspace", "id")),
    hidden=("workspace", "lock_version", "key"),
    is_audited=False,  # answers are audited without their values
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionEntryRecord(Row):
    """One result that a waiting execution has: of a model, a tool or a search, as JSON in `value`.

    `key` identifies the call when the program makes it again.
    """

    execution_id: UUID | None
    program_id: UUID
    kind: Literal["model", "tool", "retrieval"]
    key: str
    value: dict[str, Any]


EXECUTION_ENTRY = Resource(
    name="execution_entry",
    plural="execution_entries",
    entity=ExecutionEntryRecord,
    references={"program_id": "program"},
    owner="program_id",
    pointers={"execution_id": "execution"},
    indexes=(("execution_id",), ("program_id", "id")),
    is_audited=False,
    is_internal=True,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessRecord(Row):
    """One executor. `beats` counts heartbeats; other hosts treat it as dead when the count stops."""  # noqa: E501  # the text of the schema

    owner: str
    beats: int = 0


PROCESS = Resource(
    name="process",
    plural="processes",
    entity=ProcessRecord,
    is_audited=False,
    is_internal=True,
)
