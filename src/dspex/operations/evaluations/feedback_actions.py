"""The actions on feedback: giving it, and what follows from it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from statistics import fmean
from typing import Any, Final
from uuid import UUID

from dspex.learning.statistics import Interval, Sample, mean_interval, t_interval
from dspex.operations.datasets.actions import MOST_ROWS, CreateDataset, store_dataset
from dspex.operations.datasets.records import DATASET, DatasetRecord
from dspex.operations.evaluations.feedback_inputs import (
    DAY,
    CreateFeedback,
    DatasetFromFeedback,
    FeedbackLink,
    FeedbackLinkOf,
    FeedbackOf,
    FeedbackScores,
)
from dspex.operations.evaluations.feedback_links import LinkClaims
from dspex.operations.evaluations.feedback_records import FEEDBACK, FeedbackRecord
from dspex.operations.evaluations.feedback_rows import feedback_changes, new_feedback
from dspex.operations.executions.records import EXECUTION, ExecutionRecord
from dspex.operations.framework.action import action
from dspex.operations.framework.field_errors import invalid
from dspex.operations.framework.heavy_work import HeavyWork
from dspex.operations.framework.operations import Operations
from dspex.operations.framework.store import Match, Query
from dspex.operations.programs.records import PROGRAM_VERSION
from dspex.operations.programs.stored_programs import find_program
from dspex.operations.tenancy.vault import Vault

FEEDBACK_PATH: Final = "/feedback"
_SHORTEST_S, _LONGEST_S = 60.0, 90 * DAY
_PAGE, _MOST = 500, 20_000
_RESAMPLED: Final = 1000  # above so many scores, Student's interval is the bootstrap's


@action(FEEDBACK, scope="execute")
async def create_feedback(operations: Operations, request: CreateFeedback) -> FeedbackRecord:
    """Say something of an execution that has ended: a score, a label, a correction, a comment.

    Raises:
        NotFoundError: the execution does not exist.
        ConflictError: it has not ended.
        InvalidError: a value does not fit.
    """
    execution = await operations.row(EXECUTION, request.execution_id)
    row = await new_feedback(operations, execution, request, source="key")
    await operations.store.write(*feedback_changes(operations, execution, row))
    return row


@action(FEEDBACK, scope="execute")
async def feedback_link(operations: Operations, request: FeedbackLinkOf) -> FeedbackLink:
    """Return a link by which an end user gives feedback on an execution, without a key.

    Raises:
        NotFoundError: the execution does not exist.
        InvalidError: the time is too short or too long.
    """
    if not _SHORTEST_S <= request.seconds <= _LONGEST_S:
        raise invalid(
            "seconds", request.seconds, f"a number from {_SHORTEST_S:g} to {_LONGEST_S:g}"
        )
    execution = await operations.row(EXECUTION, request.execution_id)
    now = operations.clock.now().replace(microsecond=0)
    claims = LinkClaims(
        workspace=operations.workspace,
        execution_id=execution.id,
        link_id=operations.new_id(),
        expires_at=now + timedelta(seconds=request.seconds),
    )
    token = claims.token(operations.services[Vault])
    return FeedbackLink(
        execution_id=execution.id,
        link_id=claims.link_id,
        path=f"{FEEDBACK_PATH}?link={token}",
        expires_at=claims.expires_at,
    )


@action(FEEDBACK, scope="read")
async def feedback_scores(operations: Operations, request: FeedbackOf) -> FeedbackScores:
    """Return the mean score of feedback by program version, with its interval.

    Raises:
        NotFoundError: the program does not exist.
    """
    program = await find_program(operations, request.program_id, request.program)
    query = Query(
        where={"program_id": program.id, "execution_id": Match((("is_null", False),))},
        limit=_PAGE,
        without=frozenset({"correction", "comment"}),
    )
    versions: dict[UUID, _VersionFeedback] = {}
    count = 0
    while count < _MOST and (rows := await operations.list(FEEDBACK, query)):
        for row in rows:
            versions.setdefault(row.program_version_id, _VersionFeedback()).add(row)
        count += len(rows)
        query = replace(query, after=rows[-1].id)
    where = {"id": tuple(versions)}
    records = await operations.store.select(PROGRAM_VERSION, Query(where=where, limit=_PAGE))
    figures = await operations.services[HeavyWork].run(
        lambda _: [
            {
                "version": record.number,
                "program_version_id": str(record.id),
                **versions[record.id].figures(),
            }
            for record in sorted(records, key=lambda record: -record.number)
        ]
    )
    return FeedbackScores(program=program, versions=figures, is_complete=count < _MOST)


@dataclass(slots=True)
class _VersionFeedback:
    """The feedback on one version: scores by execution, and labels."""

    scores: dict[UUID | None, list[float]] = field(default_factory=dict)
    labels: Counter[str] = field(default_factory=Counter)

    def add(self, row: FeedbackRecord) -> None:
        if row.score is not None:
            self.scores.setdefault(row.execution_id, []).append(row.score)
        if row.label is not None:
            self.labels[row.label] += 1

    def figures(self) -> dict[str, Any]:
        means = [fmean(scores) for scores in self.scores.values()]
        interval = _interval(means)
        return {
            "executions": len(means),
            "mean": fmean(means) if means else None,
            "interval": [interval.low, interval.high] if means else None,
            "labels": dict(self.labels.most_common()),
        }


def _interval(scores: Sequence[float]) -> Interval:
    if len(scores) <= _RESAMPLED or set(scores) <= {0.0, 1.0}:
        return mean_interval(scores)
    interval = t_interval(Sample.of(scores))
    return Interval(max(0.0, interval.low), min(1.0, interval.high))


@action(DATASET, scope="write")
async def dataset_from_feedback(
    operations: Operations, request: DatasetFromFeedback
) -> DatasetRecord:
    """Store the corrected executions of a program as a data set with the expected outputs.

    Raises:
        NotFoundError: the program does not exist.
        InvalidError: no execution was corrected, or a value is out of range.
    """
    program = await find_program(operations, request.program_id, request.program)
    if not 0 < request.limit <= MOST_ROWS:
        raise invalid("limit", request.limit, f"a number from 1 to {MOST_ROWS}")
    query = Query(
        where={
            "program_id": program.id,
            "correction": Match((("is_null", False),)),
            "execution_id": Match((("is_null", False),)),
        },
        limit=_PAGE,
    )
    rows: dict[UUID, dict[str, Any]] = {}
    while len(rows) < request.limit and (page := await operations.list(FEEDBACK, query)):
        newest: dict[UUID, Any] = {}
        for each in page:
            newest.setdefault(each.execution_id, each.correction)
        executions = await _executions(operations, [key for key in newest if key not in rows])
        rows |= {
            key: {**row.inputs, **(row.outputs or {}), **newest[key]}
            for key, row in executions.items()
        }
        query = replace(query, after=page[-1].id)
    if not rows:
        raise invalid(
            "program", program.name, "a program with corrections of executions with stored inputs"
        )
    values = list(rows.values())[: request.limit]
    data = CreateDataset(name=request.name, rows=values, split=request.split)
    return await store_dataset(operations, data, source=f"feedback on {program.name}")


async def _executions(operations: Operations, keys: Sequence[UUID]) -> dict[UUID, ExecutionRecord]:
    """Return the executions with these ids whose inputs are stored, in this order."""
    if not keys:
        return {}
    query = Query(where={"id": tuple(keys)}, limit=len(keys), without=frozenset({"trace"}))
    rows = {row.id: row for row in await operations.store.select(EXECUTION, query)}
    return {key: rows[key] for key in keys if key in rows and rows[key].payloads != "withheld"}
