"""Uses the metric `brief` by its name: in Python, on the command line, and in a job."""

import asyncio
import warnings
from pathlib import Path

import dspex.evaluation
from dspex.operations.evaluations.inputs import CreateEvaluation, KnownMetrics
from dspex.testing import SimulatedModel
from tests.changes.changed_source import help_of
from tests.operations.jobs.rows import a_dataset, a_program
from tests.operations.optimizations.test_jobs import ROWS, here


async def use_in_jobs() -> None:
    async with here(Path("home"), SimulatedModel()) as at:
        store = at.services.operations.dependencies.store
        await a_program(store, backend="native")
        await a_dataset(store, ROWS)
        request = CreateEvaluation(program="qa", dataset="questions", metrics=["brief"])
        row = await at.ended("create_evaluation", request)
        assert (row.status, row.metrics, row.mean) == ("completed", ["brief"], 1.0), row
        assert "brief" in (await at.act("known_metrics", KnownMetrics())).names


warnings.simplefilter("ignore")
assert Path(dspex.__file__).parent.parent == Path.cwd()
assert dspex.evaluation.brief.__name__ == "brief"  # type: ignore[attr-defined]
assert "brief" in dspex.evaluation.__all__
for COMMAND in ("eval", "optimize"):
    HELP = help_of(COMMAND)
    assert "exact_match, contains, f1, brief, " in HELP, HELP
asyncio.run(use_in_jobs())
