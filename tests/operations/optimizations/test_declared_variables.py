"""Variables that callers declare over the API: on a program, and for one search."""

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

from dspex.bootstrap import new_id
from dspex.errors import ForbiddenError, InvalidError
from dspex.execution.clients import Request
from dspex.operations.domain import DOMAIN
from dspex.operations.framework.access import Actor
from dspex.operations.framework.operations import Operations
from dspex.operations.framework.store import Query
from dspex.operations.optimizations.inputs import CreateOptimization, PromoteTrial
from dspex.operations.optimizations.results import trial_rows
from dspex.operations.programs.inputs import CreateProgram
from dspex.operations.programs.records import PROGRAM_VERSION
from dspex.operations.programs.stored_programs import program_value
from dspex.testing import ScriptedModel
from tests.operations.jobs.rows import a_dataset, a_program
from tests.operations.optimizations.test_jobs import Here, a_search, here

ROWS = [{"question": f"question {n}", "answer": f"answer {n}"} for n in range(60)]
HEAT = {
    "name": "heat",
    "kind": "choice",
    "options": [0.0, 0.9],
    "default": 0.0,
    "paths": ["self.temperature"],
}
pytestmark = pytest.mark.filterwarnings("ignore:.*rows:UserWarning")


def reply(request: Request) -> str:
    """Answer every third question right, and every one at a temperature of 0.9."""
    number = re.findall(r"question (\d+)", str(request.messages[-1].content))[-1]
    is_right = int(number) % 3 == 0 or request.temperature == 0.9
    return f"[[ ## answer ## ]]\n{'answer ' + number if is_right else 'none'}"


def search_over(*variables: Any, **values: Any) -> CreateOptimization:
    settings = {"holdout": 0.5, "options": {"trials": 6}, "rows": 20}
    defaults: dict[str, Any] = {"optimizer": "Joint", "configuration": settings}
    return CreateOptimization(
        program="qa", dataset="questions", variables=[*variables], **{**defaults, **values}
    )


async def versions(at: Here) -> list[Any]:
    return list(await at.operations.store.select(PROGRAM_VERSION, Query(oldest_first=True)))


async def test_a_search_varies_what_it_declares_and_the_version_keeps_it(tmp_path: Path) -> None:
    async with here(tmp_path, ScriptedModel(reply)) as at:
        store = at.services.operations.dependencies.store
        await a_program(store, backend="native")
        await a_dataset(store, ROWS)
        row = await at.ended("create_optimization", search_over(HEAT))
        assert (row.status, row.error) == ("completed", None)
        assert row.result_version_id is not None, row.best
        program = await program_value(at.operations, await at.program())
        assert program.assignment["heat"] == 0.9
        assert program.space["heat"].paths == ("self.temperature",)
        assert max(row.best["importance"], key=row.best["importance"].get) == "heat"


async def test_a_job_stores_what_each_value_of_its_winner_adds(tmp_path: Path) -> None:
    async with here(tmp_path, ScriptedModel(reply)) as at:
        store = at.services.operations.dependencies.store
        await a_program(store, backend="native")
        await a_dataset(store, ROWS)
        settings = {"holdout": 0.5, "options": {"trials": 6}, "rows": 20, "ablate": True}
        row = await at.ended("create_optimization", search_over(HEAT, configuration=settings))
        ablation = row.best["ablation"]
        assert ablation.keys() == row.best["values"].keys()
        assert (ablation["heat"]["pairs"], ablation["heat"]["low"] > 0) == (30, True)


async def test_a_search_that_finds_nothing_better_declares_nothing(tmp_path: Path) -> None:
    model = ScriptedModel(lambda _request: "[[ ## answer ## ]]\nnone")
    async with here(tmp_path, model) as at:
        store = at.services.operations.dependencies.store
        await a_program(store, backend="native")
        await a_dataset(store, ROWS)
        row = await at.ended("create_optimization", search_over(HEAT))
        assert (row.status, row.result_version_id) == ("completed", None)
        assert len(await versions(at)) == 1


async def test_a_trial_with_a_declared_variable_is_promoted(tmp_path: Path) -> None:
    async with here(tmp_path, ScriptedModel(reply)) as at:
        store = at.services.operations.dependencies.store
        program = await a_program(store, backend="native")
        settings = {"holdout": 0.5, "variables": [HEAT], "constraints": []}
        job = await a_search(at, program, rows=ROWS, configuration=settings)
        columns = {"number": 1, "label": "hot", "score": 1.0, "rows": 30, "failed": 0, "calls": 30}
        columns |= {"is_final": True, "is_on_front": True, "figures": {}}
        (trial,) = trial_rows(
            job, [{**columns, "assignment": {"heat": 0.9}}], new_id=new_id, now=job.created_at
        )
        await store.write(trial)
        row = await at.ended("promote_trial", PromoteTrial(trial_id=trial.entity.id))
        assert (row.status, row.error) == ("completed", None)
        assert (await versions(at))[-1].assignment["heat"] == 0.9


async def test_a_program_is_created_with_variables_and_constraints(tmp_path: Path) -> None:
    constraint = {
        "name": "short when hot",
        "test": [
            "or",
            ["==", ["var", "heat"], {"value": 0.0}],
            ["<=", ["var", "room"], {"value": 64}],
        ],
        "rewrite": {"room": {"value": 64}},
    }
    room = {"name": "room", "kind": "integer", "low": 16, "high": 256, "paths": ["self.max_tokens"]}
    async with here(tmp_path, ScriptedModel(reply)) as at:
        request = CreateProgram(
            name="qa",
            signature="question -> answer",
            variables=[HEAT, room],
            constraints=[constraint],
        )
        await at.act("create_program", request)
        program = await program_value(at.operations, await at.program())
        assert {"heat", "room"} <= program.space.keys()
        assert program.space.complete({"heat": 0.9, "room": 200})["room"] == 64
        await a_dataset(at.operations.store, ROWS)
        row = await at.ended("create_optimization", search_over())
        assert (row.status, row.error) == ("completed", None)
        assert (await program_value(at.operations, await at.program())).assignment["heat"] == 0.9


