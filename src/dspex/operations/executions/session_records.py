"""Stored conversations."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from dspex.operations.framework.resource import Resource, Row


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRecord(Row):
    """A conversation. `summary` stands for the turns that were left out.

    `ttl` seconds after the last turn, at `expires_at`, it expires and is deleted.
    """

    ttl: float | None = None
    summary: str = ""
    turn_count: int = 0
    expires_at: datetime | None = None


SESSION = Resource(
    name="session",
    plural="sessions",
    entity=SessionRecord,
    indexes=(("workspace", "id"), ("expires_at",)),
    is_audited=False,  # its texts are data of executions
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionTurnRecord(Row):
    """One turn of a session: the inputs and outputs of an execution, or of an action."""

    session_id: UUID
    execution_id: UUID | None = None
    inputs: dict[str, Any]
    outputs: dict[str, Any]


SESSION_TURN = Resource(
    name="session_turn",
    plural="session_turns",
    entity=SessionTurnRecord,
    references={"session_id": "session"},
    pointers={"execution_id": "execution"},
    owner="session_id",
    indexes=(("session_id", "id"), ("execution_id",)),
    is_audited=False,
)
