"""The rows that a search does not see, and what the comparison on them needs."""

from collections.abc import Mapping
from typing import Any

from dspex.execution.clients import Budget
from dspex.learning.evaluation import Dataset
from dspex.learning.optimizers import Control
from dspex.learning.optimizers.reply_store import ReplyStore
from dspex.operations.evaluations.job_environment import Material
from dspex.operations.optimizations.inputs import held_out_share
from dspex.operations.optimizations.records import OptimizationJobRecord
from dspex.operations.programs.declarations import Declaration, read_declarations


def split(data: Dataset, settings: Mapping[str, Any]) -> tuple[Dataset, Dataset | None]:
    """Return the rows that a job searches on, and the rows that it holds out, if any."""
    share = held_out_share(len(data), settings)
    if not share:
        return data, None
    test, train = data.split(share, seed=settings.get("seed") or 0)
    return train, test


def goal_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a search is after, as far as the settings of a job say it."""
    values = {name: settings.get(name) for name in ("maximize", "subject_to", "alpha", "on_error")}
    return {name: value for name, value in values.items() if value is not None}


def declarations_of(settings: Mapping[str, Any]) -> tuple[Declaration, ...]:
    """Return the variables and constraints that a job declares beside those of its program."""
    return read_declarations(settings.get("variables"), settings.get("constraints"))


async def answers_of(job: OptimizationJobRecord, material: Material) -> ReplyStore:
    """Return the replies of earlier runs of a job, within its budget."""
    concurrency = job.configuration.get("concurrency") or 8
    budget = Budget(**job.budget)
    answers = ReplyStore(
        material.journal, budget=budget, control=Control(), concurrency=concurrency
    )
    for entry in await material.journal.entries():
        if entry["kind"] in {"answer", "lost"}:
            answers.restore(entry)
    budget.begin(answers.elapsed)
    return answers
