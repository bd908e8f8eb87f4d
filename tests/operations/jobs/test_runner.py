"""What becomes of a job's row, whoever runs it and however that ends."""

import asyncio
import re
from typing import Any

import pytest

from dspex.errors import ConflictError, DefinitionError, InputError, ModelUnavailableError
from dspex.operations.domain import DOMAIN
from dspex.operations.framework.store import Query, Store, Update
from dspex.operations.jobs import Done, JobRun
from tests.operations.jobs.conftest import Opened, a_runner, inline
from tests.operations.jobs.rows import a_job
from tests.support.waiting import eventually

EVALUATION = DOMAIN["evaluation"]


async def events(store: Store, job: Any) -> list[tuple[str, str]]:
    rows = await store.select(
        DOMAIN["event"], Query(where={"subject_id": job.id}, oldest_first=True)
    )
    assert {row.topic for row in rows} <= {"evaluation"}
    return [(row.payload["status"], row.payload["message"]) for row in rows]


async def test_a_job_is_taken_worked_on_and_completed_with_an_event_for_each_step(
    open_store: Opened,
) -> None:
    async def handler(run: JobRun) -> Done:
        run.report("half", done=1, of=2)
        return Done(values={"mean": 0.5})

    async with open_store() as store, inline(store, handler) as engine:
        job = await a_job(store)
        await engine.enqueue(EVALUATION, job.id)
        await engine.finished(job.id)
        row = await store.get(EVALUATION, id=job.id)
        assert row is not None
        assert (row.status, row.mean, row.progress, row.attempts) == (
            "completed",
            0.5,
            {"done": 1, "of": 2},
            1,
        )
        assert row.started_at is not None
        assert row.finished_at is not None
        assert await events(store, job) == [
            ("running", "started"),
            ("completed", "half"),
            ("completed", "completed"),
        ]


async def test_progress_is_written_while_the_job_runs(open_store: Opened) -> None:
    going, checked = asyncio.Event(), asyncio.Event()

    async def handler(run: JobRun) -> Done:
        run.report("one", done=1)
        going.set()
        await checked.wait()
        return Done()

    async with open_store() as store, inline(store, handler) as engine:
        job = await a_job(store)
        await engine.enqueue(EVALUATION, job.id)
        await going.wait()

        async def reported() -> Any:
            row = await store.get(EVALUATION, id=job.id)
            return row if row is not None and row.progress == {"done": 1} else None

        row = await eventually(reported)
        assert row.status == "running"
        checked.set()
        await engine.finished(job.id)


async def test_what_may_pass_is_tried_again_and_what_may_not_is_not(open_store: Opened) -> None:
    async def outcome(error: Exception, times: int) -> Any:
        starts: list[int] = []

        async def handler(run: JobRun) -> Done:
            starts.append(run.job.attempts)
            if len(starts) <= times:
                raise error
            return Done()

        async with open_store() as store, inline(store, handler) as engine:
            job = await a_job(store)
            await engine.enqueue(EVALUATION, job.id)
            await engine.finished(job.id)
            row = await store.get(EVALUATION, id=job.id)
            assert row is not None
            return row.status, starts, row.error, await events(store, job)

    status, starts, error, history = await outcome(ModelUnavailableError("gone for lunch"), 2)
    assert (status, starts, error) == ("completed", [1, 2, 3], None)
    assert ("queued", "retry in 0.01 s, attempt 2 of 3: gone for lunch") in history
    status, starts, error, _ = await outcome(ModelUnavailableError("gone for good"), 9)
    assert (status, starts, error["code"]) == ("failed", [1, 2, 3], "model_unavailable")
    status, starts, error, _ = await outcome(DefinitionError("wrong"), 9)
    assert (status, starts, error["message"]) == ("failed", [1], "wrong")
    status, starts, error, _ = await outcome(InputError("no such backend"), 9)
    assert (status, starts, error["code"]) == ("failed", [1], "invalid")
    status, _, error, _ = await outcome(ZeroDivisionError("a bug"), 9)
    assert status == "failed"
    assert re.fullmatch(
        r"ZeroDivisionError: a bug \(.*test_runner\.py:\d+ in .*handler\)", error["message"]
    )


async def test_a_retry_that_got_on_begins_to_count_anew(open_store: Opened) -> None:
    starts: list[int] = []

    async def handler(run: JobRun) -> Done:
        starts.append(run.job.attempts)
        run.has_progress = True
        if len(starts) < 8:
            raise ModelUnavailableError("now and then")
        return Done()

    async with open_store() as store, inline(store, handler) as engine:
        job = await a_job(store)
        await engine.enqueue(EVALUATION, job.id)
        await engine.finished(job.id)
        row = await store.get(EVALUATION, id=job.id)
        assert row is not None
        assert row.status == "completed"
        assert len(starts) == 8


@pytest.mark.parametrize("status", ["paused", "cancelled"])
async def test_a_job_that_others_stopped_leaves_within_a_second_and_writes_nothing(
    open_store: Opened, status: str
) -> None:
    going, abandoned = asyncio.Event(), asyncio.Event()

    async def handler(_run: JobRun) -> Done:
        going.set()
        try:
            await asyncio.Event().wait()
        finally:
            abandoned.set()
        return Done(values={"mean": 1.0})

    async with open_store() as store:
        job = await a_job(store)
        runner = a_runner(store, {"evaluation": handler})
        task = asyncio.create_task(runner.run("evaluation", job.id, 0))
        await going.wait()
        await store.write(Update(resource=EVALUATION, id=job.id, values={"status": status}))
        await runner.watch()
        assert await task == "stopped"
        assert abandoned.is_set()
        row = await store.get(EVALUATION, id=job.id)
        assert row is not None
        assert (row.status, row.mean) == (status, None)


