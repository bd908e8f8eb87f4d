import asyncio
import contextlib
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from dspex.errors import DefinitionError
from dspex.execution.backends import HybridBackend, MockBackend
from dspex.execution.context import RunContext
from dspex.execution.modules import CodeRoot, Predict, build
from dspex.testing.backends import BackendContract, answering

FOLDER = Path(__file__).parent
VALUES = {"query": "weather in Bern", "answer": 7, "sure": True}


def two_steps(**where):
    """Return the program with some of its nodes on other backends: by attribute."""
    sys.path.insert(0, str(FOLDER))
    try:
        from two_steps import TwoSteps
    finally:
        sys.path.remove(str(FOLDER))
    program = TwoSteps().to_program()
    children = {
        name: replace(child, backend=where.get(name, "native")) for name, child in program.root.children.items()
    }
    return replace(program, root=replace(program.root, children=children))


async def run(program, backends):
    context = RunContext(model=answering(VALUES))
    hybrid = HybridBackend(backends, code=CodeRoot(FOLDER))
    return await hybrid.execute_program(await hybrid.create_program(program), {"question": "?"}, context), context.model


class TestHybrid(BackendContract):
    def make(self):
        return contextlib.nullcontext(HybridBackend({"mock": MockBackend()}))


def test_each_node_runs_where_its_definition_says_and_the_trace_shows_it():
    prediction, model = asyncio.run(run(two_steps(search="mock"), {"mock": MockBackend([{"query": "mocked"}])}))
    assert prediction.answer == 7
    assert "mocked" in model.requests[0].messages[-1].content
    spans = [(span.kind, span.name, span.path) for span in prediction.trace.spans]
    assert ("backend", "mock", "search") in [(kind, name, "search") for kind, name, _ in spans]
    assert len(model.requests) == 1


def test_a_module_says_itself_which_of_its_parts_run_elsewhere():
    sys.path.insert(0, str(FOLDER))
    try:
        from two_steps import Mixed
    finally:
        sys.path.remove(str(FOLDER))
    program = Mixed().to_program()
    assert [(node.id, node.backend) for node in program.root.walk()] == [
        ("self", "native"),
        ("search", "mock"),
        ("steps[0]", "native"),
    ]
    assert program.root.config["isolation"] == "process"
    again = build(program, code=CodeRoot(FOLDER)).to_program()
    assert again.content_hash == program.content_hash
    prediction, model = asyncio.run(run(program, {"mock": MockBackend([{"query": "mocked"}])}))
    assert (prediction.answer, len(model.requests)) == (7, 1)
    here = Predict("question -> answer").on("dspy")
    assert build(here.to_program("p")).to_program("p").root.backend == "dspy"
    assert Predict("question -> answer").to_program("p").root.backend == "native"


def test_a_backend_that_is_not_here_is_named():
    with pytest.raises(DefinitionError, match="node 'search' names the backend 'dspy'; this process has: native, mock"):
        asyncio.run(run(two_steps(search="dspy"), {"mock": MockBackend()}))


@pytest.mark.full
def test_native_and_dspy_nodes_give_the_same_outputs_on_one_scripted_model():
    pytest.importorskip("dspy", reason="pip install 'dspex[dspy]'")
    from dspex.execution.backends.dspy_bridge import DspyBackend

    async def main():
        async with asyncio.timeout(60), DspyBackend() as bridge:
            found = []
            for where in ({}, {"search": "dspy"}, {"steps[0]": "dspy"}, {"search": "dspy", "steps[0]": "dspy"}):
                prediction, _ = await run(two_steps(**where), {"dspy": bridge})
                ran = sum(span.kind == "backend" and span.name == "dspy" for span in prediction.trace.spans)
                assert ran == len(where)
                found.append(prediction.to_dict())
                assert prediction.usage.calls == 2
            assert found == [{"answer": 7, "sure": True}] * 4

    asyncio.run(main())
