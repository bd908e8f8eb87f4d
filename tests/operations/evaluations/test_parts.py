"""Evaluations whose rows several workers share: real workers, on both databases."""

import os
import signal
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from dspex.bootstrap import new_id
from dspex.clock import SystemClock
from dspex.errors import InvalidError
from dspex.execution.backends import Backends
from dspex.execution.context import RunContext
from dspex.learning.evaluation import Dataset
from dspex.learning.optimizers.journal import MemoryJournal
from dspex.operations.domain import DOMAIN
from dspex.operations.evaluations.inputs import CreateEvaluation
from dspex.operations.evaluations.job_environment import JobEnvironment
from dspex.operations.evaluations.parts import EvaluationParts
from dspex.operations.evaluations.records import EVALUATION_PART
from dspex.operations.framework.store import Insert, Query, Store, Update
from dspex.operations.jobs import JobRun
from dspex.operations.jobs.inputs import JobRef
from dspex.operations.jobs.worker_registry import new_worker_row
from dspex.operations.storage.tables import ENTRIES
from dspex.settings import Settings
from tests.operations.jobs.conftest import Opened, open_store
from tests.operations.jobs.rows import a_job
from tests.operations.jobs.test_workers import ROWS, World, journal, world
from tests.support.waiting import eventually

__all__ = ["open_store"]
UNLIKE = {"seconds", "trace_id"}  # what differs between two runs of the same row


async def divided_job(at: World, *, parts: int, metric: str = "exact_match") -> Any:
    input = CreateEvaluation(
        program="qa",
        dataset="questions",
        metrics=[metric],
        configuration={"concurrency": 1, "parts": parts},
    )
    return await at.act("create_evaluation", input)


async def parts_of(at: World, job: Any) -> list[Any]:
    query = Query(where={"evaluation_id": job.id}, oldest_first=True, limit=100)
    return list(await at.store.select(EVALUATION_PART, query))


def alike(rows: list[Any]) -> list[Any]:
    return [{name: row[name] for name in row if name not in UNLIKE} for row in rows]


async def is_whole(at: World, job: Any) -> None:
    """Check that the evaluation has every row once, and each part each of its rows once."""
    row = await at.until_status(job, "completed", "failed", "cancelled")
    assert row.status == "completed", row.error
    assert [result["index"] for result in row.rows] == list(range(len(ROWS)))
    assert (await at.statuses(job)).count("completed") == 1
    counts: Counter[int] = Counter()
    for part in await parts_of(at, job):
        entries = await journal(at, part)
        counts.update(entry["index"] for entry in entries if entry["kind"] == "row")
    assert counts == Counter(range(len(ROWS)))


@pytest.mark.full
async def test_workers_share_the_rows_of_an_evaluation_and_survive_a_kill(
    on_each_database: Settings, tmp_path: Path
) -> None:
    async with world(on_each_database, tmp_path, seconds=0.1) as at:
        with ExitStack() as stack:
            children = [stack.enter_context(at.worker()) for _ in range(3)]
            await at.until_workers(3)
            whole = await at.job()
            await at.until_status(whole, "completed")
            at.model.gate.clear()  # so that no part ends before all have begun
            job = await divided_job(at, parts=3)

            async def are_shared() -> bool:
                parts = await parts_of(at, job)
                return len(parts) == 3 and all(part.status == "running" for part in parts)

            await eventually(are_shared)
            parts = await parts_of(at, job)
            assert [(part.first_row, part.end_row) for part in parts] == [(0, 6), (6, 13), (13, 20)]
            assert len({part.worker for part in parts}) == 3
            holder = next(
                worker for worker in await at.workers() if str(worker.id) == parts[1].worker
            )
            os.kill(holder.pid, signal.SIGKILL)
            at.model.gate.set()
            await is_whole(at, job)
            row, undivided = await at.row(job), await at.row(whole)
            assert alike(row.rows) == alike(undivided.rows)
            assert (row.mean, row.interval) == (undivided.mean, undivided.interval)
            assert (row.progress["done"], row.progress["of"]) == (20, 20)
            # each part may have had one row under way at the kill
            assert sum(at.model.asked.values()) <= 2 * len(ROWS) + 3
            assert len(children) == 3


@pytest.mark.full
async def test_the_parts_pause_go_on_and_end_with_their_evaluation(
    on_each_database: Settings, tmp_path: Path
) -> None:
    async with world(on_each_database, tmp_path, seconds=0.1) as at:

        async def asks() -> bool:
            return at.model.open > 0

        async def is_silent() -> bool:
            return at.model.open == 0

        async def are(status: str) -> bool:
            return {part.status for part in await parts_of(at, job)} == {status}

        with at.worker():
            job = await divided_job(at, parts=2)
            await eventually(asks)
            await at.act("pause_evaluation", JobRef(id=job.id))
            await eventually(is_silent, within=2.0)
            calls = sum(at.model.asked.values())
            assert calls < len(ROWS)
            await eventually(lambda: are("cancelled"))
            await at.act("resume_evaluation", JobRef(id=job.id))
            await is_whole(at, job)
            # each turn of a part may end while it asks for a row
            turns = sum(part.turn for part in await parts_of(at, job))
            assert sum(at.model.asked.values()) <= len(ROWS) + turns
            job = await divided_job(at, parts=2)
            at.model.seconds = 60.0
            await eventually(asks)
            await at.act("cancel_evaluation", JobRef(id=job.id))
            await eventually(is_silent, within=2.0)
            await eventually(lambda: are("cancelled"))


