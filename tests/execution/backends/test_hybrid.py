import asyncio
import contextlib
import importlib
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from dspex.errors import ConfigurationError, DeadlineError, DefinitionError
from dspex.execution.backends import HybridBackend, IsolatedBackend, MockBackend
from dspex.execution.context import Cancellation, RunContext
from dspex.execution.modules import CodeRoot, Predict, build
from dspex.telemetry import Status
from dspex.testing.backends import BackendContract, answering

FOLDER = Path(__file__).parent
VALUES = {"query": "weather in Bern", "answer": 7, "sure": True}


def written(name):
    """Return a class of `two_steps.py`, imported like code in the code root."""
    sys.path.insert(0, str(FOLDER))
    try:
        return getattr(importlib.import_module("two_steps"), name)
    finally:
        sys.path.remove(str(FOLDER))


def two_steps(**where):
    """Return the program with the given nodes on other backends."""
    program = written("TwoSteps")().to_program()
    children = {
        name: replace(child, backend=where.get(name, "native"))
        for name, child in program.root.children.items()
    }
    return replace(program, root=replace(program.root, children=children))


async def run(program, backends):
    context = RunContext(model=answering(VALUES))
    hybrid = HybridBackend(backends, code=CodeRoot(FOLDER))
    return await hybrid.execute_program(
        await hybrid.create_program(program), {"question": "?"}, context
    ), context.model


def placed_on(backend):
    return Predict("question -> answer").on(backend).to_program("p")


def ran(prediction):
    """Return the backends of the nodes and the reasons."""
    spans = [span for span in prediction.trace.spans if span.kind == "backend"]
    return [(span.name, span.path, span.attributes["why"]) for span in spans]


class TestHybrid(BackendContract):
    def make(self):
        return contextlib.nullcontext(HybridBackend({"mock": MockBackend()}))


async def test_each_node_runs_where_its_definition_says_and_the_trace_shows_it():
    prediction, model = await run(
        two_steps(search="mock"), {"mock": MockBackend([{"query": "mocked"}])}
    )
    assert prediction.answer == 7
    assert "mocked" in model.requests[0].messages[-1].content
    assert ran(prediction) == [("mock", "search", "node 'search' names the backend 'mock'")]
    assert len(model.requests) == 1
    whole, _ = await run(placed_on("mock"), {"mock": MockBackend()})
    assert ran(whole) == [("mock", "self", "node 'self' names the backend 'mock'")]


@pytest.mark.bridge
async def test_a_node_in_a_list_that_runs_in_a_worker_is_told_by_its_own_path():
    code = CodeRoot(FOLDER)
    async with asyncio.timeout(60), IsolatedBackend(code=code) as isolated:
        prediction, _ = await run(
            written("Plain")("mock", "isolated").to_program(),
            {"isolated": isolated, "mock": MockBackend()},
        )
    assert prediction.to_dict() == {"answer": 7, "sure": True}
    assert ran(prediction) == [
        ("mock", "search", "node 'search' names the backend 'mock'"),
        ("isolated", "steps[0]", "node 'steps[0]' names the backend 'isolated'"),
    ]


async def test_a_module_says_itself_which_of_its_parts_run_elsewhere():
    program = written("Mixed")().to_program()
    assert [(node.id, node.backend) for node in program.root.walk()] == [
        ("self", "native"),
        ("search", "mock"),
        ("steps[0]", "native"),
    ]
    assert program.root.config["isolation"] == "process"
    again = build(program, code=CodeRoot(FOLDER)).to_program()
    assert again.content_hash == program.content_hash
    prediction, model = await run(program, {"mock": MockBackend([{"query": "mocked"}])})
    assert (prediction.answer, len(model.requests)) == (7, 1)
    here = Predict("question -> answer").on("dspy")
    assert build(here.to_program("p")).to_program("p").root.backend == "dspy"
    assert Predict("question -> answer").to_program("p").root.backend == "native"


