"""Trials that become versions, if they are better on rows that their search did not see."""

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from dspex.bootstrap import new_id
from dspex.errors import ConflictError, InvalidError, ModelUnavailableError, NotBetterError
from dspex.execution.clients import Request, Response
from dspex.operations.framework.store import Query, Update
from dspex.operations.jobs.inputs import JobRef
from dspex.operations.optimizations.inputs import CreateOptimization, PromoteTrial
from dspex.operations.optimizations.records import OPTIMIZATION_JOB, TRIAL
from dspex.operations.optimizations.results import trial_rows
from dspex.operations.programs.records import PROGRAM_VERSION
from dspex.testing import ScriptedModel
from tests.operations.jobs.rows import a_dataset, a_program
from tests.operations.optimizations.test_jobs import Here, Wrapped, a_search, here

ROWS = [{"question": f"question {n}", "answer": f"answer {n}"} for n in range(60)]
VALUES: tuple[dict[str, Any], ...] = (
    {},
    {"self.instructions": "Be exact."},
    {"self.instructions": "Be kind."},
)


def reply(request: Request) -> str:
    """Answer every third question right, and every one if told to be exact."""
    number = re.findall(r"question (\d+)", str(request.messages[-1].content))[-1]
    is_right = int(number) % 3 == 0 or "Be exact." in str(request.messages[0].content)
    return f"[[ ## answer ## ]]\n{'answer ' + number if is_right else 'none'}"


async def trials_in(at: Here, **settings: Any) -> list[Any]:
    """Store a completed search with a trial for each of `VALUES`; return the trials."""
    store = at.services.operations.dependencies.store
    program = await a_program(store, backend="native")
    job = await a_search(at, program, rows=ROWS, configuration={"holdout": 0.5, **settings})
    columns = [
        {
            "number": number,
            "label": f"values {number}",
            "score": 0.5,
            "rows": 30,
            "failed": 0,
            "calls": 30,
            "is_final": True,
            "is_on_front": False,
            "figures": {},
            "assignment": values,
        }
        for number, values in enumerate(VALUES)
    ]
    rows = trial_rows(job, columns, new_id=new_id, now=job.created_at)
    await store.write(*rows)
    return [row.entity for row in rows]


async def versions(at: Here) -> list[Any]:
    store = at.services.operations.dependencies.store
    return list(await store.select(PROGRAM_VERSION, Query(oldest_first=True)))


async def test_a_better_trial_becomes_the_current_version_once(tmp_path: Path) -> None:
    model = ScriptedModel(reply)
    async with here(tmp_path, model) as at:
        _, better, _ = await trials_in(at)
        request = PromoteTrial(trial_id=better.id)
        first, second = await asyncio.gather(*(at.act("promote_trial", request) for _ in range(2)))
        assert first.id == second.id
        await at.engine.finished(first.id)
        job = await at.now(first)
        assert (job.status, job.error) == ("completed", None)
        assert (job.best["trial"], job.best["is_better"], job.best["pairs"]) == (1, True, 30)
        assert len(model.requests) == 60
        before, after = await versions(at)
        assert "Be exact." in str(after.definition)
        assert (after.parent_id, after.made_by) == (before.id, f"job {job.id}")
        assert (await at.program()).current_version_id == after.id == job.result_version_id
        assert (await at.act("promote_trial", request)).id == job.id
        again = await at.operations.row(TRIAL, better.id)
        assert again.promotion_id == job.id


async def test_a_trial_that_is_not_better_is_refused_with_the_figures(tmp_path: Path) -> None:
    async with here(tmp_path, ScriptedModel(reply)) as at:
        _, _, kind = await trials_in(at)
        request = PromoteTrial(trial_id=kind.id)
        job = await at.ended("promote_trial", request)
        assert (job.status, job.error["code"]) == ("failed", "not_better")
        assert re.search(
            r"trial 2, values 2, does not become a version: no significant improvement on 30",
            job.error["message"],
        )
        verdict = job.progress["verdict"]
        assert (verdict["difference"], verdict["pairs"], verdict["p_value"]) == (0.0, 30, 1.0)
        assert len(await versions(at)) == 1
        with pytest.raises(NotBetterError, match="no significant improvement on 30"):
            await at.act("promote_trial", request)
        again = await at.ended("resume_optimization", JobRef(id=job.id))
        assert again.error["code"] == "not_better"


