"""`dspex.open`: library runs as executions."""

import asyncio
from pathlib import Path

import pytest

import dspex
from dspex.errors import ConfigurationError, InvalidError, ModelUnavailableError
from dspex.operations.resources import DOMAIN, Query
from dspex.testing import ScriptedModel


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_programs_that_run_inside_are_recorded_and_outside_are_not() -> None:
    model = ScriptedModel("[[ ## answer ## ]]\nParis", cost_usd=0.5)
    program = dspex.Predict("question -> answer", model=model)
    program(question="before?")
    with dspex.open("kept") as store:
        answered = program(question="capital?")
        assert answered.answer == "Paris"
        [row] = store.executions()
        assert (row.status, row.inputs, row.outputs) == ("completed", {"question": "capital?"}, {"answer": "Paris"})
        assert (row.cost_usd, len(row.trace["spans"])) == (0.5, 2)
        assert answered.usage.cost_usd == 0.5
    program(question="after?")
    with dspex.open("kept") as again:
        assert len(again.executions(limit=9)) == 1
    with pytest.raises(ConfigurationError, match="not open"):
        again.executions()


def test_a_failure_is_recorded_and_raised_as_it_is() -> None:
    class Down(ScriptedModel):
        async def complete(self, request: object) -> object:
            raise ModelUnavailableError("down")

    program = dspex.Predict("question -> answer", model=Down("x"))
    with dspex.open() as store:
        with pytest.raises(ModelUnavailableError, match="down"):
            program(question="?")
        with pytest.raises(InvalidError):
            program(qestion="?")
        assert [row.error["code"] for row in store.executions()] == ["invalid", "model_unavailable"]


def test_in_a_coroutine_it_is_opened_and_used_on_the_loop_there() -> None:
    program = dspex.Predict("question -> answer", model=ScriptedModel("[[ ## answer ## ]]\nyes"))

    async def work() -> int:
        async with dspex.open() as store:
            await asyncio.gather(*(program.acall(question=str(n)) for n in range(5)))
            return len(await store.operations.list(DOMAIN["execution"], Query()))

    assert asyncio.run(work()) == 5
    with dspex.open(), pytest.raises(ConfigurationError, match="async with"):
        asyncio.run(program.acall(question="?"))
