"""What people say of executions, and the executions that wait to be looked at."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from dspex.operations.framework.attribute_kinds import Probability
from dspex.operations.framework.resource import Resource, Row, Transition

_POINTERS = {"execution_id": "execution"}
_INDEXES = (("execution_id",), ("program_id", "id"), ("workspace", "id"))


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackRecord(Row):
    """What somebody says of an execution: a score, a label, a correction, a comment.

    `correction` has the outputs that the execution should have had. It comes from the holder of a
    key, from an end user with a link, or from the annotation queue. `link_id` is the link that it
    came by: later feedback by one link replaces the earlier. It is deleted with its execution.
    """

    execution_id: UUID | None
    program_id: UUID
    program_version_id: UUID
    source: Literal["key", "link", "annotation"]
    actor: str
    score: Probability | None = None
    label: str | None = None
    correction: dict[str, Any] | None = None
    comment: str | None = None
    link_id: UUID | None = None


FEEDBACK = Resource(
    name="feedback",
    plural="feedbacks",
    entity=FeedbackRecord,
    references={"program_id": "program", "program_version_id": "program_version"},
    owner="program_id",
    pointers=_POINTERS,
    unique=(("workspace", "link_id"),),
    indexes=(*_INDEXES, ("program_version_id",)),
    unsorted=("label", "comment"),
    is_audited=False,  # audited without what was said, because the audit trail stays
)

AnnotationReason = Literal["sampled", "failed", "low_scored"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnotationRecord(Row):
    """An execution that waits for somebody who looks at it and gives feedback.

    Whoever takes it has it until `taken_until`; after that, others may take it. `feedback_id` is
    the feedback that completed it. It is deleted with its execution.
    """

    execution_id: UUID | None
    program_id: UUID
    status: Literal["open", "taken", "completed", "skipped"]
    reason: AnnotationReason
    taken_by: str | None = None
    taken_until: datetime | None = None
    feedback_id: UUID | None = None


ANNOTATION = Resource(
    name="annotation",
    plural="annotations",
    entity=AnnotationRecord,
    transitions={
        "take": Transition(("open", "taken"), "taken"),
        "complete": Transition(("taken",), "completed"),
        "skip": Transition(("taken",), "skipped"),
    },
    references={"program_id": "program"},
    owner="program_id",
    pointers={**_POINTERS, "feedback_id": "feedback"},
    unique=(("execution_id",),),
    indexes=(*_INDEXES, ("feedback_id",), ("status", "workspace", "id")),
)