async def test_a_backend_that_is_not_here_is_named():
    with pytest.raises(
        DefinitionError,
        match="node 'search' names the backend 'dspy'; this process has: native, mock",
    ):
        await run(two_steps(search="dspy"), {"mock": MockBackend()})


class Owned(MockBackend):
    """A backend bound to the loop that created it, like a pool; with `hold` it never answers."""

    def __init__(self, *, hold=False):
        super().__init__([{"query": "mocked"}] if not hold else None)
        self.loop, self.hold, self.ended = asyncio.get_running_loop(), hold, asyncio.Event()
        self.asked = asyncio.Event()

    async def execute_program(self, handle, inputs, context):
        assert asyncio.get_running_loop() is self.loop
        self.asked.set()
        if self.hold:
            try:
                await asyncio.Event().wait()
            finally:
                self.ended.set()
        return await super().execute_program(handle, inputs, context)


@pytest.mark.parametrize("kind", ["Plain", "OwnLoop"])
async def test_a_forward_in_a_thread_reaches_a_backend_that_belongs_to_the_runs_loop(kind):
    async with asyncio.timeout(10):
        prediction, model = await run(written(kind)("mock").to_program(), {"mock": Owned()})
    assert prediction.to_dict() == {"answer": 7, "sure": True}
    assert len(model.requests) == 1


async def test_a_call_that_blocks_the_loop_of_a_backend_says_to_await():
    async with asyncio.timeout(10):
        with pytest.raises(ConfigurationError, match="acall"):
            await run(written("Blocking")("mock").to_program(), {"mock": Owned()})


async def test_deadline_and_cancellation_end_what_a_forward_in_a_thread_waits_for():
    async with asyncio.timeout(10):
        for name in ("deadline", "cancellation", "task"):
            backend, stop = Owned(hold=True), Cancellation()
            hybrid = HybridBackend({"mock": backend}, code=CodeRoot(FOLDER))
            handle = await hybrid.create_program(written("Plain")("mock").to_program())
            model = answering(VALUES)
            context = RunContext(model=model, cancellation=stop)
            context = context.within(0.2) if name == "deadline" else context
            task = asyncio.create_task(hybrid.execute_program(handle, {"question": "?"}, context))
            await backend.asked.wait()
            if name != "deadline":
                stop.cancel() if name == "cancellation" else task.cancel()
            with pytest.raises(DeadlineError if name == "deadline" else asyncio.CancelledError):
                await task
            assert backend.ended.is_set()
            assert model.requests == []


async def test_what_a_forward_in_a_thread_does_is_streamed():
    async with asyncio.timeout(10):
        module = written("Plain")()
        events = [
            event
            async for event in module.stream(RunContext(model=answering(VALUES)), question="?")
        ]
        paths, prediction = (
            [event.path for event in events if isinstance(event, Status)],
            events[-1].prediction,
        )
    assert list(dict.fromkeys(paths)) == ["self", "search", "steps[0]"]
    assert prediction.answer == 7


@pytest.mark.full
async def test_native_and_dspy_nodes_give_the_same_outputs_on_one_scripted_model():
    pytest.importorskip("dspy", reason="pip install 'dspex[dspy]'")
    from dspex.execution.backends.dspy_bridge import DspyBackend

    async with asyncio.timeout(60), DspyBackend() as bridge:
        outputs = []
        for where in (
            {},
            {"search": "dspy"},
            {"steps[0]": "dspy"},
            {"search": "dspy", "steps[0]": "dspy"},
        ):
            prediction, _ = await run(two_steps(**where), {"dspy": bridge})
            why = {path: f"node {path!r} names the backend 'dspy'" for path in where}
            assert {path: reason for _, path, reason in ran(prediction)} == why
            outputs.append(prediction.to_dict())
            assert prediction.usage.calls == 2
        for name in ("Plain", "OwnLoop"):
            for backends in (("native", "dspy"), ("dspy", "native"), ("dspy", "dspy")):
                prediction, _ = await run(written(name)(*backends).to_program(), {"dspy": bridge})
                outputs.append(prediction.to_dict())
        assert outputs == [{"answer": 7, "sure": True}] * 10
