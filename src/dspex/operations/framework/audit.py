"""The audit trail."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from dspex.operations.framework.resource import Resource, Row


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry(Row):
    """One audited change: its actor, action and row, and the attributes before and after."""

    actor: str
    action: str
    resource: str
    resource_id: UUID
    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None


AUDIT_ENTRY = Resource(
    name="audit_entry",
    plural="audit_entries",
    entity=AuditEntry,
    indexes=(("workspace", "id"), ("resource_id",)),
    reading="admin",
    is_audited=False,
)
