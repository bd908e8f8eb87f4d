"""The backends of a process, from its settings."""

import asyncio
import importlib
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from dspex import Predict
from dspex.bootstrap import WORKERS, dspy_bridge, open_backends
from dspex.bootstrap.jobs import worker_command
from dspex.errors import InputError, RefusedError
from dspex.execution.adapters.registry import find_adapter
from dspex.execution.context import RunContext
from dspex.execution.modules import CodeRoot
from dspex.execution.workers.status_file import read_statuses
from dspex.settings import Secret, Settings, environment_of
from dspex.testing import ScriptedModel
from dspex.testing.backends import answering, predicting
from dspex.testing.processes import open_resources
from tests.support.waiting import eventually

FOLDER = Path(__file__).parents[1] / "execution" / "backends"
VALUES = {"query": "weather in Bern", "answer": 7, "sure": True}


@pytest.fixture
def settings(tmp_path):
    return Settings(state_dir=tmp_path)


def code_program(name):
    sys.path.insert(0, str(FOLDER))
    try:
        two_steps = importlib.import_module("two_steps")
    finally:
        sys.path.remove(str(FOLDER))
    return getattr(two_steps, name)().to_program(name)


def told_of(folder):
    return [
        (pool.name, worker.pid, worker.state)
        for process in read_statuses(folder)
        for pool in process.pools
        for worker in pool.workers
    ]


async def run(backends, program, context, **inputs):
    choice = backends.choose(program, backend=inputs.pop("asked", None))
    handle = await choice.backend.create_program(choice.program)
    return await choice.backend.execute_program(handle, inputs, context), choice


async def test_a_native_program_starts_no_worker_and_tells_of_none(settings):
    before = open_resources()
    async with open_backends(settings) as backends:
        prediction, choice = await run(
            backends, predicting(), RunContext(model=answering(VALUES)), question="?"
        )
        assert (prediction.answer, choice.name) == (7, "native")
        assert open_resources()[0] == before[0]
    assert not (settings.state_dir / WORKERS).exists()


@pytest.mark.bridge
async def test_code_runs_in_a_worker_where_the_settings_say_so_and_nothing_is_left_of_it(tmp_path):
    settings = Settings(state_dir=tmp_path, isolation="process", workers=1)
    folder = tmp_path / WORKERS

    before = open_resources()
    async with open_backends(settings, code=CodeRoot(FOLDER)) as backends:
        context = RunContext(model=answering(VALUES))
        prediction, choice = await run(backends, code_program("TwoSteps"), context, question="?")
        assert (prediction.answer, choice.name) == (7, "isolated")
        where, _ = await run(backends, code_program("Where"), RunContext(), question="?")
        assert where.pid != os.getpid()
        await eventually(lambda: told_of(folder) == [("isolated", where.pid, "ready")], within=10)
        here, _ = await run(
            backends, code_program("Where"), RunContext(), question="?", asked="native"
        )
        assert here.pid == os.getpid()
    assert read_statuses(folder) == []
    after = open_resources()
    assert after[0] == before[0]


@pytest.mark.bridge
async def test_a_program_in_a_worker_has_the_adapter_of_the_run_and_models_of_its_own(settings):
    second = ScriptedModel('{"answer": 8}')

    def resolve(text):
        assert text == "other/model"
        return second

    async with open_backends(settings, code=CodeRoot(FOLDER)) as backends:
        model = ScriptedModel('{"answer": 7}')
        context = RunContext(model=model, adapter=find_adapter("json"), models=resolve)
        prediction, _ = await run(backends, predicting(), context, question="?", asked="isolated")
        assert prediction.answer == 7
        assert "JSON" in model.requests[0].messages[0].content
        root = predicting().root
        configured = replace(predicting(), root=replace(root, config={"model": "other/model"}))
        prediction, _ = await run(backends, configured, context, question="?", asked="isolated")
        assert (prediction.answer, len(second.requests)) == (8, 1)
        refusing = RunContext(model=ScriptedModel(RefusedError("no")))
        with pytest.raises(RefusedError):
            await run(backends, predicting(), refusing, question="?", asked="isolated")


