"""Settings of predictors in a dspy program arrive at the model."""

import asyncio
from contextlib import asynccontextmanager

import pytest

import dspex
from dspex.errors import DefinitionError
from dspex.execution.backends import BackendModule, Optimization
from dspex.execution.backends.dspy_bridge import DspyBackend, DspyConfig
from dspex.execution.context import RunContext
from dspex.execution.workers import PoolConfig
from dspex.language.programs import Program
from dspex.testing.backends import answering, predicting, same_answer

pytestmark = pytest.mark.full
POOL = PoolConfig(name="dspy", minimum=1, maximum=1)
ANSWER = {"answer": "three", "trust": "low"}


@pytest.fixture
def open_rag(shared_backend):
    @asynccontextmanager
    async def open_rag(interpreter, folder, *, interface="auto"):
        config = DspyConfig(
            interpreter=interpreter, pool=POOL, paths=(folder,), interface=interface
        )
        async with asyncio.timeout(120):
            bridge = await shared_backend(config)
            program = await bridge.import_program("rag:Hops", init={"hops": 1})
            yield bridge, BackendModule(program, bridge)

    return open_rag


def asked(model):
    return [(request.temperature, request.top_p, request.max_tokens) for request in model.requests]


@pytest.mark.parametrize("interface", ["forward", "engine"])
async def test_assigned_settings_arrive_with_the_calls_of_their_predictor(
    open_rag, interpreter, folder, interface
):
    async with open_rag(interpreter, folder, interface=interface) as (bridge, rag):
        if interface == "engine" and bridge.version.startswith("3.3"):
            return
        bound = rag.with_variables(
            dspex.Float(
                0,
                1.5,
                name="heat",
                paths=("search.temperature", "answer.predict.temperature"),
                bindings={"answer.predict.temperature": dspex.var("heat") / 2},
                default=0.5,
            ),
            dspex.Integer(1, 512, name="search.max_tokens", default=512),
            dspex.Float(0, 1, name="search.top_p", default=1),
        )
        assert [name for name in bound.variables() if name not in rag.variables()] == [
            *("heat", "search.max_tokens", "search.top_p")
        ]
        model = answering(ANSWER)
        warm = bound.assign({"heat": 1.0, "search.max_tokens": 64, "search.top_p": 0.5})
        stored = BackendModule(Program.from_json(warm.to_program().to_json()), bridge)
        for program in (rag, bound, stored):
            await program.acall(RunContext(model=model), question="?")
        assert asked(model) == [
            *((None, None, None), (None, None, None)),
            *((0.5, 1, 512), (0.25, None, None)),
            *((1.0, 0.5, 64), (0.5, None, None)),
        ]


@pytest.mark.parametrize("interface", ["forward", "engine"])
async def test_a_predictor_asks_the_model_that_it_is_assigned_as_that_model_can_be_asked(
    open_rag, interpreter, folder, interface
):
    async with open_rag(interpreter, folder, interface=interface) as (bridge, rag):
        if interface == "engine" and bridge.version.startswith("3.3"):
            return
        plain, able = answering(ANSWER), answering(ANSWER, name="able")
        able.capabilities = frozenset({"response_schema"})
        context = RunContext(model=plain, models={"far/able": able}.__getitem__)
        bound = rag.with_variables(
            dspex.OneOf("far/able", "near").named("answer.predict.model"),
            dspex.OneOf("chat", "json").named("self.adapter"),
        )
        assigned = bound.assign({"answer.predict.model": "far/able", "self.adapter": "json"})
        prediction = await assigned.acall(context, question="?")
        assert prediction.answer == "three"
        assert [
            request.response_schema is not None for request in (*plain.requests, *able.requests)
        ] == [False, True]
        by_path = {span.path: span.name for span in prediction.trace.spans if span.kind == "model"}
        assert by_path == {"search": "scripted", "answer.predict": "able"}

        handle = await bridge.create_program(assigned.to_program())
        scored = await bridge.evaluate_program(
            handle, [{"question": "?", "answer": "three"}], same_answer, context=context
        )
        assert [row["score"] for row in scored] == [1.0]
        assert len(able.requests) == 2

        state = await bridge.export_state(handle)
        assert state["answer.predict"]["lm"]["model"] == "far/able"
        assert state["search"]["lm"] is None


