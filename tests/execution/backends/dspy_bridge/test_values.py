"""Values to and from a user's dspy module: models, dspy's types, states, non-predictions."""

import asyncio
import json
import os
import subprocess
from contextlib import asynccontextmanager

import pytest

from dspex.errors import DefinitionError, MediaError
from dspex.execution.backends import Optimization
from dspex.execution.backends.dspy_bridge import DspyBackend, DspyConfig
from dspex.execution.clients.modalities import MODALITIES
from dspex.execution.context import RunContext
from dspex.execution.workers import Intensity, PoolConfig
from dspex.language.programs import Node, Program
from dspex.language.records.message import AudioPart, FilePart, ImagePart, MediaPart
from dspex.language.signatures import Signature
from dspex.language.signatures.content import Code, FunctionCall, ToolCalls, data_uri
from dspex.testing.backends import answering
from tests.support.pictures import pdf, png, wav

pytestmark = pytest.mark.full
POOL = PoolConfig(name="dspy", minimum=1, maximum=1, intensity=Intensity(restarts=50))
HOME, WORK = {"street": "Elm", "zip": 7}, {"street": "Oak", "zip": 8}
PICTURE = "data:image/png;base64,iVBORw0KGgo="


@pytest.fixture
def open_bridge(shared_backend):
    @asynccontextmanager
    async def open_bridge(*, interpreter, folder, tools=None, interface="auto", **values):
        config = DspyConfig(
            interpreter=interpreter, pool=POOL, paths=(folder,), interface=interface
        )
        context = RunContext(model=answering(values))
        async with asyncio.timeout(120):
            if tools is None:
                yield await shared_backend(config), context
                return
            async with DspyBackend(config, tools=tools) as bridge:
                yield bridge, context

    return open_bridge


async def run(bridge, context, target, **inputs):
    handle = await bridge.create_program(await bridge.import_program(target))
    return await bridge.execute_program(handle, inputs, context)


async def test_models_of_a_users_own_keep_their_types_and_run_both_ways(
    open_bridge, interpreter, folder
):
    boxes = [{"name": "a", "parts": [{"name": "b", "parts": [{"name": "c"}]}]}]
    async with open_bridge(interpreter=interpreter, folder=folder, to=WORK, boxes=boxes) as (
        bridge,
        context,
    ):
        program = await bridge.import_program("typed:Shipping")
        customer = {
            member.name: member for member in program.signature.fields["customer"].type.members
        }
        assert [name for name, member in customer.items() if member.is_required] == ["name", "home"]
        street, code = customer["home"].type.members
        assert (street.desc, street.type.constraint("min_length")) == ("the street", 1)
        assert code.type.constraint("ge") == 1
        assert customer["work"].type.is_optional
        assert customer["work"].default is None
        assert customer["rank"].default == "new"
        assert program.signature.fields["to"].type.is_optional
        handle = await bridge.create_program(program)

        async def shipped(**customer):
            return await bridge.execute_program(
                handle, {"customer": {"name": "A", **customer}}, context
            )

        prediction = await shipped(home=HOME, work=WORK, others=[HOME, WORK])
        assert (prediction.to.street, prediction.to.zip, prediction["seen"]) == ("Oak", 8, "Oak 2")
        assert prediction.boxes[0].parts[0].parts[0].name == "c"
        assert '"street":"Elm"' in context.model.requests[-1].messages[-1].content.replace(" ", "")
        assert (await shipped(home=HOME))["seen"] == "Elm 0"


async def test_a_history_is_taken_in_the_shape_of_dspy_and_in_ours(
    open_bridge, interpreter, folder
):
    async with open_bridge(interpreter=interpreter, folder=folder, answer="4") as (bridge, context):
        theirs = [{"question": "1 + 1?", "answer": "2"}]
        texts = [{"role": "user", "content": "1 + 1?"}, {"role": "assistant", "content": "2"}]
        fields = [
            {"role": "user", "content": {"question": "1 + 1?"}},
            {"role": "assistant", "content": {"answer": "2"}},
        ]
        prompts = []
        for turns in (theirs, texts, fields):
            await run(bridge, context, "typed:Talk", history={"messages": turns}, question="2 + 2?")
            prompts.append(context.model.requests[-1].messages)
        assert [message.role for message in prompts[0]] == ["system", "user", "assistant", "user"]
        assert "1 + 1?" in prompts[0][1].content
        assert prompts[0] == prompts[1] == prompts[2]
        system = {"messages": [{"role": "system", "content": "x"}]}
        with pytest.raises(DefinitionError, match="'system'"):
            await run(bridge, context, "typed:Talk", history=system, question="2 + 2?")


async def test_media_of_dspy_are_media_of_ours_and_a_model_that_takes_text_alone_says_so(
    open_bridge, interpreter, folder
):
    calls = {"tool_calls": [{"name": "find", "args": {"x": 1}}]}
    async with open_bridge(
        interpreter=interpreter, folder=folder, code="```python\nprint(1)\n```", calls=calls
    ) as (bridge, context):
        result = await run(bridge, context, "typed:Write", question="?")
        assert result.code == Code("print(1)")
        assert result.calls == ToolCalls([FunctionCall("find", {"x": 1})])
        assert (
            await run(bridge, context, "typed:Look", image=PICTURE, question="which?")
        ).answer == PICTURE
        with pytest.raises(MediaError, match="does not take pictures"):
            await run(bridge, context, "typed:Look", image={"url": PICTURE}, question="what?")


