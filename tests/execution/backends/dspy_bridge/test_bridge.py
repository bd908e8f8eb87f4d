"""The bridge with the real dspy, in each installed version."""

import asyncio
import sys
import time
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from dspex.errors import (
    AdapterError,
    BudgetError,
    DefinitionError,
    ExecutionError,
    WorkerLostError,
    WorkerStartError,
)
from dspex.execution.backends import BackendModule, Optimization
from dspex.execution.backends.dspy_bridge import DspyBackend, DspyConfig
from dspex.execution.backends.dspy_bridge.schemas import from_wire, to_wire
from dspex.execution.context import RunContext
from dspex.execution.modules import Module, Predict
from dspex.execution.workers import Intensity, PoolConfig
from dspex.language.programs import Node, Program
from dspex.language.signatures import Signature
from dspex.telemetry import Collecting, FieldDelta, Finished, Status
from dspex.testing import ScriptedModel
from dspex.testing.backends import OptimizingBackendContract, answering, predicting
from dspex.testing.processes import open_resources
from tests.support.waiting import eventually

pytestmark = pytest.mark.full

POOL = PoolConfig(name="dspy", minimum=1, maximum=1, intensity=Intensity(restarts=50))
EXACT = {"answer": lambda row, found: float(row["answer"] == found["answer"])}["answer"]


@pytest.fixture
def open_bridge(shared_backend, folder):
    @asynccontextmanager
    async def open_bridge(interpreter, **values):
        async with asyncio.timeout(120):
            config = DspyConfig(interpreter=interpreter, pool=POOL, paths=(folder,))
            context = RunContext(model=answering(values or {"answer": 3}))
            yield await shared_backend(config), context

    return open_bridge


class TestContract(OptimizingBackendContract):
    @pytest.fixture(autouse=True)
    def _interpreter(self, interpreter):
        self.interpreter = interpreter

    def make(self):
        return DspyBackend(DspyConfig(interpreter=self.interpreter, pool=POOL))


async def test_modules_of_dspy_run_on_our_signatures_and_our_model(open_bridge, interpreter):
    async with open_bridge(interpreter) as (bridge, context):
        for kind in ("predict", "chain_of_thought"):
            handle = await bridge.create_program(predicting(backend="dspy", kind=kind))
            prediction = await bridge.execute_program(handle, {"question": "1 + 2?"}, context)
            assert prediction.answer == 3
            assert prediction.usage.calls == 1
            assert [span.kind for span in prediction.trace.spans if span.kind != "module"] == [
                "model",
                "backend",
            ]
            assert prediction.trace.spans[-1].attributes["dspy"] == bridge.version
        assert prediction["reasoning"] == "reasoning"
        assert "Answer the question." in context.model.requests[-1].messages[0].content


async def test_the_trace_shows_the_modules_inside_the_worker_around_the_calls_that_they_make(
    open_bridge, interpreter
):
    async with open_bridge(interpreter, answer="yes", trust="high") as (
        bridge,
        context,
    ):
        handle = await bridge.create_program(
            await bridge.import_program("rag:Hops", init={"hops": 1})
        )
        trace = (await bridge.execute_program(handle, {"question": "?"}, context)).trace
        names = {span.span_id: f"{span.name} {span.path}" for span in trace.spans}
        tree = [(names[span.span_id], names.get(span.parent_id)) for span in trace.spans]
        assert tree == [
            ("scripted search", "Predict search"),
            ("scripted answer.predict", "Predict answer.predict"),
            ("Predict search", "Hops self"),
            ("Predict answer.predict", "ChainOfThought answer"),
            ("ChainOfThought answer", "Hops self"),
            ("Hops self", "dspy self"),
            ("dspy self", None),
        ]
        begins = {names[span.span_id]: span.start_ns for span in trace.spans}
        for span in trace.spans[:-1]:
            outer = next(item for item in trace.spans if item.span_id == span.parent_id)
            assert outer.start_ns <= span.start_ns <= span.end_ns <= outer.end_ns
        assert begins["Predict search"] < begins["ChainOfThought answer"]
        failing = RunContext(model=ScriptedModel("nonsense"), observer=(observer := Collecting()))
        with pytest.raises(AdapterError):
            await bridge.execute_program(handle, {"question": "?"}, failing)
        failed = {span.name: span.status for span in observer.spans}
        assert failed == {"scripted": "ok", "Predict": "error", "Hops": "error", "dspy": "error"}