async def test_one_turn_is_run_once_however_often_it_is_handed_out(open_store: Opened) -> None:
    runs: list[int] = []

    async def handler(run: JobRun) -> Done:
        runs.append(run.job.turn)
        await asyncio.sleep(0)
        return Done()

    async with open_store() as store, open_store() as second:
        job = await a_job(store)
        runners = [
            a_runner(store, {"evaluation": handler}),
            a_runner(second, {"evaluation": handler}),
        ]
        results = await asyncio.gather(
            *(runner.run("evaluation", job.id, 0) for runner in runners * 4)
        )
        assert sorted(results) == ["completed", *["stale"] * 7]
        assert runs == [0]


async def test_who_was_taken_for_dead_records_no_result(open_store: Opened) -> None:
    going, go_on = asyncio.Event(), asyncio.Event()

    async def slow(_run: JobRun) -> Done:
        going.set()
        await go_on.wait()
        return Done(values={"mean": 0.1})

    async def quick(_run: JobRun) -> Done:
        return Done(values={"mean": 0.9})

    async with open_store() as store:
        job = await a_job(store)
        first = asyncio.create_task(
            a_runner(store, {"evaluation": slow}).run("evaluation", job.id, 0)
        )
        await going.wait()
        request = Update(
            resource=EVALUATION, id=job.id, values={"status": "queued"}, increments={"turn": 1}
        )
        await store.write(request)
        assert (
            await a_runner(store, {"evaluation": quick}).run("evaluation", job.id, 1) == "completed"
        )
        go_on.set()
        assert await first == "stopped"
        row = await store.get(EVALUATION, id=job.id)
        assert row is not None
        assert row.mean == 0.9
        assert [status for status, _ in await events(store, job)] == [
            "running",
            "running",
            "completed",
        ]


async def test_a_worker_that_stops_hands_its_jobs_back(open_store: Opened) -> None:
    going = asyncio.Event()

    async def handler(run: JobRun) -> Done:
        run.report("begun", done=3)
        going.set()
        await asyncio.Event().wait()
        return Done()

    async with open_store() as store:
        job, later = await a_job(store), await a_job(store)
        runner = a_runner(store, {"evaluation": handler})
        task = asyncio.create_task(runner.run("evaluation", job.id, 0))
        await going.wait()
        await runner.hand_back()
        assert await task == "stopped"
        row = await store.get(EVALUATION, id=job.id)
        assert row is not None
        assert (row.status, row.turn, row.attempts, row.progress) == (
            "queued",
            1,
            0,
            {"done": 3},
        )
        assert row.waiting == "handed back by a worker that stopped"
        assert await runner.run("evaluation", later.id, 0) == "refused"
        row = await store.get(EVALUATION, id=later.id)
        assert row is not None
        assert (row.status, row.turn) == ("queued", 1)


async def test_a_worker_that_leaves_waits_for_its_jobs_and_hears_what_they_raise(
    open_store: Opened,
) -> None:
    """A journal refuses further answers of a job that goes on elsewhere with a ConflictError."""

    going, tasks = asyncio.Event(), list[asyncio.Task[Any]]()

    async def handler(_run: JobRun) -> Done:
        tasks.extend(filter(None, [asyncio.current_task()]))
        going.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            for _ in range(5):
                await asyncio.sleep(0)
            raise ConflictError("the job goes on elsewhere") from None
        return Done()

    async with open_store() as store:
        job = await a_job(store)
        task = asyncio.create_task(
            a_runner(store, {"evaluation": handler}).run("evaluation", job.id, 0)
        )
        await going.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert tasks[0].done()
        assert isinstance(tasks[0].exception(), ConflictError)


async def test_a_worker_that_was_taken_for_dead_leaves_its_jobs_to_others(
    open_store: Opened,
) -> None:
    """Also before anybody has taken them: it writes nothing at all."""

    going = asyncio.Event()

    async def handler(_run: JobRun) -> Done:
        going.set()
        await asyncio.Event().wait()
        return Done()

    async with open_store() as store:
        job = await a_job(store)
        runner = a_runner(store, {"evaluation": handler})
        task = asyncio.create_task(runner.run("evaluation", job.id, 0))
        await going.wait()
        runner.abandon()
        assert await task == "stopped"
        row = await store.get(EVALUATION, id=job.id)
        assert row is not None
        assert (row.status, row.turn) == ("running", 0)


async def test_a_failure_in_the_users_code_has_its_lines_in_the_row_and_not_in_events(
    open_store: Opened,
) -> None:
    async def handler(run: JobRun) -> Done:
        raise KeyError(run.job.actor)

    async with open_store() as store, inline(store, handler) as engine:
        job = await a_job(store)
        await engine.enqueue(EVALUATION, job.id)
        await engine.finished(job.id)
        row = await store.get(EVALUATION, id=job.id)
        assert row is not None
        assert row.error["frames"][-1]["code"] == "raise KeyError(run.job.actor)"
        query = Query(where={"subject_id": job.id})
        for event in await store.select(DOMAIN["event"], query):
            assert "frames" not in (event.payload["error"] or {})
