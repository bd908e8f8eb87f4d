"""Stored events and audit entries."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from dspex.operations.framework.resource import Resource, Row


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


EVENT = Resource(
    name="event",
    plural="events",
    entity=EventRecord,
    indexes=(("subject_id",),),
    is_audited=False,
    is_counted=False,
)
