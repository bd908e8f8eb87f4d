"""The rows of the first resources, as frozen values."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

SignatureStatus = Literal["draft", "active", "deprecated"]
ProgramStatus = Literal["draft", "initializing", "ready", "error", "archived"]
ExecutionStatus = Literal["pending", "running", "completed", "failed", "cancelled", "interrupted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SignatureRecord:
    """A stored signature; `definition` is what `Signature.to_dict` gives."""

    id: UUID
    workspace: str
    created_at: datetime
    updated_at: datetime
    lock_version: int = 0
    name: str
    version: int
    status: SignatureStatus
    inputs: dict[str, Any]
    outputs: dict[str, Any]
    instructions: str
    content_hash: str
    source: str
    definition: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramRecord:
    """A program that people know by name; what it is stands in its current version."""

    id: UUID
    workspace: str
    created_at: datetime
    updated_at: datetime
    lock_version: int = 0
    name: str
    status: ProgramStatus
    signature_id: UUID
    current_version_id: UUID | None
    module: str
    backend: str
    configuration: dict[str, Any]
    execution_count: int = 0
    last_executed_at: datetime | None = None
    error: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramVersionRecord:
    """One immutable content of a program."""

    id: UUID
    workspace: str
    created_at: datetime
    updated_at: datetime
    lock_version: int = 0
    program_id: UUID
    number: int
    content_hash: str
    definition: dict[str, Any]
    assignment: dict[str, Any]
    parent_id: UUID | None = None
    made_by: str = "user"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionRecord:
    """One run of a program version. `duration_ms` is the time of the run, `cost_usd` None where a price is unknown."""

    id: UUID
    workspace: str
    created_at: datetime
    updated_at: datetime
    lock_version: int = 0
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
