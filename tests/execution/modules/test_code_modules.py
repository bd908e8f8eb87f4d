"""Modules that run code of a model: what they send, run, read and store."""

import importlib.util
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from dspex.errors import BudgetError, DefinitionError, ExecutionError, WaitingForAnswerError
from dspex.execution.ask import ask
from dspex.execution.clients import Budget, Request
from dspex.execution.context import RunContext
from dspex.execution.modules import CodeRoot, Module, build
from dspex.execution.modules.code_session import observation, read_code
from dspex.execution.sandbox import SandboxLimits, SandboxResult
from dspex.execution.tools import Tool, ToolPolicy
from dspex.language.programs import Program
from dspex.modules import RLM, CodeAct, ProgramOfThought
from dspex.testing import ScriptedModel

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(
        importlib.util.find_spec("pydantic_monty") is None, reason="needs pydantic-monty"
    ),
]


def chat(**outputs: object) -> str:
    return "\n\n".join(f"[[ ## {name} ## ]]\n{value}" for name, value in outputs.items())


def prompt_of(request: Request) -> str:
    return str(request.messages[-1].content)


def lookup(city: str) -> int:
    """Look up the degrees of a city."""
    return {"Paris": 21, "Rome": 25}[city]


def test_program_of_thought_computes_with_the_inputs_and_answers() -> None:
    model = ScriptedModel(
        chat(reasoning="add", generated_code="```python\nSUBMIT(total=sum(numbers))\n```"),
        chat(reasoning="read it", total=6),
    )
    module = ProgramOfThought("numbers: list[int] -> total: int")
    prediction = module(RunContext(model=model), numbers=[1, 2, 3])
    assert (prediction.total, prediction.reasoning) == (6, "read it")
    assert "'total': 6" in prompt_of(model.requests[1])
    spans = [span.name for span in prediction.trace.spans if span.kind == "tool"]
    assert spans == ["monty"]


def test_code_that_fails_is_sent_back_with_its_error() -> None:
    model = ScriptedModel(
        chat(reasoning="x", generated_code="1 / 0"),
        chat(reasoning="y", generated_code="total = 6\ntotal"),
        chat(reasoning="z", total=6),
    )
    module = ProgramOfThought("question -> total: int")
    assert module(RunContext(model=model), question="?").total == 6
    assert "ZeroDivisionError" in prompt_of(model.requests[1])
    assert "=> 6" in prompt_of(model.requests[2])

    failing = ScriptedModel(chat(reasoning="x", generated_code="1 / 0"))
    twice = ProgramOfThought("question -> total: int", max_iters=2)
    with pytest.raises(ExecutionError, match=r"none of 2 versions of the code ran.*division"):
        twice(RunContext(model=failing), question="?")


def test_code_act_calls_tools_and_keeps_its_names() -> None:
    model = ScriptedModel(
        chat(generated_code="a = lookup('Paris')\nprint(a)", finished=False),
        chat(generated_code="print(a + lookup(city='Rome'))", finished=True),
        chat(reasoning="sum", total=46),
    )
    module = CodeAct("question -> total: int", [lookup])
    prediction = module(RunContext(model=model), question="?")
    assert prediction.total == 46
    assert [step["observation"] for step in prediction.trajectory] == ["21", "46"]
    assert "lookup(city): Look up the degrees of a city." in model.requests[0].messages[0].content


@pytest.mark.parametrize("sandbox", ["monty", "subprocess"])
def test_code_cannot_swallow_a_question_that_nobody_answers(sandbox: str) -> None:
    paid = []

    def pay(amount: float) -> str:
        """Pay an amount."""
        paid.append(amount)
        return "paid"

    def advise(topic: str) -> str:
        """Ask somebody."""
        return str(ask("topic -> advice", topic=topic).result().advice)

    code = "try:\n    advise(topic='sofas')\nexcept Exception:\n    pass\npay(amount=4)"
    model = ScriptedModel(chat(reasoning="-", generated_code=code, finished=True))
    module = CodeAct("question -> answer", [pay, advise], sandbox=sandbox)
    with pytest.raises(WaitingForAnswerError) as caught:
        module(RunContext(model=model), question="?")
    assert caught.value.question.inputs == {"topic": "sofas"}
    assert not paid


def test_code_act_asks_a_person_before_a_tool_that_needs_approval() -> None:
    tool = Tool.from_function(lookup, policy=ToolPolicy(approval=True))
    code = chat(reasoning="-", generated_code="print(lookup(city='Rome'))", finished=True)
    module = CodeAct("question -> total: int", [tool])
    with pytest.raises(WaitingForAnswerError, match="'tool': 'lookup'"):
        module(RunContext(model=ScriptedModel(code)), question="?")


def test_code_act_shows_errors_of_tools_and_goes_on() -> None:
    model = ScriptedModel(
        chat(generated_code="lookup('Oslo')", finished=True),
        chat(generated_code="print(lookup('Rome'))", finished=True),
        chat(reasoning="read", total=25),
    )
    prediction = CodeAct("question -> total: int", [lookup])(RunContext(model=model), question="?")
    assert prediction.total == 25
    assert prediction.trajectory[0]["error"] is not None
    assert "RuntimeError" in prompt_of(model.requests[1])


