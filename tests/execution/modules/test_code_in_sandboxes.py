"""Modules that run code of a model do the same in every sandbox."""

import importlib.util
from collections.abc import Iterator
from typing import Any

import pytest

from dspex import sync
from dspex.errors import ExecutionError
from dspex.execution.context import RunContext
from dspex.execution.sandbox import SANDBOXES, Sandbox, SandboxLimits
from dspex.modules import RLM, CodeAct, ProgramOfThought
from dspex.testing import ScriptedModel
from tests.support.deno import skip_without_deno

pytestmark = pytest.mark.full


@pytest.fixture(scope="module", params=list(SANDBOXES))
def sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    """One for all tests, so that deno loads Pyodide once."""
    if request.param == "deno":
        skip_without_deno()
    if request.param == "monty" and importlib.util.find_spec("pydantic_monty") is None:
        pytest.skip("pydantic-monty is not installed: pip install 'dspex[sandbox]'")
    sandbox = SANDBOXES[request.param]()
    yield sandbox
    sync.run(sandbox.aclose())


def chat(**outputs: object) -> str:
    return "\n\n".join(f"[[ ## {name} ## ]]\n{value}" for name, value in outputs.items())


def turn(code: str) -> str:
    return chat(reasoning="so", code=code)


def lookup(city: str, *, scale: int = 1) -> int:
    """Look up the degrees of a city."""
    return {"Paris": 21, "Rome": 25}[city] * scale


def test_program_of_thought_writes_code_until_it_runs(sandbox: Sandbox) -> None:
    model = ScriptedModel(
        chat(reasoning="x", generated_code="total = sum(numbers) / 0"),
        chat(reasoning="y", generated_code="import json\nSUBMIT(total=json.loads('6'))"),
        chat(reasoning="read it", total=6),
    )
    module = ProgramOfThought("numbers: list[int] -> total: int", sandbox=sandbox)
    assert module(RunContext(model=model), numbers=[1, 2, 3]).total == 6
    assert "ZeroDivisionError: division by zero" in model.requests[1].messages[-1].text
    assert "'total': 6" in model.requests[2].messages[-1].text


def test_code_act_keeps_its_names_calls_tools_and_sees_their_errors(sandbox: Sandbox) -> None:
    model = ScriptedModel(
        chat(generated_code="a = lookup('Paris', scale=2)\nprint(a)", finished=False),
        chat(generated_code="lookup('Oslo')", finished=True),
        chat(generated_code="print(a + lookup(city='Rome'))", finished=True),
        chat(reasoning="sum", total=67),
    )
    module = CodeAct("question -> total: int", [lookup], sandbox=sandbox)
    prediction = module(RunContext(model=model), question="?")
    assert prediction.total == 67
    first, second, third = prediction.trajectory
    assert (first["observation"], third["observation"]) == ("42", "67")
    assert "RuntimeError" in second["error"]
    spans = [span for span in prediction.trace.spans if span.name == sandbox.name]
    assert len(spans) == 3


def test_rlm_reads_a_long_input_and_asks_a_model_about_parts(sandbox: Sandbox) -> None:
    text = "x " * 500_000 + "the code is 4711"
    model = ScriptedModel(
        turn("print(len(text), text[-16:])"),
        turn("parts = llm_query_batched(['Which number? ' + text[-20:]])\nprint(parts)"),
        "4711",
        turn("SUBMIT(number=int(parts[0]))"),
    )
    module = RLM("text -> number: int", sandbox=sandbox)
    prediction = module(RunContext(model=model), text=text)
    assert (prediction.number, prediction.usage.calls) == (4711, 4)
    assert prediction.trajectory[0]["observation"] == "1000016 the code is 4711"


@pytest.mark.parametrize(
    ("code", "number"),
    [
        ("SUBMIT(number=1)\nSUBMIT(number=2)", 1),
        ("SUBMIT(number=1)\nprint(llm_query('unused'))", 1),
        ("try:\n    SUBMIT(number=1)\nexcept Exception:\n    SUBMIT(number=2)", 1),
        ("for n in range(5):\n    if n == 3:\n        SUBMIT(number=n)\nSUBMIT(number=0)", 3),
        ("SUBMIT(7)", 7),
        ("SUBMIT({'number': 7})", 7),
    ],
)
def test_submit_ends_the_code_and_takes_outputs_by_name_in_order_or_as_an_object(
    sandbox: Sandbox, code: str, number: int
) -> None:
    model = ScriptedModel(turn(code))
    module = RLM("text -> number: int", sandbox=sandbox, max_iters=1)
    prediction = module(RunContext(model=model), text="t")
    assert (prediction.number, len(model.requests)) == (number, 1)
    thought = ScriptedModel(
        chat(reasoning="x", generated_code=code), chat(reasoning="y", number=number)
    )
    module_of_thought = ProgramOfThought("text -> number: int", sandbox=sandbox)
    module_of_thought(RunContext(model=thought), text="t")
    assert f"submitted: {{'number': {number}}}" in thought.requests[1].messages[-1].text


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("SUBMIT(1, 2)", "SUBMIT takes number, not 2 values"),
        ("SUBMIT(answer=1)", "SUBMIT takes number, not answer"),
        ("SUBMIT(1, number=2)", "SUBMIT got number twice"),
        ("SUBMIT()", "number: required, but missing"),
        ("llm_query()", "llm_query: missing a required argument: 'prompt'"),
        ("llm_query('a', model='b')", "llm_query: got an unexpected keyword argument 'model'"),
        ("llm_query_batched('abc')", "llm_query_batched takes a list of prompts, not str"),
    ],
)
def test_a_wrong_call_is_an_error_of_the_code_that_the_model_sees(
    sandbox: Sandbox, code: str, reason: str
) -> None:
    model = ScriptedModel(turn(code), turn("SUBMIT(number=3)"))
    module = RLM("text -> number: int", sandbox=sandbox)
    prediction = module(RunContext(model=model), text="t")
    assert prediction.number == 3
    assert reason in prediction.trajectory[0]["observation"]


def test_several_outputs_are_submitted_in_their_order(sandbox: Sandbox) -> None:
    for code in ("SUBMIT(3, 'low')", "SUBMIT(3, label='low')", "SUBMIT({'label': 'low', 'n': 3})"):
        model = ScriptedModel(turn(code))
        module = RLM("text -> n: int, label", sandbox=sandbox, max_iters=1)
        prediction = module(RunContext(model=model), text="t")
        assert (prediction.n, prediction.label) == (3, "low")


def test_an_output_that_is_an_object_may_be_submitted_alone(sandbox: Sandbox) -> None:
    for code in ("SUBMIT({'a': 1})", "SUBMIT({'counts': {'a': 1}})", "SUBMIT(counts={'a': 1})"):
        module = RLM("text -> counts: dict[str, int]", sandbox=sandbox, max_iters=1)
        prediction = module(RunContext(model=ScriptedModel(turn(code))), text="t")
        assert prediction.counts == {"a": 1}


def test_a_limit_ends_the_run_with_an_error_that_names_it(sandbox: Sandbox) -> None:
    limits: Any = SandboxLimits(seconds=0.5)
    model = ScriptedModel(chat(reasoning="x", generated_code="while True:\n    pass"))
    module = ProgramOfThought("q -> n: int", max_iters=1, limits=limits, sandbox=sandbox)
    with pytest.raises(ExecutionError, match=r"none of 1 version.*(longer than 0\.5 s|time)"):
        module(RunContext(model=model), q="?")
