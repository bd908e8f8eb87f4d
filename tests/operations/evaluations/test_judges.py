"""Stored judges in jobs: what they say, what they cost, and who may name which."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

import dspex
from dspex.errors import ForbiddenError, InvalidError, ModelUnavailableError
from dspex.evaluation import Judge
from dspex.execution.clients import LanguageModel, Request
from dspex.execution.modules import Module
from dspex.operations.domain import DOMAIN
from dspex.operations.evaluations.inputs import CreateEvaluation
from dspex.operations.framework.access import Actor
from dspex.operations.framework.store import Update
from dspex.operations.optimizations.inputs import CreateOptimization
from dspex.operations.programs.actions import ProgramRef
from dspex.operations.programs.stored_programs import save_program
from dspex.testing import ScriptedModel
from dspex.testing.model_server import ModelServer
from tests.operations.jobs.rows import a_dataset, a_program
from tests.operations.optimizations.test_jobs import ROWS, Here, Wrapped, here

ON_QUESTIONS = {"program": "qa", "dataset": "questions"}
pytestmark = pytest.mark.filterwarnings("ignore:.*rows:UserWarning")


def _reply(request: Request) -> str:
    if "score" in request.messages[0].content:
        return "[[ ## reason ## ]]\nToo short.\n\n[[ ## score ## ]]\n0.25"
    return "[[ ## answer ## ]]\n?"


@asynccontextmanager
async def judged_here(
    folder: Path, model: LanguageModel | None = None, judge: Module | None = None, **options: Any
) -> AsyncIterator[Here]:
    """A program, a data set and a judge `right`, stored."""
    async with here(folder, model or ScriptedModel(_reply), **options) as at:
        store = at.services.operations.dependencies.store
        await a_program(store, backend="native")
        await a_dataset(store, ROWS[:12])
        await save_program(at.operations, (judge or Judge("is right")).to_program("right"))
        yield at


async def test_a_judge_is_the_last_metric_of_an_evaluation(tmp_path: Path) -> None:
    async with judged_here(tmp_path, ScriptedModel(_reply, cost_usd=0.5)) as at:
        request = CreateEvaluation(**ON_QUESTIONS, metrics=["exact_match"], judge="right")
        row = await at.ended("create_evaluation", request)
        judge = await at.program("right")
    assert row.status == "completed", row.error
    assert (row.metrics, row.mean) == (["exact_match", "right=judge"], 0.0)
    assert row.judge_version_id == judge.current_version_id
    assert row.rows[0]["scores"] == {"exact_match": 0.0, "right": 0.25}
    assert row.rows[0]["reasons"] == {"right": "Too short."}
    assert (row.cost_usd, row.judge_cost_usd) == (6.0, 6.0)


async def test_a_judge_without_metrics_is_the_main_one(tmp_path: Path) -> None:
    async with judged_here(tmp_path) as at:
        row = await at.ended("create_evaluation", CreateEvaluation(**ON_QUESTIONS, judge="right"))
    assert (row.metrics, row.mean) == (["right=judge"], 0.25)


async def test_a_judge_has_its_model_and_its_cost_is_apart(tmp_path: Path) -> None:
    async with ModelServer({"judge": ScriptedModel(_reply)}) as server:
        model = f"{server.url}#judge"
        async with judged_here(tmp_path, ScriptedModel(_reply, cost_usd=0.5)) as at:
            request = CreateEvaluation(**ON_QUESTIONS, judge="right", judge_model=model)
            row = await at.ended("create_evaluation", request)
        assert server.calls == {"judge": 12}
    assert row.judge_model == model
    assert row.rows[0]["judge_usage"]["calls"] == 1
    assert row.rows[0]["usage"]["calls"] == 1
    assert (row.cost_usd, row.judge_cost_usd) == (6.0, None)  # that of the server is unknown


async def test_an_evaluation_asks_its_judge_nothing_twice(tmp_path: Path) -> None:
    model, count = ScriptedModel(_reply), iter(range(1000))

    def fail_once() -> None:
        if next(count) == 13:
            raise ModelUnavailableError("away")

    async with judged_here(tmp_path, Wrapped(model, fail_once)) as at:
        request = CreateEvaluation(**ON_QUESTIONS, judge="right", configuration={"concurrency": 1})
        row = await at.ended("create_evaluation", request)
    assert (row.status, row.attempts) == ("completed", 2)
    assert len({(r.messages[0].content, r.messages[-1].content) for r in model.requests}) == 24
    assert len(model.requests) == 24
    assert [line["reasons"] for line in row.rows] == [{"right": "Too short."}] * 12


async def test_a_judge_that_fails_is_a_failed_row(tmp_path: Path) -> None:
    replies = iter(range(1000))

    def reply(request: Request) -> str:
        is_judge = "score" in request.messages[0].content
        return "?" if is_judge and next(replies) < 2 else _reply(request)

    async with judged_here(tmp_path, ScriptedModel(reply)) as at:
        request = CreateEvaluation(**ON_QUESTIONS, judge="right", configuration={"concurrency": 1})
        row = await at.ended("create_evaluation", request)
    assert (row.status, row.mean) == ("completed", 0.25)
    assert row.rows[0]["error"].startswith("the judge 'right' failed: ")
    assert row.rows[0]["scores"] == {}


async def test_a_search_maximizes_what_a_judge_says(tmp_path: Path) -> None:
    def reply(request: Request) -> str:
        text = request.messages[-1].content
        if "score" in request.messages[0].content:
            return f"[[ ## reason ## ]]\nso\n\n[[ ## score ## ]]\n{int('good' in text)}"
        return f"[[ ## answer ## ]]\n{'good' if len(request.messages) > 2 else 'bad'}"

    async with judged_here(tmp_path, ScriptedModel(reply)) as at:
        request = CreateOptimization(
            **ON_QUESTIONS,
            judge="right",
            configuration={
                "options": {"candidates": 2, "k": 2},
                "holdout": 0.5,
                "subject_to": ["right>=0.5"],
                "insist": True,
            },
        )
        row = await at.ended("create_optimization", request)
        trials = await at.trials(row)
    assert row.status == "completed", row.error
    assert (trials[0]["score"], row.best["score"]) == (0.0, 1.0)
    assert row.best["figures"]["right"] == 1.0
    assert row.result_version_id is not None


@pytest.mark.parametrize(
    ("values", "path", "message"),
    [
        ({"judge": "wrong"}, "judge", "no program 'wrong'.*`dspex push file.py:name` stores"),
        ({"judge": "app.py:right"}, "judge", "no program 'app.py:right'"),
        ({"judge": "qa"}, "judge", "needs one output that is a number.*has none.*answer"),
        ({"judge": "tone"}, "judge", "reads 'tone', which is neither.*answer, question"),
        ({"judge_model": "local/x"}, "judge_model", "a model only beside `judge`"),
        ({"judge": "f1", "metrics": ["f1"]}, "judge", "a metric has the name 'f1', too"),
    ],
)
async def test_what_is_wrong_with_a_judge_names_the_field(
    tmp_path: Path, values: dict[str, Any], path: str, message: str
) -> None:
    async with judged_here(tmp_path) as at:
        tone = dspex.Predict("tone, outputs -> score: float")
        for name, judge in {"tone": tone, "f1": Judge("is right")}.items():
            await save_program(at.operations, judge.to_program(name))
        for action, request in (
            ("create_evaluation", CreateEvaluation(**{**ON_QUESTIONS, **values})),
            ("create_optimization", CreateOptimization(**{**ON_QUESTIONS, **values})),
        ):
            with pytest.raises(InvalidError, match=message) as caught:
                await at.act(action, request)
            assert caught.value.fields[0].path == path


async def test_callers_name_judges_of_their_workspace_and_models_that_they_may_choose(
    tmp_path: Path,
) -> None:
    caller = Actor(name="other", workspace="other", scopes=frozenset({"admin"}), key_id=UUID(int=1))
    async with judged_here(tmp_path) as at:
        store = at.services.operations.dependencies.store
        at.operations = at.operations.as_actor(caller)
        await save_program(at.operations, dspex.Predict("question -> answer").to_program("qa"))
        data = await a_dataset(store, ROWS, name="theirs")
        await store.write(_moved(data, "other"))
        request = CreateEvaluation(program="qa", dataset="theirs", judge="right")
        with pytest.raises(InvalidError, match="no program 'right'"):
            await at.act("create_evaluation", request)
        await save_program(at.operations, Judge("is polite").to_program("right"))
        for model in ("http://127.0.0.1:1/v1#m", "/etc/model.gguf"):
            with pytest.raises(ForbiddenError, match="judge_model: this model may be chosen by"):
                await at.act("create_evaluation", replace(request, judge_model=model))
        model = "https://user:secret@example.org/v1#m"
        with pytest.raises(InvalidError, match="judge_model: credentials"):
            await at.act("create_evaluation", replace(request, judge_model=model))


def _moved(record: Any, workspace: str) -> Any:
    resource = DOMAIN["dataset"]
    return Update(resource=resource, id=record.id, values={"workspace": workspace})


async def test_a_deleted_judge_leaves_the_evaluations_that_it_scored(tmp_path: Path) -> None:
    async with judged_here(tmp_path) as at:
        request = CreateEvaluation(**ON_QUESTIONS, judge="right")
        row = await at.ended("create_evaluation", request)
        await at.act("delete_program", ProgramRef(name="right"))
        after = await at.now(row)
        assert (after.judge_version_id, after.mean) == (None, 0.25)


async def test_a_renamed_judge_keeps_its_name_in_a_job(tmp_path: Path) -> None:
    async with judged_here(tmp_path) as at:
        request = CreateEvaluation(**ON_QUESTIONS, judge="right")
        row = await at.act("create_evaluation", request)
        store = at.services.operations.dependencies.store
        judge = await at.program("right")
        await store.write(Update(resource=DOMAIN["program"], id=judge.id, values={"name": "just"}))
        await at.engine.finished(row.id)
        row = await at.now(row)
    assert row.rows[0]["scores"] == {"right": 0.25}


async def test_a_metric_is_named_once(tmp_path: Path) -> None:
    async with judged_here(tmp_path) as at:
        request = CreateEvaluation(**ON_QUESTIONS, metrics=["exact_match", "f1", "exact_match"])
        with pytest.raises(InvalidError, match=r"is already metrics\[0\]: name it once"):
            await at.ended("create_evaluation", request)


async def test_a_judge_that_is_asked_again_has_a_variance(tmp_path: Path) -> None:
    model, count = ScriptedModel(_reply), iter(range(1000))

    def fail_once() -> None:
        if next(count) == 20:
            raise ModelUnavailableError("away")

    async with judged_here(tmp_path, Wrapped(model, fail_once)) as at:
        request = CreateEvaluation(
            **ON_QUESTIONS, judge="right", configuration={"concurrency": 1, "judge_repeats": 3}
        )
        row = await at.ended("create_evaluation", request)
    assert (row.status, row.attempts) == ("completed", 2)
    assert len(model.requests) == 12 + 36
    variance = row.breakdown["judge_variance"]["right"]
    assert (variance["repeats"], variance["answers"], variance["within"]) == (3, 12, 0.0)
    assert row.rows[11]["judgements"] == {"right": [0.25] * 3}


async def test_only_a_judge_is_asked_again(tmp_path: Path) -> None:
    async with judged_here(tmp_path, ScriptedModel(_reply)) as at:
        request = CreateEvaluation(**ON_QUESTIONS, configuration={"judge_repeats": 3})
        with pytest.raises(InvalidError, match="beside `judge` only"):
            await at.act("create_evaluation", request)