async def test_each_further_comparison_on_the_same_rows_is_stricter(tmp_path: Path) -> None:
    async with here(tmp_path, ScriptedModel(reply)) as at:
        _, better, kind = await trials_in(at, alpha=0.1)
        levels = [
            (await at.ended("promote_trial", PromoteTrial(trial_id=trial.id))).configuration[
                "alpha"
            ]
            for trial in (kind, better)
        ]
        assert levels == pytest.approx([0.1 / 2, 0.1 / 6])


async def test_an_interrupted_check_goes_on_and_requests_nothing_twice(tmp_path: Path) -> None:
    model, count = ScriptedModel(reply), iter(range(1000))

    def fail_once() -> None:
        if next(count) == 40:
            raise ModelUnavailableError("away")

    async with here(tmp_path, Wrapped(model, fail_once)) as at:
        _, better, _ = await trials_in(at, concurrency=1)
        job = await at.ended("promote_trial", PromoteTrial(trial_id=better.id))
        assert (job.status, job.attempts) == ("completed", 2)
        assert len(model.requests) == 60


async def test_a_check_on_other_data_leaves_out_the_rows_of_the_search(tmp_path: Path) -> None:
    async with here(tmp_path, ScriptedModel(reply)) as at:
        _, better, _ = await trials_in(at, holdout=0)
        with pytest.raises(InvalidError, match="held out no rows; name a data set") as caught:
            await at.act("promote_trial", PromoteTrial(trial_id=better.id))
        assert caught.value.fields[0].path == "dataset"
        store = at.services.operations.dependencies.store
        new = [{"question": f"question {n}", "answer": f"answer {n}"} for n in range(50, 90)]
        await a_dataset(store, new, name="more")
        request = PromoteTrial(trial_id=better.id, dataset="more")
        job = await at.ended("promote_trial", request)
        assert (job.status, job.best["pairs"]) == ("completed", 30)
        await a_dataset(store, ROWS[:20], name="known")
        other = await at.ended("promote_trial", PromoteTrial(trial_id=better.id, dataset="known"))
        assert (other.status, other.best["conclusion"]) == (
            "completed",
            "trial 1, values 1, is the current version already",
        )


async def test_what_cannot_be_promoted_is_refused_at_once(tmp_path: Path) -> None:
    class Held(Wrapped):
        async def complete(self, request: Request) -> Response:
            await asyncio.Event().wait()
            return await super().complete(request)

    async with here(tmp_path, Held(ScriptedModel(reply), lambda: None)) as at:
        _, better, _ = await trials_in(at)
        store = at.services.operations.dependencies.store
        await a_dataset(store, ROWS[:20], name="other")
        job = await at.act("promote_trial", PromoteTrial(trial_id=better.id))
        with pytest.raises(ConflictError, match=f"by the job {job.id}: cancel it first"):
            await at.act("promote_trial", PromoteTrial(trial_id=better.id, dataset="other"))
        await at.act("cancel_optimization", JobRef(id=job.id))
        again = await at.act("promote_trial", PromoteTrial(trial_id=better.id))
        assert again.id != job.id
        for values, why in (
            ({"is_final": False}, "may not win"),
            ({"assignment": None}, "values are unknown"),
        ):
            await store.write(Update(resource=TRIAL, id=better.id, values=values))
            with pytest.raises(InvalidError, match=why):
                await at.act("promote_trial", PromoteTrial(trial_id=better.id))


async def test_the_winner_of_a_search_is_the_current_version_already(tmp_path: Path) -> None:
    model = ScriptedModel(reply)
    async with here(tmp_path, model) as at:
        store = at.services.operations.dependencies.store
        await a_program(store, backend="native")
        await a_dataset(store, ROWS)
        options = {"candidates": 2, "k": 2}
        request = CreateOptimization(
            program="qa", dataset="questions", configuration={"options": options, "insist": True}
        )
        search = await at.ended("create_optimization", request)
        where = {"optimization_job_id": search.id}
        trials = await store.select(TRIAL, Query(where=where, oldest_first=True))
        calls = len(model.requests)
        # the unchanged program against itself: all of its replies are in the journal of the search
        job = await at.ended("promote_trial", PromoteTrial(trial_id=trials[0].id))
        assert "current version already" in job.best["conclusion"]
        assert len(model.requests) == calls
        job = await at.ended("promote_trial", PromoteTrial(trial_id=trials[1].id))
        assert job.error["code"] == "not_better"
        assert len(model.requests) == calls + 18
        assert await store.count(OPTIMIZATION_JOB, {}) == 3
