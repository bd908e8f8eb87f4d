"""The actions on the annotation queue."""

import random
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from dspex.errors import ConflictError, NotFoundError
from dspex.operations.evaluations.feedback_inputs import (
    DAY,
    AnnotationOf,
    AnnotationTask,
    CompleteAnnotation,
    QueueAnnotations,
    QueuedAnnotations,
    TakeAnnotation,
)
from dspex.operations.evaluations.feedback_records import (
    ANNOTATION,
    FEEDBACK,
    AnnotationRecord,
    FeedbackRecord,
)
from dspex.operations.evaluations.feedback_rows import feedback_changes, new_feedback
from dspex.operations.executions.records import EXECUTION
from dspex.operations.framework.action import action
from dspex.operations.framework.field_errors import invalid
from dspex.operations.framework.operations import Operations
from dspex.operations.framework.store import Insert, Match, Query, Update
from dspex.operations.programs.records import ProgramRecord
from dspex.operations.programs.stored_programs import find_program

_POOL: Final = 1000  # the newest executions that a sample is drawn from
_TRIES, _CANDIDATES = 20, 20
_PRESENT = Match((("is_null", False),))


@action(ANNOTATION, scope="write")
async def queue_annotations(operations: Operations, request: QueueAnnotations) -> QueuedAnnotations:
    """Put sampled, failed or low-scored executions of a program into the annotation queue.

    Raises:
        NotFoundError: the program does not exist.
        InvalidError: a value is out of range.
        ConflictError: somebody else put the same executions into it at the same time.
    """
    if not 0 < request.limit <= _POOL:
        raise invalid("limit", request.limit, f"a number from 1 to {_POOL}")
    program = await find_program(operations, request.program_id, request.program)
    keys = await _candidates(operations, program, request)
    rows = [
        AnnotationRecord(
            **operations.new_row(),
            execution_id=key,
            program_id=program.id,
            status="open",
            reason=request.reason,
        )
        for key in keys
    ]
    try:
        await operations.store.write(*map(Insert, rows))
    except ConflictError as error:
        raise ConflictError(
            "somebody else put the same executions into the queue at the same time; try again"
        ) from error
    where = {"program_id": program.id, "status": "open", "workspace": operations.workspace}
    count = await operations.store.count(ANNOTATION, where)
    return QueuedAnnotations(program=program, added=len(rows), open=count)


async def _candidates(
    operations: Operations, program: ProgramRecord, request: QueueAnnotations
) -> list[UUID]:
    """Return the executions to add, in the order of the queue."""
    where: dict[str, Any] = {"workspace": operations.workspace, "program_id": program.id}
    if request.reason == "low_scored":
        where |= {"score": Match((("lte", request.below),)), "execution_id": _PRESENT}
        query = Query(where=where, limit=_POOL, without=frozenset({"correction", "comment"}))
        rows = await operations.store.select(FEEDBACK, query)
        scored = [row for row in rows if row.score is not None and row.score < request.below]
        keys = list(dict.fromkeys(row.execution_id for row in scored))
    else:
        where["status"] = "failed" if request.reason == "failed" else "completed"
        unread = frozenset({"outputs", "error", "usage", "trace", "stages"})
        query = Query(where=where, limit=_POOL, without=unread)
        keys = [row.id for row in await operations.store.select(EXECUTION, query)]
    present = await operations.store.select(
        ANNOTATION, Query(where={"execution_id": tuple(keys)}, limit=_POOL)
    )
    queued = {row.execution_id for row in present}
    remaining = [key for key in keys if key is not None and key not in queued]
    if request.reason == "sampled":
        rng = random.Random(request.seed)  # noqa: S311  # a sample, not a secret
        remaining = rng.sample(remaining, min(request.limit, len(remaining)))
    return remaining[: request.limit]


