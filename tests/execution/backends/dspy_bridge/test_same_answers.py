"""A reply gives the same outputs or the same error natively and on dspy."""

import asyncio
import json

import pytest

from dspex.errors import AdapterError, DefinitionError, InputError
from dspex.execution.backends import NativeBackend, Optimization
from dspex.execution.backends.dspy_bridge import DspyBackend, DspyConfig
from dspex.execution.backends.dspy_bridge.definitions import lower
from dspex.execution.backends.dspy_bridge.functions import Functions
from dspex.execution.backends.dspy_bridge.schemas import from_wire, to_wire
from dspex.execution.context import RunContext
from dspex.execution.workers import PoolConfig
from dspex.language.programs import Node, Program
from dspex.language.signatures import Signature
from dspex.testing import ScriptedModel
from dspex.testing.backends import answering

POOL = PoolConfig(name="dspy", minimum=1, maximum=1)
REPLIES = [
    ("Code", "x=1"),
    ("Document", "a text"),
    ("str?", "null"),
    ("int?", "null"),
    ("str?", "5"),
    ("ToolCalls", '{"tool_calls": [{"name": "f", "args": {"a": 1}}]}'),
    ("str[min_length=3]", "x"),
    ("list[int][unique=true]", "[1, 1]"),
    ("dict[str, int][min_size=2]", '{"a": 1}'),
    ("Literal['A', 'B']", "C"),
    ("int", "many"),
    ("float", "NaN"),
]


async def said(backend, signature, reply):
    """Return the outputs, or the fields of the error."""
    config = {"adapter": "chat", **({"repairs": 0} if backend.name == "native" else {})}
    node = Node(id="self", kind="predict", signature=signature, backend=backend.name, config=config)
    handle = await backend.create_program(Program(name="p", signature=signature, root=node))

    def answer(request):
        if "completed" in request.messages[-1].content:
            return f"[[ ## x ## ]]\n{reply}\n\n[[ ## completed ## ]]"
        return f'{{"x": {reply if reply[0] in "[{" else json.dumps(reply)}}}'

    model = ScriptedModel(answer)
    try:
        return (
            await backend.execute_program(handle, {"q": "?"}, RunContext(model=model))
        ).to_dict()
    except AdapterError as error:
        return [(problem.path, problem.constraint) for problem in error.fields]


@pytest.mark.full
async def test_one_reply_is_read_alike_natively_and_by_dspy(interpreter):
    config = DspyConfig(interpreter=interpreter, pool=POOL)
    async with asyncio.timeout(60), DspyBackend(config) as bridge:
        for kind, reply in REPLIES:
            signature = Signature(f"q -> x: {kind}")
            native = await said(NativeBackend(), signature, reply)
            assert (kind, reply, await said(bridge, signature, reply)) == (kind, reply, native)
            assert isinstance(native, dict) or native[0][0] == "x"


def test_calls_under_the_key_of_dspy_are_understood():
    signature = Signature("q -> x: ToolCalls")
    outputs = signature.validate_outputs({"x": {"tool_calls": [{"name": "f", "args": {"a": 1}}]}})
    assert outputs == signature.validate_outputs(
        {"x": {"calls": [{"name": "f", "arguments": {"a": 1}}]}}
    )
    assert outputs["x"].calls[0].arguments == {"a": 1}


def test_what_the_prompt_of_dspy_leaves_out_is_said_in_the_description_also_in_an_assigned_one():
    signature = Signature(
        "q -> x: dict[str, int][min_size=2], y: list[int][unique=true], z: str[min_length=2]"
    )
    described = {field["name"]: field["desc"] for field in to_wire(signature)["fields"]}
    assert described == {
        "q": "",
        "x": "Constraints: at least 2 entries",
        "y": "Constraints: no two values are equal",
        "z": "",  # dspy adds this one itself
    }
    node = Node(id="self", kind="predict", signature=signature, backend="dspy")
    program = Program(
        name="p", signature=signature, root=node, assignment={"self.fields.y.desc": "Numbers."}
    )
    definition, _ = lower(program, Functions({}))
    assert definition["assigned"]["self"] == {
        "fields.y.desc": "Numbers. Constraints: no two values are equal"
    }


NUMBERS = """
import dspy

class Numbers(dspy.Module):
    def __init__(self):
        super().__init__()
        self.step = dspy.Predict("q -> x: float")

    def forward(self, q):
        return dspy.Prediction(x=self.step(q=q).x, found=[float(q)])
"""


@pytest.mark.full
async def test_numbers_that_no_wire_carries_and_scores_that_are_none_are_typed_errors(
    newest, tmp_path
):
    (tmp_path / "numbers_of_mine.py").write_text(NUMBERS)

    async def later(row, report_rows):
        await asyncio.sleep(0)
        return report_rows["x"]

    config = DspyConfig(interpreter=newest, pool=POOL, paths=(str(tmp_path),))
    async with asyncio.timeout(60), DspyBackend(config) as bridge:
        context = RunContext(model=answering({"x": 1}))
        program = await bridge.import_program(
            "numbers_of_mine:Numbers", signature=Signature("q: any -> x: float, found: any")
        )
        handle = await bridge.create_program(program)
        with pytest.raises(AdapterError, match=r"found\[0\]: inf"):
            await bridge.execute_program(handle, {"q": "inf"}, context)
        with pytest.raises(InputError, match="q: nan"):
            await bridge.execute_program(handle, {"q": float("nan")}, context)
        rows = [{"q": "1"}, {"q": "nan"}]
        report_rows = await bridge.evaluate_program(handle, rows, later, context=context)
        assert [row["score"] for row in report_rows] == [1.0, None]
        assert "found[0]: nan" in report_rows[1]["error"]
        report_rows = await bridge.evaluate_program(
            handle, rows[:1], lambda *_: float("nan"), context=context
        )
        assert "the metric returned nan, which is not a score" in report_rows[0]["error"]
        work = Optimization(
            optimizer="BootstrapFewShot", metric=lambda *_: float("inf"), trainset=rows[:1]
        )
        with pytest.raises(DefinitionError, match="returned inf, which is not a score"):
            await bridge.optimize_program(handle, work, context)


def test_objects_come_back_from_dspy_with_members_that_have_no_default():
    again = from_wire(to_wire(Signature("q -> x: Code, y: list[Code]")))
    outputs = again.validate_outputs({"x": {"text": "a"}, "y": [{"text": "b", "language": "c"}]})
    assert outputs["x"].text == "a"
