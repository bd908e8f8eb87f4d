"""The code of a program changes while workers run."""

import asyncio

import pytest

from dspex.errors import ConflictError
from dspex.execution.backends.dspy_bridge import DspyBackend, DspyConfig
from dspex.execution.context import RunContext
from dspex.execution.workers import PoolConfig
from dspex.testing.backends import answering

pytestmark = pytest.mark.full
CODE = """
import dspy

class Own(dspy.Module):
    def __init__(self):
        super().__init__()
        self.step = dspy.Predict("question -> answer")

    def forward(self, question: str):
        return dspy.Prediction(answer=self.step(question=question).answer + "NUMBER")
"""


async def test_a_worker_with_older_code_is_replaced_and_older_programs_are_refused(
    newest, tmp_path
):
    def write(number):
        (tmp_path / "own.py").write_text(CODE.replace("NUMBER", number))

    context = RunContext(model=answering({"answer": "a"}))
    pool = PoolConfig(name="dspy", minimum=1, maximum=1)
    config = DspyConfig(interpreter=newest, paths=(str(tmp_path),), pool=pool)
    async with asyncio.timeout(120), DspyBackend(config) as serving:

        async def answer(program):
            handle = await serving.create_program(program)
            return (await serving.execute_program(handle, {"question": "?"}, context)).answer

        async def imported():
            async with DspyBackend(config) as fresh:
                return await fresh.import_program("own:Own")

        write("1")
        first = await imported()
        assert await answer(first) == "a1"
        write("2")
        second = await imported()
        assert second.content_hash != first.content_hash
        assert await answer(second) == "a2"
        assert [(worker.state, worker.restarts) for worker in serving.stats().workers] == [
            ("ready", 1)
        ]
        with pytest.raises(ConflictError, match="import it again"):
            await answer(first)