@pytest.mark.full
async def test_one_program_gives_the_same_outputs_natively_in_a_worker_and_on_dspy(settings):
    pytest.importorskip("dspy", reason="pip install 'dspex[dspy]'")

    async with open_backends(settings, code=CodeRoot(FOLDER)) as backends:
        outputs = {}
        for backend in ("native", "isolated", "dspy"):
            context = RunContext(model=answering(VALUES))
            prediction, choice = await run(
                backends, code_program("TwoSteps"), context, question="?", asked=backend
            )
            outputs[choice.name] = prediction.to_dict()
            assert prediction.usage.calls == 2
            on_dspy = [
                span
                for span in prediction.trace.spans
                if (span.kind, span.name) == ("backend", "dspy")
            ]
            assert len(on_dspy) == (2 if backend == "dspy" else 0)
            assert all("names the backend 'dspy'" in span.attributes["why"] for span in on_dspy)
        assert outputs == {
            name: {"answer": 7, "sure": True} for name in ("native", "isolated", "hybrid")
        }
        status = read_statuses(settings.state_dir / WORKERS)[0]
        assert [pool.name for pool in status.pools] == ["isolated", "dspy"]


async def test_without_dspy_the_backend_is_refused_with_what_to_install(settings, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    async with open_backends(settings) as backends:
        with pytest.raises(
            InputError, match=r"pip install 'dspex\[dspy\]'.*DSPEX_DSPY_INTERPRETER"
        ):
            backends.choose(predicting(), backend="dspy")
        with pytest.raises(InputError, match=r"pip install 'dspex\[dspy\]'"):
            await dspy_bridge(backends)


def test_the_job_worker_of_a_server_isolates_code_as_the_server_does(settings):
    assert "--isolation" not in worker_command(settings)
    command = worker_command(replace(settings, isolation="process"))
    assert command[-2:] == ["--isolation", "process"]


def test_the_command_line_of_the_job_worker_holds_no_secret_and_its_environment_the_model(settings):
    variant = replace(
        settings,
        model="https://me:hidden-1@host/v1#m",
        database_url=Secret("postgresql://me:hidden-2@host/db"),
        secret_key=Secret("hidden-3" * 8),
        keys={"DSPEX_API_KEY": Secret("hidden-4")},
    )
    assert "hidden" not in " ".join(worker_command(variant))
    assert environment_of(variant)["DSPEX_MODEL"] == "https://me:hidden-1@host/v1#m"


@pytest.mark.bridge
async def test_the_settings_say_how_many_calls_a_worker_with_dspy_runs_at_once(settings):
    """Six calls wait for each other, so they end only if all of them run in the one worker."""
    pytest.importorskip("dspy", reason="pip install 'dspex[dspy]'")
    calls, all_run = 6, asyncio.Event()

    class Meeting(ScriptedModel):
        async def complete(self, request):
            answer = await super().complete(request)
            if len(self.requests) == calls:
                all_run.set()
            await all_run.wait()
            return answer

    program = Predict("question -> answer").to_program("qa")
    model = Meeting(*["[[ ## answer ## ]]\nyes\n\n[[ ## completed ## ]]"] * calls)
    settings = replace(settings, dspy_workers=1, dspy_concurrency=calls)
    async with open_backends(settings) as backends, asyncio.timeout(60):
        choice = backends.choose(program, backend="dspy")
        handle = await choice.backend.create_program(choice.program)
        context = RunContext(model=model)
        answers = [
            choice.backend.execute_program(handle, {"question": f"{number}"}, context)
            for number in range(calls)
        ]
        assert len(await asyncio.gather(*answers)) == calls
