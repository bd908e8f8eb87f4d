"""Stored events and audit entries."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from dspex.operations.resources.resource import Resource, Row


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRecord(Row):
    """An event about `subject_id`; `topic` is "execution", "optimization" or "evaluation".

    Events are appended in the transaction of the change that they report. The database knows their
    commit order; see `EventLog`.
    """

    topic: str
    subject_id: UUID
    program_id: UUID | None = None
    payload: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry(Row):
    """One audited change: its actor, action and row, and the attributes before and after."""

    actor: str
    action: str
    resource: str
    resource_id: UUID
    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None


EVENT = Resource(
    name="event",
    plural="events",
    entity=EventRecord,
    indexes=(("subject_id",),),
    is_audited=False,
)
AUDIT_ENTRY = Resource(
    name="audit_entry",
    plural="audit_entries",
    entity=AuditEntry,
    indexes=(("workspace", "id"), ("resource_id",)),
    reading="admin",
    is_audited=False,
)