async def test_modules_in_threads_of_dspy_have_their_place_in_the_trace(open_bridge, interpreter):
    async with open_bridge(interpreter, answer="yes") as (bridge, context):
        handle = await bridge.create_program(await bridge.import_program("rag:Fan"))
        trace = (await bridge.execute_program(handle, {"question": "?"}, context)).trace
        names = {span.span_id: span.name for span in trace.spans}
        tree = sorted((names[span.span_id], names.get(span.parent_id, "")) for span in trace.spans)
        assert tree == [
            ("Fan", "dspy"),
            *[("Predict", "Fan")] * 3,
            ("dspy", ""),
            *[("scripted", "Predict")] * 3,
        ]
        predictors = {span.span_id for span in trace.spans if span.name == "Predict"}
        assert {span.parent_id for span in trace.spans if span.kind == "model"} == predictors


@pytest.mark.parametrize("adapter", ["chat", "json", "xml"])
async def test_a_node_that_dspy_runs_streams_its_fields_into_the_stream_of_the_whole_program(
    open_bridge, interpreter, adapter
):
    async with open_bridge(interpreter) as (bridge, _context):
        outer: Any = Module()
        outer.first = Predict("question -> query")
        text, config = "question, query -> answer, why", {"adapter": adapter}
        node = Node(
            id="second",
            kind="chain_of_thought",
            signature=Signature(text),
            backend="dspy",
            config=config,
        )
        outer.second = BackendModule(
            Program(name="second", signature=Signature(text), root=node), bridge
        )

        async def forward(question):
            prediction = await outer.first.acall(question=question)
            return await outer.second.acall(question=question, query=prediction.query)

        outer.forward = forward
        model = answering(
            {"query": "q", "answer": "yes", "why": "so"}, capabilities=["streaming"], piece=1
        )
        events = [event async for event in outer.stream(RunContext(model=model), question="?")]
        texts = {}
        for event in events:
            if isinstance(event, FieldDelta):
                texts[event.path, event.field] = (
                    texts.get((event.path, event.field), "") + event.text
                )
        inner = "second.predict"
        assert texts == {
            ("first", "query"): "q",
            (inner, "reasoning"): "reasoning",
            (inner, "answer"): "yes",
            (inner, "why"): "so",
        }
        statuses = [(event.path, event.state) for event in events if isinstance(event, Status)]
        assert statuses[3:] == [
            ("second", "begun"),
            (inner, "begun"),
            (inner, "done"),
            ("second", "done"),
            ("self", "done"),
        ]
        assert isinstance(events[-1], Finished)
        assert events[-1].prediction.answer == "yes"


@pytest.mark.parametrize("adapter", ["chat", "json", "xml"])
async def test_both_interfaces_of_dspy_ask_the_model_the_same(interpreter, adapter):
    text = "question -> answer: int, why: str"
    abilities = ("json_mode", "response_schema", "seed")

    async def asked(interface):
        config = DspyConfig(interpreter=interpreter, pool=POOL, interface=interface)
        model = answering({"answer": 3, "why": "so"}, capabilities=abilities)
        async with asyncio.timeout(60), DspyBackend(config) as bridge:
            settings = {"adapter": adapter, "temperature": 0.5, "max_tokens": 50, "seed": 7}
            node = Node(
                id="self",
                kind="predict",
                signature=Signature(text),
                backend="dspy",
                config=settings,
            )
            handle = await bridge.create_program(
                Program(name="p", signature=Signature(text), root=node)
            )
            if interface == "engine" and bridge.version.startswith("3.3."):
                with pytest.raises(ExecutionError, match="does not support engines"):
                    await bridge.execute_program(handle, {"question": "?"}, RunContext(model=model))
                pytest.skip("dspy 3.3 has no engines")
            prediction = await bridge.execute_program(
                handle, {"question": "?"}, RunContext(model=model)
            )
            assert (prediction.answer, prediction.why, prediction.usage.calls) == (3, "so", 1)
            with pytest.raises(BudgetError):
                await bridge.execute_program(
                    handle,
                    {"question": "?"},
                    RunContext(model=ScriptedModel(BudgetError("no money left"))),
                )
        return model.requests[0]

    forward, engine = await asked("forward"), await asked("engine")
    assert (forward.temperature, forward.max_tokens, forward.seed) == (0.5, 50, 7)
    shape = engine.response_schema
    assert (shape is None) == (adapter != "json")
    if shape is not None:  # engines get dspy's strict form
        assert shape["properties"].keys() == forward.response_schema["properties"].keys()
    assert msgspec.structs.replace(engine, response_schema=None) == msgspec.structs.replace(
        forward, response_schema=None
    )