@pytest.mark.parametrize(
    ("variables", "path", "problem"),
    [
        ([{"name": "x", "kind": "flot"}], "variables[0]", "kinds are"),
        ([HEAT, {**HEAT, "low": 1}], "variables[1]", "low"),
        ([{**HEAT, "hight": 2}], "variables[0]", "hight"),
        (["heat"], "variables[0]", "object"),
        ([{**HEAT, "paths": ["self.temprature"]}], "variables", "temprature"),
        ([{**HEAT, "options": [0.0, "hot"]}], "variables", "temperature"),
        ([HEAT, HEAT], "variables", "heat"),
        ([{**HEAT, "when": ["<", ["var", "nothing"], {"value": 1}]}], "variables", "nothing"),
        ([{**HEAT, "when": ["system", {"value": 1}]}], "variables[0]", "unknown operation"),
        ([{**HEAT, "name": f"h{n}"} for n in range(201)], "variables", "at most 200"),
    ],
)
async def test_a_wrong_declaration_is_refused_at_creation(
    tmp_path: Path, variables: list[Any], path: str, problem: str
) -> None:
    async with here(tmp_path, ScriptedModel(reply)) as at:
        store = at.services.operations.dependencies.store
        with pytest.raises(InvalidError, match=re.escape(problem)) as caught:
            await at.act(
                "create_program",
                CreateProgram(name="new", signature="question -> answer", variables=variables),
            )
        assert path in {error.path for error in caught.value.fields}
        await a_program(store, backend="native")
        await a_dataset(store, ROWS)
        with pytest.raises(InvalidError, match=re.escape(problem)) as caught:
            await at.act("create_optimization", search_over(*variables))
        assert caught.value.fields[0].path == path
        assert await store.count(DOMAIN["optimization_job"], {}) == 0


def growing(op: str, start: Any) -> list[Any]:
    """Return composites that would double a value sixty times."""
    first = {
        "name": "v0",
        "kind": "composite",
        "compute": ["if", {"value": True}, {"value": start}, {"value": 0}],
    }
    more = [
        {
            "name": f"v{n}",
            "kind": "composite",
            "compute": [op, ["var", f"v{n - 1}"], ["var", f"v{n - 1}"]],
        }
        for n in range(1, 60)
    ]
    return [first, *more]


@pytest.mark.parametrize(
    "variables",
    [
        growing("+", "text"),
        growing("*", 2**40),
        [{"name": "v", "kind": "composite", "compute": ["*", {"value": "x"}, {"value": 10**10}]}],
        [
            {
                "name": "v",
                "kind": "composite",
                "compute": ["%", {"value": "%1000000000d"}, {"value": 5}],
            }
        ],
    ],
)
async def test_no_declaration_takes_the_memory_of_the_server(
    tmp_path: Path, variables: list[Any]
) -> None:
    last = {**variables[-1], "paths": ["self.max_tokens"]}
    async with here(tmp_path, ScriptedModel(reply)) as at:
        request = CreateProgram(
            name="qa", signature="question -> answer", variables=[*variables[:-1], last]
        )
        with pytest.raises(InvalidError):
            await at.act("create_program", request)


async def test_a_caller_reaches_no_server_by_the_option_of_a_variable(tmp_path: Path) -> None:
    inner = {"name": "m", "kind": "choice", "options": ["http://10.0.0.1/v1#x", "openai/a"]}
    async with here(tmp_path, ScriptedModel(reply)) as at:
        caller = Actor(name="key", key_id=new_id(), workspace="theirs")
        operations = Operations(at.operations.dependencies, actor=caller)
        request = CreateProgram(
            name="qa",
            signature="question -> answer",
            variables=[{**inner, "paths": ["self.model"]}],
        )
        action = next(action for action in DOMAIN.actions if action.name == "create_program")
        with pytest.raises(ForbiddenError, match=r"variables\[0\].options\[0\]"):
            await operations.perform(action, request)


@pytest.mark.full
@pytest.mark.skipif(importlib.util.find_spec("dspy") is None, reason="pip install 'dspex[dspy]'")
async def test_space_and_values_go_along_to_an_optimizer_of_dspy(tmp_path: Path) -> None:
    model = ScriptedModel(reply)
    async with here(tmp_path, model) as at:
        store = at.services.operations.dependencies.store
        request = CreateProgram(
            name="qa",
            signature="question -> answer",
            backend="dspy",
            variables=[{**HEAT, "default": 0.9}],
        )
        await at.act("create_program", request)
        await a_dataset(store, ROWS[:12])
        room = {"name": "room", "kind": "integer", "low": 16, "high": 256, "default": 128}
        row = await at.ended(
            "create_optimization",
            search_over(
                {**room, "paths": ["self.max_tokens"]},
                optimizer="BootstrapFewShot",
                configuration={"insist": True, "options": {"max_bootstrapped_demos": 2}},
            ),
        )
        assert (row.status, row.error) == ("completed", None)
        assert {request.temperature for request in model.requests} >= {0.9}
        program = await program_value(at.operations, await at.program())
        assert {"heat", "room", "self.demos"} <= program.space.keys()
        assert program.assignment["self.demos"]
        assert "+++ self, after" in row.best["prompt_changes"]