@pytest.mark.full
async def test_a_part_whose_journal_was_deleted_during_a_long_pause_is_scored_again(
    on_each_database: Settings, tmp_path: Path
) -> None:
    """Journals are deleted some time after the end of their job, and a part has ended earlier."""
    async with world(on_each_database, tmp_path, seconds=0.1) as at:
        with at.worker():
            job = await divided_job(at, parts=2)

            async def has_ended() -> bool:
                parts = await parts_of(at, job)
                return bool(parts) and parts[0].status == "completed"

            await eventually(has_ended)
            await at.act("pause_evaluation", JobRef(id=job.id))
            first = (await parts_of(at, job))[0]
            async with at.services.data.writing() as connection:
                await connection.execute(ENTRIES.delete().where(ENTRIES.c.job_id == first.id))
            await at.act("resume_evaluation", JobRef(id=job.id))
            await is_whole(at, job)


@pytest.mark.full
async def test_an_evaluation_fails_with_its_part_and_can_be_resumed(
    on_each_database: Settings, tmp_path: Path
) -> None:
    metrics = tmp_path / "metrics_of_mine.py"
    metrics.write_text("def strict(example, prediction):\n    raise ValueError('not today')\n")
    async with world(on_each_database, tmp_path, seconds=0.01) as at:
        with at.worker():
            job = await divided_job(at, parts=2, metric="metrics_of_mine:strict")
            row = await at.until_status(job, "failed", "completed")
            assert row.status == "failed"
            assert "rows 0 to 9" in row.error["message"]
            assert "not today" in row.error["message"]

            async def have_ended() -> bool:
                return not {part.status for part in await parts_of(at, job)} & {"queued", "running"}

            await eventually(have_ended)
            calls = sum(at.model.asked.values())
            await at.act("resume_evaluation", JobRef(id=job.id))
            row = await at.until_status(job, "failed", "completed")
            assert row.status == "failed"
            assert sum(at.model.asked.values()) <= len(ROWS)
            assert calls <= len(ROWS)


@pytest.mark.full
async def test_the_number_of_parts_is_checked(on_each_database: Settings, tmp_path: Path) -> None:
    async with world(on_each_database, tmp_path) as at:
        wrong: list[Any] = [0, 65, "two"]
        for parts in wrong:
            with pytest.raises(InvalidError, match=r"configuration\.parts"):
                await divided_job(at, parts=parts)


async def prepared(
    store: Store, *, rows: int, workers: int, queues: tuple[str, ...], **configuration: Any
) -> list[tuple[int, int]]:
    """The bounds of the parts of a new evaluation while this many workers run."""
    unused: Any = None  # nothing is run
    environment = JobEnvironment(
        store=store,
        backends=Backends({}),
        context=RunContext(),
        context_provider=unused,
        open_journal=unused,
        clock=SystemClock(),
        new_id=new_id,
    )
    for number in range(workers):
        row = new_worker_row(
            new_id(),
            clock=SystemClock(),
            host="here",
            pid=number,
            queues=list(queues),
            code=lambda: ("", ""),
        )
        await store.write(Insert(row))
    job = await a_job(store, configuration=configuration)
    running = Update(resource=DOMAIN["evaluation"], id=job.id, values={"status": "running"})
    await store.write(running)
    data = Dataset.from_rows([{"question": "q", "answer": "a"}] * rows)
    parts = EvaluationParts(environment, JobRun(job, lambda: None), data)
    await parts.prepare(MemoryJournal())
    query = Query(where={"evaluation_id": job.id}, oldest_first=True, limit=100)
    return [(part.first_row, part.end_row) for part in await store.select(EVALUATION_PART, query)]


BOTH = ("evaluation", "evaluation_part")


@pytest.mark.full
@pytest.mark.parametrize(
    ("rows", "workers", "queues", "configuration", "count"),
    [
        (1_999, 2, BOTH, {}, 0),
        (2_000, 1, BOTH, {}, 0),
        (2_000, 2, BOTH, {}, 4),
        (2_001, 2, BOTH, {}, 5),
        (2_000, 2, ("evaluation",), {}, 0),
        (100_000, 3, BOTH, {}, 64),
        (10, 0, BOTH, {"parts": 3}, 3),
        (2, 0, BOTH, {"parts": 3}, 2),
        (5_000, 2, BOTH, {"parts": 1}, 0),
    ],
)
async def test_rows_are_divided_if_they_are_many_and_so_are_the_workers(
    open_store: Opened,
    rows: int,
    workers: int,
    queues: tuple[str, ...],
    configuration: dict[str, Any],
    count: int,
) -> None:
    async with open_store() as store:
        bounds = await prepared(store, rows=rows, workers=workers, queues=queues, **configuration)
        assert len(bounds) == count
        indexes = [index for first, end in bounds for index in range(first, end)]
        assert indexes == (list(range(rows)) if count else [])
