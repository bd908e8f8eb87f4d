"""Evaluations and optimizations as jobs, in this process.

What they find, and what a later life does not ask again.
"""

import asyncio
import dataclasses
import importlib.util
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest

from dspex.bootstrap import Services, new_id, open_services
from dspex.bootstrap.jobs import handlers_of
from dspex.clock import SystemClock
from dspex.errors import InvalidError, ModelUnavailableError, RefusedError
from dspex.execution.clients import LanguageModel, Request, Response
from dspex.execution.modules import CodeRoot
from dspex.learning.evaluation.metrics import METRICS
from dspex.operations.domain import DOMAIN, QUEUES
from dspex.operations.evaluations.inputs import CreateEvaluation, KnownMetrics
from dspex.operations.framework.access import Actor
from dspex.operations.framework.operations import Operations
from dspex.operations.framework.store import Insert, Query
from dspex.operations.jobs import JobPolicy, JobRows, JobRunner
from dspex.operations.jobs.inputs import JobRef
from dspex.operations.jobs.job_engine import JobEngine
from dspex.operations.optimizations.inputs import CreateOptimization, FrontOf
from dspex.operations.optimizations.records import TRIAL, OptimizationJobRecord
from dspex.operations.optimizations.results import trial_rows
from dspex.operations.programs.stored_programs import find_program
from dspex.operations.storage import SQLJournal
from dspex.settings import Settings
from dspex.testing import SimulatedModel
from tests.operations.jobs.rows import a_dataset, a_program
from tests.support.inline_engine import InlineEngine

ROWS = [{"question": f"question {n}", "answer": f"answer {n}"} for n in range(30)]
POLICY = JobPolicy(queues=QUEUES, attempts=3, backoff=0.01, poll=0.02)
pytestmark = pytest.mark.filterwarnings("ignore:.*rows:UserWarning")


class Wrapped:
    """A model that does something else first."""

    def __init__(self, model: LanguageModel, before: Callable[[], Any]) -> None:
        self.model, self.name, self.capabilities, self.before = (
            model,
            model.name,
            model.capabilities,
            before,
        )

    async def complete(self, request: Request) -> Response:
        await asyncio.sleep(0)
        self.before()
        return await self.model.complete(request)

    async def aclose(self) -> None:
        """Hold nothing."""


@dataclasses.dataclass
class Here:
    services: Services
    operations: Operations
    engine: InlineEngine

    async def act(self, name: str, request: Any) -> Any:
        action = next(action for action in DOMAIN.actions if action.name == name)
        return await self.operations.perform(action, request)

    async def ended(self, name: str, request: Any) -> Any:
        job = await self.act(name, request)
        await self.engine.finished(job.id)
        return await self.now(job)

    async def now(self, job: Any) -> Any:
        return await self.operations.store.get(self.operations.store.resource_of(job), id=job.id)

    async def trials(self, job: Any) -> list[dict[str, Any]]:
        """Return the trials of a job, without what differs between two equal searches."""
        query = Query(where={"optimization_job_id": job.id}, oldest_first=True, limit=500)
        rows = await self.operations.store.select(TRIAL, query)
        own = ("id", "created_at", "updated_at", "optimization_job_id", "program_id")
        items = [dataclasses.asdict(row) for row in rows]
        for item in items:
            assert item["figures"].pop("p50") <= item["figures"].pop("p95")
        return [{name: value for name, value in item.items() if name not in own} for item in items]

    async def program(self, name: str = "qa") -> Any:
        return await find_program(self.operations, name=name)