@pytest.mark.parametrize("interface", ["forward", "engine"])
async def test_an_optimizer_copies_its_model_on_both_interfaces(interpreter, interface):
    rows = [{"question": f"q{n}", "answer": 3} for n in range(3)]

    config = DspyConfig(interpreter=interpreter, pool=POOL, interface=interface)
    async with asyncio.timeout(60), DspyBackend(config) as bridge:
        if interface == "engine" and bridge.version.startswith("3.3."):
            pytest.skip("dspy 3.3 has no engines")
        handle = await bridge.create_program(predicting(backend="dspy"))
        work = Optimization(
            optimizer="BootstrapFewShot",
            metric=lambda *_: 0.0,
            trainset=rows,
            options={"max_rounds": 2},
        )
        model = answering({"answer": 3}, capabilities=("seed",))
        await bridge.optimize_program(handle, work, RunContext(model=model))
        assert {request.temperature for request in model.requests} == {None, 1.0}
        assert {request.seed for request in model.requests if request.temperature} == {1}


async def test_assigned_instructions_and_demonstrations_reach_the_prompt(open_bridge, interpreter):
    async with open_bridge(interpreter) as (bridge, context):
        program = predicting(backend="dspy")
        changed = Program(
            name="p", signature=program.signature, root=program.root,
            assignment={
                "self.instructions": "Be brief.",
                "self.demos": [{"question": "2 + 2?", "answer": 4}],
            },
        )  # fmt: skip
        await bridge.execute_program(
            await bridge.create_program(changed), {"question": "?"}, context
        )
        contents = [message.content for message in context.model.requests[-1].messages]
        assert "Be brief." in contents[0]
        assert "2 + 2?" in contents[1]


async def test_tools_of_a_react_program_are_called_in_this_process(interpreter):
    calls = []

    def add(a: int, b: int) -> int:
        """Add two numbers."""
        calls.append((a, b))
        return a + b

    def model(request):
        is_last = (
            "Observation" in request.messages[-1].content
            or "observation" in request.messages[-1].content
        )
        return {
            "next_thought": "t",
            "next_tool_name": "finish" if is_last else "add",
            "next_tool_args": {} if is_last else {"a": 1, "b": 2},
            "answer": 3,
        }

    config = DspyConfig(interpreter=interpreter, pool=POOL)
    async with DspyBackend(config, tools={"add": add}) as bridge:
        value = Signature("question -> answer: int")
        node = Node(
            id="self", kind="react", signature=value, backend="dspy", config={"tools": ["add"]}
        )
        handle = await bridge.create_program(Program(name="r", signature=value, root=node))
        prediction = await bridge.execute_program(
            handle, {"question": "?"}, RunContext(model=answering(model))
        )
        assert prediction.answer == 3
        assert calls == [(1, 2)]
        assert [span.name for span in prediction.trace.spans if span.kind == "tool"] == ["add"]
        unknown = Node(
            id="self", kind="react", signature=value, backend="dspy", config={"tools": ["sub"]}
        )
        with pytest.raises(DefinitionError, match="uses a tool 'sub'; this backend has: add"):
            await bridge.create_program(Program(name="r", signature=value, root=unknown))