async def test_settings_stay_where_an_optimizer_of_dspy_works(open_rag, newest, folder):

    async with open_rag(newest, folder) as (bridge, rag):
        bound = rag.with_variables(dspex.Float(0, 1, name="search.temperature")).assign(
            {"search.temperature": 0.5}
        )
        model = answering(ANSWER)
        work = Optimization(
            optimizer="BootstrapFewShot",
            metric=same_answer,
            trainset=[{"question": f"q{n}", "answer": "three"} for n in "ab"],
        )
        handle = await bridge.create_program(bound.to_program())
        better = await bridge.optimize_program(handle, work, RunContext(model=model))
        assert len(better.assignment["answer.predict.demos"]) == 2
        assert better.assignment["search.temperature"] == 0.5
        assert "search.temperature" in better.space
        assert {request.temperature for request in model.requests[::2]} == {0.5}


async def test_a_program_of_ours_on_dspy_follows_its_variables(newest):
    async with (
        asyncio.timeout(120),
        DspyBackend(DspyConfig(interpreter=newest, pool=POOL)) as bridge,
    ):
        module = BackendModule(predicting(backend="dspy"), bridge)
        assert module.places() == ()
        predictor = dspex.Predict(
            "question -> answer: int",
            temperature=dspex.Float(0, 1, default=0.25),
            adapter=dspex.OneOf("chat", "json"),
        ).with_variables(dspex.Text(name="told", paths=("self.fields.answer.desc",)))
        on_dspy = BackendModule(predictor.on("dspy").to_program(), bridge)
        model = answering({"answer": 3})
        for values in (
            {},
            {"self.temperature": 0.75, "self.adapter": "json", "told": "how many"},
        ):
            await on_dspy.assign(values).acall(RunContext(model=model), question="?")
        first, second = model.requests
        assert (first.temperature, second.temperature) == (0.25, 0.75)
        assert "[[ ## answer ## ]]" in first.messages[-1].content
        assert "[[ ## answer ## ]]" not in second.messages[-1].content
        assert "how many" in second.messages[0].content


async def test_places_are_named_where_there_is_none(open_rag, newest, folder):

    async with open_rag(newest, folder) as (__, rag):
        assert {
            "search.temperature",
            "answer.predict.model",
            "answer.predict.seed",
            "self.adapter",
        } <= {*rag.places()}
        with pytest.raises(
            DefinitionError, match=r"no place 'answer.temperature'; it has: .*answer.predict.top_p"
        ):
            rag.with_variables(dspex.Float(0, 1, name="answer.temperature"))


@pytest.mark.parametrize("interface", ["forward", "engine"])
async def test_a_model_that_a_program_makes_itself_is_asked_by_the_parent(
    interpreter, folder, interface
):
    config = DspyConfig(interpreter=interpreter, pool=POOL, paths=(folder,), interface=interface)
    async with asyncio.timeout(120), DspyBackend(config) as bridge:
        if interface == "engine" and bridge.version.startswith("3.3"):
            return
        program = await bridge.import_program("rag:OwnModels")
        able, near = (
            answering({"answer": "one"}, name="able"),
            answering({"answer": "two"}, name="near"),
        )
        able.capabilities = frozenset({"response_schema"})
        models = {"far/able": able, "http://near/v1#m": near}
        handle = await bridge.create_program(program)
        prediction = await bridge.execute_program(
            handle,
            {"question": "?"},
            RunContext(model=answering(ANSWER), models=models.__getitem__),
        )
        assert prediction.answer == "two"
        assert asked(able) == [(0.25, None, None)]
        assert asked(near) == [(None, None, 77)]
        by_path = {span.path: span.name for span in prediction.trace.spans if span.kind == "model"}
        assert by_path == {"step": "able", "check": "near"}