@asynccontextmanager
async def here(
    folder: Path, model: LanguageModel | None = None, code: CodeRoot | None = None, **options: Any
) -> AsyncIterator[Here]:
    settings = Settings(state_dir=folder / "state", cache_dir=folder / "cache", **options)
    async with open_services(settings, code=code) as process:
        services = dataclasses.replace(
            process, context=msgspec.structs.replace(process.context, model=model)
        )
        store = services.operations.dependencies.store
        rows = JobRows(store, policy=POLICY, clock=SystemClock(), new_id=new_id)
        runner = JobRunner(rows, handlers=handlers_of(services, code=code), policy=POLICY)
        async with InlineEngine(store, runner) as engine:
            dependencies = services.operations.dependencies.with_services({JobEngine: engine})
            yield Here(services, Operations(dependencies), engine)


async def a_search(
    at: Here, program: Any, *, rows: Any = ROWS, **values: Any
) -> OptimizationJobRecord:
    """Store a completed optimization."""
    store = at.services.operations.dependencies.store
    data = await a_dataset(store, rows)
    settings = {"configuration": {}, "needs": {}, "progress": {}, "budget": {}, **values}
    job = OptimizationJobRecord(
        **at.operations.new_row(),
        status="completed",
        program_id=program.id,
        program_version_id=program.current_version_id,
        dataset_id=data.id,
        metrics=["exact_match"],
        optimizer="Joint",
        **settings,
    )
    await store.write(Insert(job))
    return job


async def test_an_evaluation_on_the_mock_backend_is_a_job(tmp_path: Path) -> None:
    async with here(tmp_path) as at:
        store = at.services.operations.dependencies.store
        await a_program(store)
        await a_dataset(store, ROWS)
        request = CreateEvaluation(program="qa", dataset="questions", metrics=["exact_match", "f1"])
        row = await at.ended("create_evaluation", request)
        assert (row.status, row.mean, row.error) == ("completed", 0.0, None)
        assert row.interval[0] == 0.0
        assert len(row.rows) == 30
        assert row.rows[7]["example"] == ROWS[7]
        assert set(row.rows[7]["scores"]) == {"exact_match", "f1"}
        assert (row.progress["done"], row.progress["of"]) == (30, 30)
        assert row.p50_ms > 0
        events = await store.select(
            DOMAIN["event"], Query(where={"subject_id": row.id}, oldest_first=True)
        )
        assert {event.topic for event in events} == {"evaluation"}
        assert events[0].payload["status"] == "queued"
        assert events[-1].payload["status"] == "completed"
        audit = await store.select(DOMAIN["audit_entry"], Query(where={"resource_id": row.id}))
        assert [entry.action for entry in audit] == ["create_evaluation"]


async def test_an_evaluation_has_the_breakdown_that_it_asks_for(tmp_path: Path) -> None:
    rows = [{**row, "topic": "ab"[n % 2], "human": n % 3 == 0} for n, row in enumerate(ROWS)]
    async with here(tmp_path) as at:
        store = at.services.operations.dependencies.store
        await a_program(store)
        await a_dataset(store, rows)
        on = {"program": "qa", "dataset": "questions"}
        settings = {"slice_by": "topic", "pass_at": 0.5, "label": "human"}
        row = await at.ended("create_evaluation", CreateEvaluation(**on, configuration=settings))
        assert row.status == "completed", row.error
        slices = row.breakdown["slices"]["exact_match"]
        assert [(part["value"], part["scored"], part["mean"]) for part in slices] == [
            ("a", 15, 0.0),
            ("b", 15, 0.0),
        ]
        assert row.breakdown["pass_rates"]["exact_match"]["share"] == 0.0
        assert row.breakdown["agreement"]["exact_match"]["false_failures"] == 10
        request = CreateEvaluation(**on, configuration={"slice_by": "topics"})
        with pytest.raises(InvalidError, match=r"'topics'.*Did you mean 'topic'"):
            await at.act("create_evaluation", request)