async def test_a_users_own_module_is_imported_run_streamed_and_given_its_saved_state(
    open_bridge, interpreter
):
    async with open_bridge(interpreter, answer="yes", trust="high") as (
        bridge,
        context,
    ):
        program = await bridge.import_program("rag:Hops", init={"hops": 1})
        fields = program.signature.fields
        assert list(program.signature.input_fields) == ["question"]
        assert fields["question"].desc == "what is asked"
        assert fields["answer"].type.constraint("min_length") is None  # dspy does not enforce it
        inside = program.root.children["predictors"]["answer.predict"].signature
        assert inside.fields["answer"].type.constraint("min_length") == 1
        assert fields["trust"].type.constraint("one_of") == ("low", "high")
        assert program.root.config["dspy"] == f"=={'.'.join(bridge.version.split('.')[:2])}.*"
        assert program.assignment["answer.predict.instructions"] == "Answer from the notes."
        handle, events = await bridge.create_program(program), []
        prediction = await bridge.execute_program(
            handle,
            {"question": "?"},
            context,
            on_event=lambda kind, data: events.append((data["path"], data["state"])),
        )
        assert (prediction.answer, prediction.trust) == ("yes", "high")
        assert events == [
            ("search", "begun"),
            ("search", "done"),
            ("answer.predict", "begun"),
            ("answer.predict", "done"),
        ]
        state = await bridge.export_state(handle)
        state["search"]["signature"]["instructions"] = "Find it."
        restored = await bridge.import_program("rag:Hops", state={**state, "metadata": {}})
        assert restored.assignment["search.instructions"] == "Find it."
        assert Program.from_json(program.to_json()).content_hash == program.content_hash


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("rag:Nothing", "Nothing"),
        ("nowhere:X", "nowhere"),
        ("rag:NOT_A_MODULE", "not a dspy module but int"),
    ],
)
async def test_a_target_that_is_no_module_says_so(open_bridge, interpreter, target, why):
    async with open_bridge(interpreter) as (bridge, _context):
        with pytest.raises(DefinitionError, match=why):
            await bridge.import_program(target)


async def test_a_program_that_pins_another_version_is_refused(open_bridge, interpreter):
    async with open_bridge(interpreter) as (bridge, _context):
        value = Signature("question -> answer")
        node = Node(
            id="self", kind="dspy", backend="dspy", config={"target": "rag:Hops", "dspy": "==2.6.*"}
        )
        with pytest.raises(DefinitionError, match=r"needs dspy ==2\.6\.\*, this worker has 3\."):
            await bridge.create_program(Program(name="p", signature=value, root=node))


async def test_the_errors_of_the_model_and_of_a_reply_arrive_as_themselves(
    open_bridge, interpreter
):
    async with open_bridge(interpreter) as (bridge, _context):
        handle = await bridge.create_program(predicting(backend="dspy"))
        error = BudgetError("no money left")
        with pytest.raises(BudgetError) as caught:
            await bridge.execute_program(
                handle, {"question": "?"}, RunContext(model=ScriptedModel(error))
            )
        assert caught.value is error
        with pytest.raises(AdapterError):
            await bridge.execute_program(
                handle, {"question": "?"}, RunContext(model=ScriptedModel("nonsense"))
            )


@pytest.mark.parametrize("optimizer", ["BootstrapFewShot", "MIPROv2"])
async def test_an_optimizer_of_dspy_returns_a_better_program_and_tells_its_progress(
    open_bridge, interpreter, optimizer
):
    rows = [{"question": f"q{n}", "answer": 3} for n in range(6)]
    mipro = optimizer == "MIPROv2"

    async with open_bridge(interpreter) as (bridge, context):
        handle, events = await bridge.create_program(predicting(backend="dspy")), []
        work = Optimization(
            optimizer=optimizer,
            metric=EXACT,
            trainset=rows,
            valset=rows if mipro else (),
            options={"auto": None, "num_candidates": 2} if mipro else {"max_bootstrapped_demos": 2},
            compile={"num_trials": 2, "minibatch": False} if mipro else {},
        )
        better = await bridge.optimize_program(
            handle, work, context, on_progress=lambda _, data: events.append(data)
        )
        assert better.assignment["self.instructions"]
        # MIPROv2 keeps the first of equal candidates
        assert mipro or better.assignment["self.demos"]
        assert events[0]["optimizer"] == optimizer
        assert events[-1]["scored"] >= 2
        again = await bridge.create_program(better)
        assert (await bridge.execute_program(again, {"question": "?"}, context)).answer == 3