@action(ANNOTATION, scope="execute")
async def take_annotation(operations: Operations, request: TakeAnnotation) -> AnnotationTask:
    """Take the next execution of the annotation queue; nobody else gets it meanwhile.

    Raises:
        NotFoundError: the queue is empty, or the program does not exist.
        InvalidError: the time is out of range.
    """
    if not 0 < request.seconds <= DAY:
        raise invalid("seconds", request.seconds, f"a number above 0, up to {DAY:g}")
    where: dict[str, Any] = {"workspace": operations.workspace, "execution_id": _PRESENT}
    if request.program_id is not None or request.program is not None:
        program = await find_program(operations, request.program_id, request.program)
        where["program_id"] = program.id
    for _ in range(_TRIES):
        rows = await _takeable(operations, where)
        if not rows:
            break
        for row in rows:
            if (task := await _take(operations, row, request.seconds)) is not None:
                return task
    raise NotFoundError(
        "no execution waits to be looked at; `queue_annotations` puts some into the queue"
    )


async def _takeable(operations: Operations, where: dict[str, Any]) -> Sequence[AnnotationRecord]:
    """Return annotations that were left for too long, or else open ones, oldest first."""
    left = {"status": "taken", "taken_until": Match((("before", operations.clock.now()),))}
    for state in (left, {"status": "open"}):
        query = Query(where={**where, **state}, limit=_CANDIDATES, oldest_first=True)
        if rows := await operations.store.select(ANNOTATION, query):
            return rows
    return []


async def _take(
    operations: Operations, row: AnnotationRecord, seconds: float
) -> AnnotationTask | None:
    """Take one annotation; None if somebody else was faster, or its execution is gone."""
    now = operations.clock.now()
    values = {
        "status": ANNOTATION.step("take", row.status),
        "taken_by": operations.actor.name,
        "taken_until": now + timedelta(seconds=seconds),
        "updated_at": now,
    }
    try:
        await operations.store.write(_update(row, values))
        execution = await operations.row(EXECUTION, row.execution_id)  # type: ignore[arg-type]
    except (ConflictError, NotFoundError):
        return None
    return AnnotationTask(annotation=await operations.row(ANNOTATION, row.id), execution=execution)


@action(ANNOTATION, scope="execute")
async def complete_annotation(
    operations: Operations, request: CompleteAnnotation
) -> FeedbackRecord:
    """Give feedback on an execution that the caller has taken from the queue.

    Raises:
        NotFoundError: the annotation or its execution does not exist.
        ConflictError: the caller does not have it, or no longer.
        InvalidError: a value does not fit.
    """
    row = await _mine(operations, request.annotation_id, "complete")
    execution = await operations.row(EXECUTION, row.execution_id)  # type: ignore[arg-type]
    feedback = await new_feedback(operations, execution, request, source="annotation")
    values = {"status": "completed", "feedback_id": feedback.id, "updated_at": feedback.created_at}
    changes = feedback_changes(operations, execution, feedback)
    await operations.store.write(_update(row, values), *changes)
    return feedback


@action(ANNOTATION, scope="execute")
async def skip_annotation(operations: Operations, request: AnnotationOf) -> AnnotationRecord:
    """Take an execution that the caller has taken out of the queue, without feedback.

    Raises:
        NotFoundError: the annotation does not exist.
        ConflictError: the caller does not have it, or no longer.
    """
    row = await _mine(operations, request.annotation_id, "skip")
    values = {"status": "skipped", "updated_at": operations.clock.now()}
    await operations.store.write(_update(row, values))
    return await operations.row(ANNOTATION, row.id)


async def _mine(operations: Operations, key: UUID, step: str) -> AnnotationRecord:
    row = await operations.row(ANNOTATION, key)
    ANNOTATION.step(step, row.status)
    if row.taken_by != operations.actor.name:
        raise ConflictError(f"the annotation is taken by {row.taken_by!r}; take another one")
    return row


def _update(row: AnnotationRecord, values: dict[str, Any]) -> Update:
    """Return a change that holds only if nobody else has changed the row meanwhile."""
    return Update(
        resource=ANNOTATION,
        id=row.id,
        values=values,
        statuses=(row.status,),
        expected={"lock_version": row.lock_version},
    )