async def test_an_evaluation_goes_on_where_it_was_and_asks_nothing_twice(tmp_path: Path) -> None:
    whole, model = SimulatedModel(), SimulatedModel()
    count = iter(range(1000))

    def fail_once() -> None:
        if next(count) == 11:
            raise ModelUnavailableError("away")

    async with here(tmp_path, Wrapped(model, fail_once)) as at:
        store = at.services.operations.dependencies.store
        await a_program(store, backend="native")
        await a_dataset(store, ROWS)
        request = CreateEvaluation(
            program="qa", dataset="questions", configuration={"concurrency": 1}
        )
        row = await at.ended("create_evaluation", request)
        assert (row.status, row.attempts) == ("completed", 2)
        assert model.calls == 30
    async with here(tmp_path / "other", whole) as at:
        store = at.services.operations.dependencies.store
        await a_program(store, backend="native")
        await a_dataset(store, ROWS)
        undisturbed = await at.ended("create_evaluation", request)
    lines = [(line["outputs"], line["scores"], line["usage"]) for line in row.rows]
    assert lines == [(line["outputs"], line["scores"], line["usage"]) for line in undisturbed.rows]
    assert row.cost_usd == pytest.approx(undisturbed.cost_usd)


async def test_a_refusal_is_a_failed_row_and_not_a_failed_job(tmp_path: Path) -> None:
    count = iter(range(1000))

    def refuse_some() -> None:
        if next(count) % 10 == 0:
            raise RefusedError("not this one")

    async with here(tmp_path, Wrapped(SimulatedModel(), refuse_some)) as at:
        store = at.services.operations.dependencies.store
        await a_program(store, backend="native")
        await a_dataset(store, ROWS)
        row = await at.ended(
            "create_evaluation", CreateEvaluation(program="qa", dataset="questions")
        )
        assert row.status == "completed"
        assert sum("RefusedError" in (line["error"] or "") for line in row.rows) == 3


@pytest.mark.parametrize("step", ["pause", "cancel"])
async def test_a_paused_job_goes_on_and_a_cancelled_one_does_not(tmp_path: Path, step: str) -> None:
    model, reached, hold = SimulatedModel(), asyncio.Event(), [True]

    class Held(Wrapped):
        async def complete(self, request: Request) -> Response:
            if self.model.calls == 8 and hold[0]:  # type: ignore[attr-defined]
                reached.set()
                await asyncio.Event().wait()
            return await super().complete(request)

    async with here(tmp_path, Held(model, lambda: None)) as at:
        store = at.services.operations.dependencies.store
        await a_program(store, backend="native")
        await a_dataset(store, ROWS)
        # so that no answer is on its way when it is stopped
        settings = {"concurrency": 1, "options": {"k": 2}}
        optimization = CreateOptimization(program="qa", dataset="questions", configuration=settings)
        job = await at.act("create_optimization", optimization)
        await reached.wait()
        stopped = await at.act(f"{step}_optimization", JobRef(id=job.id))
        assert stopped.status == {"pause": "paused", "cancel": "cancelled"}[step]
        hold[0] = False
        before = model.calls
        if step == "cancel":
            with pytest.raises(Exception, match="resume needs it to be"):
                await at.act("resume_optimization", JobRef(id=job.id))
            return
        await at.act("resume_optimization", JobRef(id=job.id))
        await at.engine.finished(job.id)
        row = await at.now(job)
        assert row.status == "completed"
        assert before == 8
        calls, trials = model.calls, await at.trials(row)
    again = SimulatedModel()
    async with here(tmp_path / "other", again) as at:
        store = at.services.operations.dependencies.store
        await a_program(store, backend="native")
        await a_dataset(store, ROWS)
        undisturbed = await at.ended("create_optimization", optimization)
        assert undisturbed.best == row.best
        assert await at.trials(undisturbed) == trials
        assert calls == again.calls