async def test_media_reach_the_model_as_parts(open_bridge, interpreter, folder):
    picture, sound, paper = png(), wav(), pdf()
    inputs = {
        "image": {"url": data_uri(picture, "image/png")},
        "sound": {"url": data_uri(sound, "audio/wav")},
        "paper": {"url": data_uri(paper, "application/pdf"), "name": "a.pdf"},
        "question": "what?",
    }
    async with open_bridge(interpreter=interpreter, folder=folder, answer="4") as (bridge, context):
        context.model.capabilities = frozenset(MODALITIES)
        assert (await run(bridge, context, "typed:Media", **inputs)).answer == "4"
        (request,) = context.model.requests
        content = request.messages[-1].content
        assert [part for part in content if isinstance(part, MediaPart)] == [
            ImagePart(media_type="image/png", data=picture),
            AudioPart(media_type="audio/wav", data=sound),
            FilePart(media_type="application/pdf", data=paper, name="a.pdf"),
        ]
        assert "what?" in request.messages[-1].text
        link = {**inputs, "image": {"url": "https://example.org/a.png"}}
        await run(bridge, context, "typed:Media", **link)
        link_part = ImagePart(url="https://example.org/a.png")
        assert link_part in context.model.requests[-1].messages[-1].content


async def test_media_reach_the_model_through_an_engine(open_bridge, newest, folder):
    picture, sound, paper = png(), wav(), pdf()
    inputs = {
        "image": {"url": data_uri(picture, "image/png")},
        "sound": {"url": data_uri(sound, "audio/wav")},
        "paper": {"url": data_uri(paper, "application/pdf")},  # an engine has no names
        "question": "what?",
    }
    async with open_bridge(interpreter=newest, folder=folder, interface="engine", answer="4") as (
        bridge,
        context,
    ):
        context.model.capabilities = frozenset(MODALITIES)
        await run(bridge, context, "typed:Media", **inputs)
        content = context.model.requests[0].messages[-1].content
        media = [part for part in content if isinstance(part, MediaPart)]
        assert [type(part) for part in media] == [ImagePart, AudioPart, FilePart]
        assert [part.data for part in media] == [picture, sound, paper]


async def test_dspy_gets_its_own_types_from_a_signature_of_ours(open_bridge, interpreter, folder):
    async with open_bridge(
        interpreter=interpreter, folder=folder, answer="```python\nx = 2\n```"
    ) as (bridge, context):
        value = Signature("history: History, code: Code, question -> answer: Code")
        root = Node(id="self", kind="predict", signature=value, backend="dspy")
        handle = await bridge.create_program(Program(name="p", signature=value, root=root))
        turns = [
            {"role": "user", "content": {"question": "before?"}},
            {"role": "assistant", "content": "then"},
        ]
        inputs = {"history": {"messages": turns}, "code": {"text": "x = 1"}, "question": "?"}
        result = await bridge.execute_program(handle, inputs, context)
        assert result.answer.text == "x = 2"
        messages = context.model.requests[-1].messages
        assert [message.role for message in messages] == ["system", "user", "assistant", "user"]
        assert "before?" in messages[1].content
        assert "[[ ## code ## ]]\nx = 1" in messages[-1].content


@pytest.mark.parametrize("threshold", [None, 0.5, 0.9])
async def test_what_counts_as_good_enough_is_decided_by_dspy_on_the_score_itself(
    open_bridge, interpreter, folder, threshold
):
    async with open_bridge(interpreter=interpreter, folder=folder, answer=4) as (bridge, context):
        handle = await bridge.create_program(await bridge.import_program("typed:Async"))
        rows = [{"question": f"{n}", "answer": 4} for n in range(8)]
        options = {} if threshold is None else {"metric_threshold": threshold}
        work = Optimization(
            optimizer="BootstrapFewShot",
            metric=lambda row, prediction: 0.8,
            trainset=rows,
            options=options,
        )
        better = await bridge.optimize_program(handle, work, context)
        demos = [demo for demo in better.assignment["step.demos"] if demo.get("augmented")]
        assert len(demos) == (0 if threshold == 0.9 else 4)  # as in dspy itself


async def test_a_module_with_aforward_alone_is_imported_described_and_run(
    open_bridge, interpreter, folder
):
    async with open_bridge(interpreter=interpreter, folder=folder, answer=4) as (bridge, context):
        program = await bridge.import_program("typed:Async")
        assert list(program.signature.fields) == ["question", "answer"]
        handle = await bridge.create_program(program)
        several = (bridge.execute_program(handle, {"question": f"{n}?"}, context) for n in range(4))
        results = await asyncio.gather(*several)
        assert [prediction.answer for prediction in results] == [4] * 4
        assert {span.path for span in results[0].trace.spans if span.kind == "model"} == {"step"}
        rows = await bridge.evaluate_program(
            handle, [{"question": "?"}], lambda row, prediction: 1.0, context=context
        )
        assert rows == [{"outputs": {"answer": 4}, "score": 1.0, "error": None}]


