"""The contract of a language model, on the one that belongs to a job."""

import asyncio
from datetime import UTC, datetime
from uuid import UUID

import pytest

from dspex.errors import ModelUnavailableError
from dspex.execution.clients import LanguageModel, Request
from dspex.operations.evaluations.job_model import JobModel
from dspex.operations.evaluations.records import EvaluationRecord
from dspex.operations.jobs import JobRun
from dspex.testing import ScriptedModel
from dspex.testing.contracts import LanguageModelContract


def a_run() -> JobRun:
    now, key = datetime.now(UTC), UUID(int=1)
    row = EvaluationRecord(
        id=key,
        workspace="default",
        created_at=now,
        updated_at=now,
        program_id=key,
        program_version_id=key,
        dataset_id=key,
        metrics=[],
        configuration={},
        needs={},
        progress={},
    )
    return JobRun(row, lambda: None)


class TestJobModel(LanguageModelContract):
    def make(self) -> LanguageModel:
        return JobModel(ScriptedModel("Paris", capabilities=["streaming"]), a_run())


async def test_a_model_that_is_away_ends_the_run_and_all_its_calls() -> None:
    run, never = a_run(), asyncio.Event()

    class Waiting(ScriptedModel):
        async def complete(self, request: Request) -> object:  # type: ignore[override]
            await never.wait()
            return None

    task = asyncio.create_task(JobModel(Waiting("x"), run).complete(Request(messages=())))
    await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await JobModel(ScriptedModel(ModelUnavailableError("away")), run).complete(
            Request(messages=())
        )
    assert run.failure is not None
    assert run.failure.is_retryable
    with pytest.raises(asyncio.CancelledError):
        await task
