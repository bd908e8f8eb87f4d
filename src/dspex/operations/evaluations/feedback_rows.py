"""Feedback as rows: checked, redacted, and by a link at most one."""

from dataclasses import replace
from typing import Any, Final

from dspex.error_text import suggest
from dspex.errors import ConflictError, InvalidError, NotFoundError
from dspex.operations.datasets.row_errors import output_errors
from dspex.operations.evaluations.feedback_inputs import FeedbackValues
from dspex.operations.evaluations.feedback_links import LinkClaims
from dspex.operations.evaluations.feedback_records import FEEDBACK, FeedbackRecord
from dspex.operations.executions.executor import Executor
from dspex.operations.executions.records import ENDED, EXECUTION, ExecutionRecord
from dspex.operations.framework.access import DEFAULT_WORKSPACE, Actor
from dspex.operations.framework.attribute_kinds import Probability
from dspex.operations.framework.field_errors import invalid
from dspex.operations.framework.heavy_work import HeavyWork
from dspex.operations.framework.json_size import size_of
from dspex.operations.framework.operations import Operations
from dspex.operations.framework.policies import OWN_WORKSPACE
from dspex.operations.framework.store import Change, Insert, Query, Update
from dspex.operations.programs.stored_programs import find_program, program_value
from dspex.operations.tenancy.records import WORKSPACE

LARGEST_CORRECTION: Final = 256 * 1024
_LONGEST: Final = {"label": 200, "comment": 10_000}


async def new_feedback(
    operations: Operations, execution: ExecutionRecord, values: FeedbackValues, **columns: Any
) -> FeedbackRecord:
    """Return feedback on an execution as a row to store.

    Raises:
        ConflictError: the execution has not ended.
        InvalidError: a value does not fit, or nothing is said.
    """
    if execution.status not in ENDED:
        raise ConflictError(f"the execution is {execution.status}: feedback needs it to have ended")
    _check(values)
    if values.correction is not None:
        await _check_correction(operations, execution, values.correction)
    redact = operations.services[Executor].recorder.redacted_outputs
    texts = {name: text for name in _LONGEST if (text := getattr(values, name))}
    stored = redact(texts) if texts else {}
    return FeedbackRecord(
        **operations.new_row(),
        execution_id=execution.id,
        program_id=execution.program_id,
        program_version_id=execution.program_version_id,
        actor=operations.actor.name,
        score=None if values.score is None else Probability(values.score),
        label=stored.get("label"),
        comment=stored.get("comment"),
        correction=dict(redact(values.correction)) if values.correction else None,
        **columns,
    )


def feedback_changes(
    operations: Operations, execution: ExecutionRecord, row: FeedbackRecord
) -> tuple[Change, ...]:
    """Return the changes that store feedback, and audit it without what was said."""
    recorder = operations.services[Executor].recorder
    return Insert(row), recorder.audit_entry(
        execution, operations.action, actor=operations.actor.name
    )


async def feedback_by_link(
    operations: Operations, claims: LinkClaims, values: FeedbackValues
) -> FeedbackRecord:
    """Store the feedback of an end user, in place of an earlier one by the same link.

    Raises:
        NotFoundError: the execution or its workspace is gone.
        ConflictError: the execution has not ended.
        InvalidError: a value does not fit.
    """
    user = Operations(
        operations.dependencies,
        actor=Actor(name="link", workspace=claims.workspace, scopes=frozenset()),
        action="feedback_by_link",
        policies=(OWN_WORKSPACE,),
    )
    if not await _is_open(user):
        raise NotFoundError("there is no execution for this link")
    execution = await user.store.get(EXECUTION, workspace=claims.workspace, id=claims.execution_id)
    if execution is None:
        raise NotFoundError("there is no execution for this link")
    row = await new_feedback(user, execution, values, source="link", link_id=claims.link_id)
    if await _replace(user, row):
        return row
    try:
        await user.store.write(*feedback_changes(user, execution, row))
    except ConflictError:  # the same link was used at the same time
        if not await _replace(user, row):
            raise
    return row


async def _is_open(operations: Operations) -> bool:
    if operations.workspace == DEFAULT_WORKSPACE:
        return True
    where = {"name": operations.workspace, "status": "active"}
    return bool(await operations.store.select(WORKSPACE, Query(where=where, limit=1)))


async def _replace(operations: Operations, row: FeedbackRecord) -> bool:
    """Write what `row` says over the feedback by the same link; return whether there is one."""
    where = {"workspace": row.workspace, "link_id": row.link_id}
    earlier = await operations.store.get(FEEDBACK, **where)
    if earlier is None:
        return False
    names = ("score", "label", "correction", "comment", "updated_at")
    values = {name: getattr(row, name) for name in names}
    await operations.store.write(Update(resource=FEEDBACK, id=earlier.id, values=values))
    return True


def _check(values: FeedbackValues) -> None:
    if all(getattr(values, name) in {None, ""} for name in ("score", "label", "comment")) and not (
        values.correction
    ):
        raise InvalidError("give at least one of score, label, correction and comment")
    if values.score is not None and not 0 <= values.score <= 1:
        raise invalid("score", values.score, "a number from 0 (bad) to 1 (good)")
    for name, longest in _LONGEST.items():
        text = getattr(values, name)
        if text is not None and (len(text) > longest or "\0" in text):
            raise invalid(name, text, f"a text of at most {longest} characters, without U+0000")
    if size_of(values.correction) > LARGEST_CORRECTION:
        raise invalid("correction", "...", f"at most {LARGEST_CORRECTION} bytes of JSON")


async def _check_correction(
    operations: Operations, execution: ExecutionRecord, correction: dict[str, Any]
) -> None:
    """Check a correction against the outputs of the version that was executed."""
    program = await find_program(operations, execution.program_id)
    executed = replace(program, current_version_id=execution.program_version_id)
    signature = (await program_value(operations, executed)).signature
    outputs = list(signature.output_fields)
    for name, value in correction.items():
        if name not in outputs:
            message = f"there is no such output.{suggest(name, outputs)} It has: "
            raise invalid(
                f"correction.{name}", value, "an output", message=message + ", ".join(outputs)
            )
    most = operations.services[Executor].input_limits
    errors = await operations.services[HeavyWork].run(
        lambda work: output_errors(signature, correction, work=work, most=most)
    )
    if errors:
        text = "; ".join(f"{error.path}: {error.message}" for error in errors)
        raise InvalidError(f"the correction does not fit: {text}", errors=errors)