PLAIN = """
import sys
sys.path.insert(0, sys.argv[1])
import dspy, rag
program = rag.Hops()
program.load(sys.argv[2])
answer = program.answer.predict
print([len(program.search.demos), len(answer.demos), answer.signature.instructions])
program.save(sys.argv[2])
"""


async def test_an_exported_state_is_what_plain_dspy_loads_and_saves(
    open_bridge, interpreter, folder, tmp_path
):
    async with open_bridge(interpreter=interpreter, folder=folder, answer="yes", trust="high") as (
        bridge,
        context,
    ):
        handle = await bridge.create_program(await bridge.import_program("rag:Hops"))
        rows = [{"question": f"{n}", "answer": "yes", "trust": "high"} for n in range(3)]
        work = Optimization(
            optimizer="BootstrapFewShot", metric=lambda row, prediction: 1.0, trainset=rows
        )
        better = await bridge.create_program(await bridge.optimize_program(handle, work, context))
        state = await bridge.export_state(better)
        assert state["metadata"]["dependency_versions"]["dspy"] == bridge.version
        file = tmp_path / "state.json"
        file.write_text(json.dumps(state))
        environment = {**os.environ, "DSPY_CACHEDIR": str(tmp_path / "cache")}
        environment["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
        command = [interpreter, "-c", PLAIN, folder, str(file)]
        process = await asyncio.to_thread(
            subprocess.run, command, capture_output=True, text=True, env=environment
        )
        assert process.stdout.strip() == "[3, 3, 'Answer from the notes.']", process.stderr[-2000:]
        assert json.loads(file.read_text()) == state
        again = await bridge.import_program("rag:Hops", state=state)
        assert len(again.assignment["answer.predict.demos"]) == 3


@pytest.mark.parametrize(
    ("part", "what"),
    [
        (
            {
                "signature": {
                    "fields": [{}, {"prefix": "A:", "description": ""}],
                    "instructions": "x",
                }
            },
            "signature.fields[0].prefix",
        ),
        (
            {"signature": {"fields": [{"prefix": "A:", "description": ""}] * 2}},
            "signature.instructions",
        ),
        ({"demos": "x"}, "demos"),
    ],
)
async def test_a_malformed_state_is_refused_by_naming_what_it_lacks(
    open_bridge, newest, folder, part, what
):
    async with open_bridge(interpreter=newest, folder=folder) as (bridge, _context):
        handle = await bridge.create_program(await bridge.import_program("typed:Async"))
        state = await bridge.export_state(handle)
        broken = {"step": {**state["step"], **part}}
        with pytest.raises(DefinitionError) as refused:
            await bridge.import_program("typed:Async", state=broken)
        assert f"'step' lacks {what}" in refused.value.message


@pytest.mark.parametrize(("question", "kind"), [("none", "NoneType"), ("text", "str")])
async def test_a_forward_that_gives_no_prediction_says_what_to_return(
    open_bridge, newest, folder, question, kind
):
    async with open_bridge(interpreter=newest, folder=folder) as (bridge, context):
        with pytest.raises(
            DefinitionError, match=f"Odd.forward returned {kind}.*return dspy.Prediction"
        ):
            await run(bridge, context, "typed:Odd", question=question)


async def test_a_tool_of_a_users_module_answers_in_the_parent_where_the_parent_has_one_of_its_name(
    open_bridge, interpreter, folder
):
    here = {"look_up": lambda word: f"parent {word}"}
    reply = {
        "next_thought": "t",
        "next_tool_name": "look_up",
        "next_tool_args": {"word": "x"},
        "answer": 4,
    }
    for tools, expected, spans in ((here, "parent x", ["look_up"]), (None, "here x", [])):
        async with open_bridge(interpreter=interpreter, folder=folder, tools=tools, **reply) as (
            bridge,
            context,
        ):
            result = await run(bridge, context, "typed:Agent", question="?")
            assert result["trajectory"]["observation_0"] == expected
            assert [span.name for span in result.trace.spans if span.kind == "tool"] == spans


@pytest.mark.parametrize(
    ("optimizer", "why"),
    [
        ("KNNFewShot", "nothing to store"),
        ("Ensemble", "learns nothing about this one"),
        ("AvatarOptimizer", "dspy has removed"),
        ("BootstrapFinetune", "weights of a model"),
        ("BetterTogether", "takes its steps as options"),
        ("Nothing", "optimizers are: .*GEPA"),
    ],
)
async def test_an_optimizer_that_cannot_run_here_says_why(
    open_bridge, newest, folder, optimizer, why
):
    async with open_bridge(interpreter=newest, folder=folder) as (bridge, context):
        handle = await bridge.create_program(await bridge.import_program("typed:Async"))
        work = Optimization(
            optimizer=optimizer, metric=lambda row, prediction: 1.0, trainset=[{"question": "?"}]
        )
        with pytest.raises(DefinitionError, match=why):
            await bridge.optimize_program(handle, work, context)
