"""A large evaluation as parts: jobs that score some of its rows each, on as many workers as run."""

import asyncio
import itertools
import logging
import math
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from dspex.error_text import quantity
from dspex.errors import ConflictError, ExecutionError, NotFoundError, StorageError
from dspex.learning.evaluation import Dataset, Row
from dspex.learning.optimizers import Journal
from dspex.operations.evaluations.job_environment import JobEnvironment
from dspex.operations.evaluations.records import (
    EVALUATION,
    EVALUATION_PART,
    EvaluationPartRecord,
)
from dspex.operations.evaluations.row_scores import REPORTS, scored_rows
from dspex.operations.framework.store import Insert, Query
from dspex.operations.jobs import JobRun
from dspex.operations.jobs.job import ProgramJobRecord, job_changes, job_update, status_event
from dspex.operations.jobs.orphan_sweeper import live_workers
from dspex.operations.jobs.policy import serves

MOST_PARTS: Final = 64
_LARGE = 2_000  # rows from which an evaluation is divided where several workers run
_ROWS = 500  # of a part then, unless that would be more than MOST_PARTS
_LOOK = 0.25  # seconds between two looks at the rows of other jobs
_OPEN = ("queued", "running")
_log = logging.getLogger("dspex.jobs")


class EvaluationParts:
    """The parts of one evaluation, as its own job sees them.

    Their number is decided once, when the evaluation first runs. A part that ends while the
    evaluation is paused or cancelled starts again with it, and scores what is left.
    """

    def __init__(self, environment: JobEnvironment, run: JobRun, data: Dataset) -> None:
        """Take the run of the evaluation, and its rows."""
        self._environment = environment
        self._store = environment.store
        self._run = run
        self._data = data
        self._progress: dict[str, Any] = {}

    async def prepare(self, journal: Journal) -> bool:
        """Make sure that the parts exist and are due; return whether there are any.

        `journal` is that of the evaluation: one that has begun by itself goes on by itself.

        Raises:
            StorageError: the parts could not be written.
            ConflictError: the evaluation goes on elsewhere.
        """
        if not (parts := await self._parts()):
            count = await self._count()
            if count < 2 or await journal.entries():  # one part is no division
                return False
            parts = await self._create(count)
        await self._resume([part for part in parts if part.status == "failed"])
        return True

    async def rows(self) -> dict[int, Row]:
        """Wait until all parts are scored, and return the results by index.

        Raises:
            ExecutionError: a part has failed.
        """
        while True:
            parts = await self._parts()
            self._report(parts)
            for part in parts:
                if part.status == "failed":
                    error = part.error or {}
                    raise ExecutionError(
                        f"the rows {part.first_row} to {part.end_row - 1} could not be scored: "
                        f"{error.get('message', 'without a reason')}"
                    )
            due = [part for part in parts if part.status == "cancelled"]
            if all(part.status == "completed" for part in parts):
                rows = await self._scored(parts)
                # journals are deleted some time after the end of a job, however long a pause was
                due = [part for part in parts if not _rows_of(part) <= rows.keys()]
                if not due:
                    return rows
            await self._resume(due)
            await self._environment.clock.sleep(_LOOK)

    async def _scored(self, parts: Sequence[EvaluationPartRecord]) -> dict[int, Row]:
        rows: dict[int, Row] = {}
        for part in parts:
            journal = self._environment.open_journal(EVALUATION_PART, part.id, part.turn)
            rows |= scored_rows(await journal.entries(), self._data)
        return rows

    async def _parts(self) -> Sequence[EvaluationPartRecord]:
        query = Query(
            where={"evaluation_id": self._run.job.id}, limit=MOST_PARTS, oldest_first=True
        )
        return await self._store.select(EVALUATION_PART, query)

    async def _count(self) -> int:
        """Return into how many parts the rows are divided."""
        job, rows = self._run.job, len(self._data)
        if (count := job.configuration.get("parts")) is not None:
            return min(int(count), rows)
        if rows < _LARGE:
            return 1
        able = [
            worker
            for worker in await live_workers(self._store)
            if EVALUATION_PART.queue in worker.queues
            and serves(job.needs, worker.code, worker.revision)
        ]
        return min(math.ceil(rows / _ROWS), MOST_PARTS) if len(able) > 1 else 1

    async def _create(self, count: int) -> Sequence[EvaluationPartRecord]:
        job, now = self._run.job, self._environment.clock.now()
        assert isinstance(job, ProgramJobRecord)  # noqa: S101  # an evaluation is one
        bounds = [len(self._data) * number // count for number in range(count + 1)]
        parts = [
            EvaluationPartRecord(
                id=self._environment.new_id(),
                workspace=job.workspace,
                created_at=now,
                updated_at=now,
                evaluation_id=job.id,
                first_row=first,
                end_row=end,
                program_id=job.program_id,
                program_version_id=job.program_version_id,
                dataset_id=job.dataset_id,
                metrics=job.metrics,
                judge_version_id=job.judge_version_id,
                judge_model=job.judge_model,
                configuration=job.configuration,
                needs=job.needs,
                progress={},
                actor=job.actor,
            )
            for first, end in itertools.pairwise(bounds)
        ]
        ours = job_update(
            EVALUATION, job.id, {"updated_at": now}, turn=job.turn, statuses=("running",)
        )
        events = [
            status_event(part, EVALUATION_PART, id=self._environment.new_id(), now=now)
            for part in parts
        ]
        await self._store.write(ours, *map(Insert, parts), *events)
        return parts

    async def _resume(self, parts: Sequence[EvaluationPartRecord]) -> None:
        for part in parts:
            now = self._environment.clock.now()
            values = {
                "status": EVALUATION_PART.step("resume", part.status),
                "attempts": 0,
                "retry_at": None,
                "error": None,
                "finished_at": None,
                "updated_at": now,
            }
            changes = job_changes(
                EVALUATION_PART,
                part,
                values,
                id=self._environment.new_id(),
                now=now,
                begins_turn=True,
            )
            try:
                await self._store.write(*changes)
            except (ConflictError, NotFoundError):
                _log.debug("part %s of evaluation %s is not due now", part.id, self._run.job.id)

    def _report(self, parts: Sequence[EvaluationPartRecord]) -> None:
        """Report the sums of the parts if they have changed."""
        done = sum(part.progress.get("done", 0) for part in parts)
        failed = sum(part.progress.get("failed", 0) for part in parts)
        total = 0.0
        for part in parts:
            scored = part.progress.get("done", 0) - part.progress.get("failed", 0)
            total += scored * (part.progress.get("mean") or 0.0)
        progress = {
            "done": done,
            "of": len(self._data),
            "failed": failed,
            "mean": total / (done - failed) if done > failed else None,
            "parts": len(parts),
        }
        if _steps(progress) != _steps(self._progress):
            self._progress = progress
            rows = quantity(len(self._data), "row")
            self._run.report(f"{done:,} of {rows} in {len(parts)} parts", **progress)


def _rows_of(part: EvaluationPartRecord) -> set[int]:
    return set(range(part.first_row, part.end_row))


def _steps(progress: Mapping[str, Any]) -> tuple[int, bool]:
    """Return what changes with each twentieth of the rows and with the last: a reason to report."""
    done, of = progress.get("done", 0), progress.get("of", 0)
    return done * REPORTS // max(1, of), done == of


@asynccontextmanager
async def watched(
    environment: JobEnvironment, run: JobRun, part: EvaluationPartRecord
) -> AsyncIterator[None]:
    """End the run of a part inside the block once its evaluation is paused or has ended.

    The part is cancelled then; if the evaluation goes on, it starts the part again.
    """
    task = asyncio.create_task(_watch(environment, run, part))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _watch(environment: JobEnvironment, run: JobRun, part: EvaluationPartRecord) -> None:
    query = Query(where={"id": part.evaluation_id}, limit=1, without=frozenset({"rows"}))
    while True:
        try:
            evaluations = await environment.store.select(EVALUATION, query)
            if not evaluations or evaluations[0].status not in _OPEN:
                await _cancel(environment, part)
                run.stop()
                return
        except StorageError as error:
            _log.warning("part %s cannot look at its evaluation: %s", part.id, error.message)
        await environment.clock.sleep(_LOOK)


async def _cancel(environment: JobEnvironment, part: EvaluationPartRecord) -> None:
    now = environment.clock.now()
    values = {
        "status": EVALUATION_PART.step("cancel", "running"),
        "finished_at": now,
        "updated_at": now,
    }
    changes = job_changes(
        EVALUATION_PART,
        part,
        values,
        id=environment.new_id(),
        now=now,
        message="its evaluation does not run any more",
        statuses=("running",),
    )
    try:
        await environment.store.write(*changes)
    except (ConflictError, NotFoundError):
        _log.debug("part %s goes on elsewhere, or is deleted", part.id)