@pytest.mark.parametrize(
    "optimizer", ["LabeledFewShot", "BootstrapFewShot", "MIPROv2", "GEPA", "SIMBA"]
)
async def test_an_optimization_makes_a_version_that_says_who_made_it(
    tmp_path: Path, optimizer: str
) -> None:
    async with here(tmp_path, SimulatedModel()) as at:
        store = at.services.operations.dependencies.store
        before = await a_program(store, backend="native")
        await a_dataset(store, ROWS)
        options = {"MIPROv2": {"trials": 6}, "LabeledFewShot": {"candidates": 3, "k": 4}}.get(
            optimizer, {}
        )
        settings = {"options": options, "insist": True}
        request = CreateOptimization(
            program="qa", dataset="questions", optimizer=optimizer, configuration=settings
        )
        row = await at.ended("create_optimization", request)
        assert row.status == "completed", row.error
        trials = await at.trials(row)
        assert trials[0]["label"] == "the program as it is"
        assert trials[0]["assignment"] == {}
        assert row.progress["trials"] == len(trials)
        best = trials[row.best["trial"]]
        assert (best["assignment"], best["figures"]) == (row.best["values"], row.best["figures"])
        front = {trial["number"] for trial in trials if trial["is_on_front"]}
        assert {trial["trial"] for trial in row.best["front"]} == front
        assert {"exact_match", "failed", "label"} <= row.best["front"][0].keys()
        assert row.result_version_id is not None, row.best
        result = await store.get(DOMAIN["program_version"], id=row.result_version_id)
        assert result is not None
        assert (result.number, result.made_by, result.parent_id) == (
            2,
            f"job {row.id}",
            before.current_version_id,
        )
        assert (await at.program()).current_version_id == result.id
        assert result.assignment


async def test_an_optimization_takes_an_objective_and_limits_and_changes_nothing_if_none_meets_them(
    tmp_path: Path,
) -> None:
    async with here(tmp_path, SimulatedModel()) as at:
        store = at.services.operations.dependencies.store
        await a_program(store, backend="native")
        await a_dataset(store, ROWS)
        settings = {
            "options": {"candidates": 3, "k": 4},
            "maximize": "-tokens",
            "subject_to": ["exact_match>=2"],
        }
        request = CreateOptimization(program="qa", dataset="questions", configuration=settings)
        with pytest.warns(UserWarning, match="no program within the limits"):
            row = await at.ended("create_optimization", request)
        assert (row.status, row.result_version_id) == ("completed", None), row.error
        assert row.best["conclusion"].startswith("no program within the limits")
        assert (row.best["objective"], row.best["is_better"]) == ("-tokens", False)
        assert row.best["figures"]["tokens"] > 0
        settings["subject_to"] = ["exact_match>=0", "failed<=0"]
        row = await at.ended("create_optimization", request)
        assert row.status == "completed", row.error
        assert row.best["trial"] == 0  # demonstrations cost tokens


async def test_an_optimization_whose_budget_does_not_reach_the_comparison_is_refused(
    tmp_path: Path,
) -> None:
    async with here(tmp_path, SimulatedModel()) as at:
        store = at.services.operations.dependencies.store
        await a_program(store, backend="native")
        await a_dataset(store, ROWS)
        request = CreateOptimization(program="qa", dataset="questions", budget={"calls": 30})
        row = await at.ended("create_optimization", request)
        assert (row.status, row.result_version_id) == ("failed", None)
        assert row.error["code"] == "budget"
        assert "two on each of 9 held-out rows take at least" in row.error["message"]


async def test_without_a_significant_improvement_the_program_stays(tmp_path: Path) -> None:
    async with here(tmp_path) as at:
        store = at.services.operations.dependencies.store
        before = await a_program(store)
        await a_dataset(store, ROWS)
        row = await at.ended(
            "create_optimization", CreateOptimization(program="qa", dataset="questions")
        )
        assert row.status == "completed", row.error
        assert row.result_version_id is None
        assert row.best["is_better"] is False
        assert (await at.program()).current_version_id == before.current_version_id