async def test_evaluation_scores_rows_and_a_failing_row_has_no_score(interpreter):
    def model(request):
        return {"answer": "nonsense" if "q1" in request.messages[-1].content else 3}

    async with DspyBackend(DspyConfig(interpreter=interpreter, pool=POOL)) as bridge:
        handle = await bridge.create_program(predicting(backend="dspy"))
        rows = [{"question": f"q{n}", "answer": 3} for n in range(3)]
        result = await bridge.evaluate_program(
            handle, rows, EXACT, context=RunContext(model=answering(model))
        )
        assert [row["score"] for row in result] == [1.0, None, 1.0]
        assert "nonsense" in result[1]["error"]


async def test_cancelling_a_long_run_stops_its_model_calls_within_a_second(
    open_bridge, interpreter
):
    async with open_bridge(interpreter) as (bridge, context):
        handle = await bridge.create_program(await bridge.import_program("rag:Slow"))
        run = asyncio.create_task(bridge.execute_program(handle, {"question": "?"}, context))
        await eventually(lambda: len(context.model.requests) >= 20)
        began = time.monotonic()
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        await eventually(lambda: not any(worker.busy for worker in bridge.stats().workers))
        assert time.monotonic() - began < 1.0
        count = len(context.model.requests)
        assert (
            await bridge.execute_program(
                await bridge.create_program(predicting()), {"question": "?"}, context
            )
        ).answer
        assert len(context.model.requests) == count + 1


async def test_after_a_crash_the_warm_spare_answers_without_an_import(interpreter, folder):
    pool = PoolConfig(name="dspy", minimum=1, maximum=1, spares=1, intensity=Intensity(restarts=50))
    config = DspyConfig(interpreter=interpreter, pool=pool, paths=(folder,))
    context = RunContext(model=answering({"answer": 3}))
    async with asyncio.timeout(120), DspyBackend(config) as bridge:
        await eventually(
            lambda: sum(worker.state == "ready" for worker in bridge.stats().workers) == 2
        )
        spare = [worker.pid for worker in bridge.stats().workers if worker.role == "spare"]
        crashing = await bridge.create_program(await bridge.import_program("rag:Crash"))
        handle = await bridge.create_program(predicting(backend="dspy"))
        with pytest.raises(WorkerLostError):
            await bridge.execute_program(crashing, {"question": "?"}, context)
        assert (await bridge.execute_program(handle, {"question": "?"}, context)).answer == 3
        serving = [worker.pid for worker in bridge.stats().workers if worker.role == "serving"]
        assert serving == spare  # a spare from before the crash, which has imported dspy already


async def test_two_versions_run_side_by_side(open_bridge, interpreter):
    async with (
        open_bridge(interpreter) as (bridge, context),
        DspyBackend(DspyConfig(pool=POOL)) as newest,
    ):
        for backend in (bridge, newest):
            handle = await backend.create_program(predicting(backend="dspy"))
            assert (await backend.execute_program(handle, {"question": "?"}, context)).answer == 3
        if interpreter != sys.executable:
            assert bridge.version != newest.version


async def test_without_dspy_the_error_says_what_to_install(tmp_path):
    (tmp_path / "dspy.py").write_text("raise ImportError('no such package')")

    before = open_resources()
    with pytest.raises(WorkerStartError, match=r"pip install 'dspex\[dspy\]'"):
        async with DspyBackend(DspyConfig(paths=(str(tmp_path),), pool=POOL)):
            pass
    await asyncio.sleep(0)
    assert open_resources() == before


def test_signatures_survive_the_way_to_dspy_and_back():
    text = (
        'name: str[min_length=2] "who", tags: list[str][min_items=1], n: int[ge=0, le=9] = 3, '
        "note: str? "
        "-> grade: Literal['A', 'B'], scores: dict[str, float], ok: bool | int"
    )
    value = Signature(text, "Grade it.", name="Grading")
    assert from_wire(to_wire(value)).to_dict()["fields"] == [
        {**field, **({"default": None} if field["name"] == "note" else {})}
        for field in value.to_dict()["fields"]
    ]
