"""Uses the optimizer `OneTry` by its name.

In Python, on the command line, in a job, over the API.
"""

import asyncio
import warnings
from pathlib import Path
from typing import Any

import pytest

import dspex.optimizers
from dspex.errors import InvalidError
from dspex.operations.optimizations.inputs import CreateOptimization
from dspex.operations.optimizations.stored_trials import trials_of
from dspex.testing import SimulatedModel
from tests.changes.changed_source import help_of
from tests.operations.jobs.rows import a_dataset, a_program
from tests.operations.optimizations.test_jobs import ROWS, here
from tests.surfaces.api.client import serving

ENTRY = {
    "name": "OneTry",
    "summary": "Tries one text, as often as it is told to.",
    "options": {"times": "a whole number from 1 to 1000"},
    "extra": None,
    "runs_on_dspy": False,
}


async def use_in_jobs() -> None:
    async with here(Path("home"), SimulatedModel()) as at:
        store = at.services.operations.dependencies.store
        await a_program(store, backend="native")
        await a_dataset(store, ROWS)

        async def optimize(times: int) -> Any:
            request = CreateOptimization(
                program="qa",
                dataset="questions",
                optimizer="OneTry",
                configuration={"options": {"times": times}},
            )
            return await at.ended("create_optimization", request)

        row = await optimize(2)
        assert row.status == "completed", row.error
        trials = await trials_of(at.services.operations, row.id)
        assert [trial.label for trial in trials][1:] == ["one try"] * 2
        with pytest.raises(InvalidError, match="0 is not a whole number from 1 to 1000"):
            await optimize(0)


async def use_over_the_api() -> None:
    async with serving(Path("server")) as server:
        await server.give_key("k", "read")
        query = '{knownOptimizers(input: {startsWith: "One"}) {optimizers}}'
        answer = await server.graphql(query, key="k")
        assert answer["data"]["knownOptimizers"]["optimizers"] == [ENTRY]
        path = "/v1/actions/known_optimizers"
        response = await server.ask("POST", path, key="k", body={"starts_with": "One"})
        assert response.json["optimizers"] == [ENTRY], response.body


warnings.simplefilter("ignore")
assert Path(dspex.__file__).parent.parent == Path.cwd()
assert dspex.optimizers.OneTry(times=2).times == 2  # type: ignore[attr-defined]
assert "OneTry" in dspex.optimizers.__all__
HELP = help_of("optimize")
assert "OneTry: Tries one text, as often as it is told to." in HELP, HELP
assert (
    "How many candidates (LabeledFewShot, RandomSearch, MIPROv2, Joint, OneTry, GEPA)." in HELP
), HELP
asyncio.run(use_in_jobs())
asyncio.run(use_over_the_api())
