"""A stored judge as the metric of dspy's own optimizers."""

import importlib.util
from pathlib import Path

import pytest

from dspex.evaluation import Judge
from dspex.execution.clients import Request
from dspex.operations.optimizations.inputs import CreateOptimization
from dspex.operations.programs.stored_programs import save_program
from dspex.testing import ScriptedModel
from tests.operations.jobs.rows import a_dataset, a_program
from tests.operations.optimizations.test_jobs import ROWS, here

pytestmark = [
    pytest.mark.full,
    pytest.mark.filterwarnings("ignore:.*rows:UserWarning"),
    pytest.mark.skipif(
        importlib.util.find_spec("dspy") is None, reason="pip install 'dspex[dspy]'"
    ),
]


async def test_an_optimizer_of_dspy_asks_the_judge(tmp_path: Path) -> None:
    def reply(request: Request) -> str:
        if "criterion" in request.messages[0].content:
            return "[[ ## reason ## ]]\nGood.\n\n[[ ## score ## ]]\n1.0"
        return "[[ ## answer ## ]]\n?\n\n[[ ## completed ## ]]"

    model = ScriptedModel(reply)
    async with here(tmp_path, model) as at:
        store = at.services.operations.dependencies.store
        await a_program(store, backend="dspy")
        await a_dataset(store, ROWS[:12])
        await save_program(at.operations, Judge("is right").to_program("right"))
        request = CreateOptimization(
            program="qa",
            dataset="questions",
            judge="right",
            optimizer="BootstrapFewShot",
            configuration={"options": {"max_bootstrapped_demos": 2}, "insist": True, "holdout": 0},
        )
        row = await at.ended("create_optimization", request)
        assert row.status == "completed", row.error
        assert row.best["metric"] == "right"
        assert row.result_version_id is not None
    assert any("The criterion: is right" in sent.messages[0].content for sent in model.requests)
