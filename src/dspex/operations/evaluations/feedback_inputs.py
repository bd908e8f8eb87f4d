"""The inputs and results of actions on feedback and annotations."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from dspex.operations.datasets.actions import Split
from dspex.operations.evaluations.feedback_records import AnnotationReason, AnnotationRecord
from dspex.operations.executions.records import ExecutionRecord
from dspex.operations.programs.records import ProgramRecord

DAY = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackValues:
    """What somebody says; at least one of the four.

    `score` is from 0 to 1; `label` is a word such as "good". `correction` has the outputs that
    should have been, by name; outputs that it leaves out were right. `comment` is any text.
    """

    score: float | None = None
    label: str | None = None
    correction: dict[str, Any] | None = None
    comment: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateFeedback(FeedbackValues):
    """Say something of an execution that has ended.

    `score` is from 0 to 1; `label` is a word such as "good". `correction` has the outputs that
    should have been, by name; outputs that it leaves out were right. `comment` is any text. At
    least one of the four is needed.
    """

    execution_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackLinkOf:
    """Ask for a link to the feedback of an execution; it expires after `seconds` (a week)."""

    execution_id: UUID
    seconds: float = 7 * DAY


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackLink:
    """A link for an end user, who needs no key: `path` on this server, a page and a POST.

    It is bound to the execution, the workspace and its expiry. Later feedback by one link replaces
    the earlier.
    """

    execution_id: UUID
    link_id: UUID
    path: str
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackOf:
    """A program, by id or by name."""

    program_id: UUID | None = None
    program: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackScores:
    """The mean score of each version of a program, the newest version first.

    Each version has `version`, `program_version_id`, `executions` (with a score), `mean`,
    `interval` and `labels` (how often each was given). An execution with several scores counts
    once, with their mean. `is_complete` is false if there is more feedback than is read at once:
    the newest 20,000.
    """

    program: ProgramRecord
    versions: list[Any]
    is_complete: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetFromFeedback:
    """Store the executions of a program that were corrected as rows of a data set, newest first.

    A row has the inputs of the execution and the expected outputs: those of its newest correction,
    and the others as the program gave them. Executions whose inputs are not stored are skipped.
    `limit` is the maximum number of rows; `split` is what they are for.
    """

    name: str
    program_id: UUID | None = None
    program: str | None = None
    limit: int = 1000
    split: Split = "train"


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueAnnotations:
    """Put at most `limit` executions of a program into the annotation queue.

    `reason` is "sampled" (a random draw from the newest 1000 that completed), "failed" (the newest
    failed ones) or "low_scored" (those with a low score of feedback). The same `seed` draws the
    same executions. A score is low `below` this figure. Executions that are or were in the queue
    are left out.
    """

    program_id: UUID | None = None
    program: str | None = None
    reason: AnnotationReason = "sampled"
    limit: int = 20
    seed: int = 0
    below: float = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuedAnnotations:
    """How many executions were added to the annotation queue, and how many are open there."""

    program: ProgramRecord
    added: int
    open: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeAnnotation:
    """Take the execution that has waited longest in the annotation queue, for `seconds`."""

    seconds: float = 1800.0
    program_id: UUID | None = None
    program: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnotationTask:
    """What an annotator has taken: the place in the queue, and the execution to look at."""

    annotation: AnnotationRecord
    execution: ExecutionRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnotationOf:
    """An annotation that the caller has taken."""

    annotation_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class CompleteAnnotation(FeedbackValues):
    """Give feedback on an execution that was taken; see `create_feedback` for the values."""

    annotation_id: UUID