async def test_a_metric_may_be_code_of_the_root_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "job_scores.py").write_text(
        "def length(example, prediction):\n    return float(len(prediction['answer']))\n"
    )
    root = CodeRoot(tmp_path)

    async with here(tmp_path, code=root) as at:
        store = at.services.operations.dependencies.store
        await a_program(store)
        await a_dataset(store, ROWS)
        for bad in (
            "os:getcwd",
            "exact_macth",
            "../x:y",
            "job_scores",
            "tests.support.waiting:finish",
            3,
        ):
            wrong: list[Any] = [bad]
            request = CreateEvaluation(program="qa", dataset="questions", metrics=wrong)
            with pytest.raises(InvalidError) as caught:
                await at.act("create_evaluation", request)
            assert caught.value.fields[0].path == "metrics[0]"
        request = CreateEvaluation(program="qa", dataset="questions", metrics=["job_scores:length"])
        row = await at.ended("create_evaluation", request)
        assert (row.status, row.mean > 5) == ("completed", True), row.error
        assert row.needs["code"] == "default"


async def test_a_caller_of_an_api_names_registered_metrics_and_no_code(tmp_path: Path) -> None:
    (tmp_path / "job_tones.py").write_text(
        "from pathlib import Path\n"
        "Path(__file__).with_name('imported').touch()\n"
        "def tone(example, prediction):\n    return 0.25\n"
    )
    caller = Actor(name="boss", scopes=frozenset({"admin"}), key_id=UUID(int=1))

    async with here(tmp_path, code=CodeRoot(tmp_path), metrics={"kind": "job_tones:tone"}) as at:
        store = at.services.operations.dependencies.store
        await a_program(store)
        await a_dataset(store, ROWS)
        at.operations = at.operations.as_actor(caller)
        makers = ("create_evaluation", "create_optimization")
        for bad in ("job_tones:tone", "kind=job_tones:tone", "kid"):
            for make, request in zip(makers, (CreateEvaluation, CreateOptimization), strict=True):
                with pytest.raises(
                    InvalidError, match=r"exact_match, contains, f1, .*kind"
                ) as caught:
                    await at.act(make, request(program="qa", dataset="questions", metrics=[bad]))
                assert caught.value.fields[0].path == "metrics[0]"
        assert not (tmp_path / "imported").exists()
        result = await at.act("known_metrics", KnownMetrics())
        assert result.names == [*METRICS, "kind"]
        row = await at.ended(
            "create_evaluation",
            CreateEvaluation(program="qa", dataset="questions", metrics=["kind"]),
        )
        assert (row.status, row.mean, row.metrics) == (
            "completed",
            0.25,
            ["kind=job_tones:tone"],
        ), row.error
        assert set(row.rows[0]["scores"]) == {"kind"}
        assert row.needs["code"] == "default"


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("optimizer", {"optimizer": "MIPRO"}),
        ("configuration.concurency", {"configuration": {"concurency": 3}}),
        ("configuration.concurrency", {"configuration": {"concurrency": "many"}}),
        ("budget.usd", {"budget": {"usd": -1}}),
        ("budget.seconds", {"budget": {"seconds": "long"}}),
        ("budget.minutes", {"budget": {"minutes": 3}}),
        ("configuration.maximize", {"configuration": {"maximize": "exact_mach"}}),
        ("configuration.subject_to", {"configuration": {"subject_to": ["p95<<2"]}}),
        ("configuration.subject_to", {"configuration": {"subject_to": "p95<2"}}),
        ("configuration.alpha", {"configuration": {"alpha": 7}}),
    ],
)
async def test_what_is_wrong_with_an_optimization_is_said_at_its_creation(
    tmp_path: Path, field: str, values: dict[str, Any]
) -> None:
    async with here(tmp_path) as at:
        store = at.services.operations.dependencies.store
        await a_program(store)
        await a_dataset(store, ROWS)
        with pytest.raises(InvalidError) as caught:
            await at.act(
                "create_optimization",
                CreateOptimization(program="qa", dataset="questions", **values),
            )
        assert caught.value.fields[0].path == field
        assert await store.count(DOMAIN["optimization_job"], {}) == 0