def test_rlm_explores_a_long_input_without_showing_it() -> None:
    text = "x " * 500_000 + "the code is 4711"
    model = ScriptedModel(
        chat(reasoning="look at the end", code="print(text[-20:])"),
        chat(reasoning="ask", code="answer = llm_query('Which number? ' + text[-20:])"),
        "4711",
        chat(reasoning="done", code="SUBMIT(number=answer)"),
    )
    prediction = RLM("text -> number: int")(RunContext(model=model), text=text)
    assert prediction.number == 4711
    assert len(prediction.trajectory) == 3
    assert max(len(prompt_of(request)) for request in model.requests) < 5000
    assert "1000016 long" in prompt_of(model.requests[0])
    assert prediction.usage.calls == 4


def test_rlm_sends_outputs_that_do_not_fit_back() -> None:
    model = ScriptedModel(
        chat(reasoning="x", code="SUBMIT(number='many')"),
        chat(reasoning="y", code="SUBMIT({'number': 3})"),
    )
    assert RLM("text -> number: int")(RunContext(model=model), text="t").number == 3
    assert "SUBMIT was refused" in prompt_of(model.requests[1])


def test_rlm_answers_from_its_history_when_the_turns_are_used_up() -> None:
    model = ScriptedModel(chat(reasoning="x", code="print('hm')"), chat(reasoning="so", number=3))
    module = RLM("text -> number: int", max_iters=1)
    assert module(RunContext(model=model), text="t").number == 3


def test_sub_calls_are_limited_and_use_the_budget_of_the_run() -> None:
    code = "print(llm_query_batched(['a', 'b', 'c']))"
    model = ScriptedModel(
        chat(reasoning="x", code=code), "r", "r", chat(reasoning="y", code="SUBMIT(number=1)")
    )
    prediction = RLM("text -> number: int", max_llm_calls=2)(RunContext(model=model), text="t")
    assert "more than 2 calls of llm_query" in prediction.trajectory[0]["observation"]
    model = ScriptedModel(chat(reasoning="x", code=code))
    context = RunContext(model=model, budget=Budget(calls=2))
    with pytest.raises(BudgetError):
        RLM("text -> number: int")(context, text="t")


def test_a_limit_of_the_sandbox_ends_the_run_with_an_error() -> None:
    limits = SandboxLimits(seconds=0.5)
    model = ScriptedModel(chat(reasoning="x", generated_code="while True:\n    pass"))
    module = ProgramOfThought("question -> total: int", max_iters=1, limits=limits)
    with pytest.raises(ExecutionError, match="time"):
        module(RunContext(model=model), question="?")


MODULES = [
    ProgramOfThought("question -> total: int", max_iters=2, limits=SandboxLimits(seconds=3)),
    CodeAct("question -> total: int", [lookup], sandbox="subprocess"),
    RLM("text -> number: int", sub_model="openai/gpt-4o-mini", max_iters=4),
]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: type(module).__name__)
def test_a_stored_module_is_built_as_it_was(module: Module) -> None:
    program = module.to_program("p")
    code = CodeRoot(Path(__file__).parents[3])
    loaded = build(Program.from_dict(program.to_dict()), code=code)
    assert loaded.to_program("p").content_hash == program.content_hash


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_iters": 0}, "max_iters must be a whole number from 1"),
        ({"limits": {"second": 3}}, "there is no limit 'second'"),
        ({"limits": {"seconds": -1}}, "seconds of SandboxLimits must be above 0"),
    ],
)
def test_a_wrong_setting_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        ProgramOfThought("question -> total: int", **settings)


def test_names_that_the_code_could_not_use_are_refused() -> None:
    other = Tool.from_function(lookup, name="look-up")
    submit = Tool.from_function(lookup, name="SUBMIT")
    for create, message in (
        (lambda: ProgramOfThought("SUBMIT -> total: int"), "the input 'SUBMIT' has the name of a"),
        (lambda: RLM("llm_query -> answer"), "the input 'llm_query' has the name of a function"),
        (lambda: CodeAct("lookup -> answer", [lookup]), "the input 'lookup' has the name of a"),
        (lambda: CodeAct("city -> answer", [submit]), "the tool 'SUBMIT' has the name of"),
        (lambda: CodeAct("city -> answer", [other]), "the tool 'look-up' cannot be called by code"),
    ):
        with pytest.raises(DefinitionError, match=message):
            create()


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("x = 1", "x = 1"),
        ("Here:\n```python\nx = 1\n```\nand\n```\ny = 2\n```", "x = 1\ny = 2"),
        ("```py\nx = 1", "x = 1"),
    ],
)
def test_code_is_read_out_of_fences(text: str, code: str) -> None:
    assert read_code(text) == code


def test_a_long_output_is_shown_with_its_middle_left_out() -> None:
    shown = observation(SandboxResult(stdout="a" * 5000 + "b" * 5000))
    assert len(shown) < 4100
    assert "6000 characters left out" in shown


@pytest.mark.parametrize("kind", [ProgramOfThought, RLM, partial(CodeAct, tools=[lookup])])
def test_a_wrong_sandbox_or_limit_is_refused_when_a_module_is_declared(kind: Any) -> None:
    with pytest.raises(DefinitionError, match=r"unknown sandbox 'mony'. Did you mean 'monty'"):
        kind("question -> total: int", sandbox="mony")
    with pytest.raises(DefinitionError, match="a sandbox is the name of one"):
        kind("question -> total: int", sandbox=5)
    with pytest.raises(DefinitionError, match="`limits` takes a SandboxLimits"):
        kind("question -> total: int", limits=5)