@pytest.mark.full
@pytest.mark.skipif(importlib.util.find_spec("dspy") is None, reason="pip install 'dspex[dspy]'")
@pytest.mark.parametrize(
    ("optimizer", "settings"),
    [
        ("LabeledFewShot", {"options": {"k": 3}}),
        ("BootstrapFewShot", {"options": {"max_bootstrapped_demos": 2, "max_labeled_demos": 2}}),
        (
            "MIPROv2",
            {
                "options": {"auto": None, "num_candidates": 2},
                "compile": {"num_trials": 2, "minibatch": False},
            },
        ),
    ],
)
async def test_an_optimizer_of_dspy_is_a_job_that_asks_nothing_twice(
    tmp_path: Path, optimizer: str, settings: dict[str, Any]
) -> None:
    model, count = SimulatedModel(), iter(range(10_000))

    def fail_once() -> None:
        if next(count) == 4:
            raise ModelUnavailableError("away")

    async with here(tmp_path, Wrapped(model, fail_once)) as at:
        store = at.services.operations.dependencies.store
        before = await a_program(store, backend="dspy")
        await a_dataset(store, ROWS)
        request = CreateOptimization(
            program="qa",
            dataset="questions",
            optimizer=optimizer,
            configuration={**settings, "insist": True},
        )
        row = await at.ended("create_optimization", request)
        assert row.status == "completed", row.error
        assert row.attempts == 2
        # it chooses, and scores nothing
        assert ("scored" in row.progress) == (optimizer != "LabeledFewShot")
        result = await store.get(DOMAIN["program_version"], id=row.result_version_id)
        assert result is not None
        if optimizer != "MIPROv2":  # its best may be one without demonstrations
            assert "'question': 'question " in str((result.definition, result.assignment))
        assert (result.made_by, result.parent_id) == (f"job {row.id}", before.current_version_id)
        journal = await SQLJournal(at.services.data, row.id).entries()
        answers = [entry["key"] for entry in journal if entry["kind"] == "answer"]
        assert len(answers) == len(set(answers))
        assert model.calls - len(answers) <= 8  # what was under way when the model went away


async def test_a_front_is_in_the_objectives_of_the_caller(tmp_path: Path) -> None:
    async with here(tmp_path) as at:
        store = at.services.operations.dependencies.store
        program = await a_program(store)
        job = await a_search(at, program)
        figures: list[tuple[float | None, float, float]] = [
            (0.5, 3.0, 0.1), (0.7, 5.0, 0.2), (0.7, 5.0, 0.1), (0.9, 9.0, 0.3), (None, 1.0, 0.1)
        ]  # fmt: skip
        columns = [
            {
                "number": number,
                "label": f"t{number}",
                "score": match,
                "rows": 9,
                "failed": 0,
                "calls": 9,
                "is_final": number != 3,
                "is_on_front": False,
                "figures": {"exact_match": match, "tokens": tokens, "p95": p95},
            }
            for number, (match, tokens, p95) in enumerate(figures)
        ]
        await store.write(*trial_rows(job, columns, new_id=new_id, now=job.created_at))

        async def numbers(*objectives: str) -> list[int]:
            request = FrontOf(id=job.id, objectives=[*objectives])
            front = await at.act("optimization_front", request)
            return [trial["number"] for trial in front.trials]

        assert await numbers("exact_match") == [1]
        assert await numbers("exact_match", "-tokens") == [1, 0]
        assert await numbers("exact_match", "-p95") == [2]
        assert await numbers("-tokens") == [4]
        for objectives, message in (([], "at least one"), (["usdd"], "unknown figure 'usdd'")):
            with pytest.raises(InvalidError, match=message):
                await numbers(*objectives)
