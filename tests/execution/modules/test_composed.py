"""ChainOfThought, ReAct, Parallel and Retry."""

import json
from typing import Any

import pytest

import dspex
from dspex import Module, Predict, build
from dspex.errors import (
    BudgetError,
    DefinitionError,
    ExecutionError,
    InputError,
    ModelUnavailableError,
)
from dspex.execution.context import RunContext
from dspex.execution.modules import ChainOfThought, Parallel, ReAct, Retry
from dspex.execution.tools import ToolPolicy, ToolSet
from dspex.language.records import ToolCall
from dspex.testing import ScriptedModel


def chat(**fields) -> str:
    parts = (
        f"[[ ## {k} ## ]]\n{v if isinstance(v, str) else json.dumps(v)}" for k, v in fields.items()
    )
    return "\n\n".join(parts)


def lookup(city: str) -> str:
    """Look up the weather of a city."""
    if city == "Atlantis":
        raise LookupError("it sank")
    return f"{city}: 21 degrees"


def test_a_chain_of_thought_reasons_first():
    model = ScriptedModel(chat(reasoning="because", answer="Paris"))
    cot = ChainOfThought("question -> answer")
    prediction = cot(RunContext(model=model), question="q")
    assert dict(prediction) == {"reasoning": "because", "answer": "Paris"}
    assert list(cot.contract().output_fields) == ["reasoning", "answer"]
    assert [path for path, _ in cot.named_modules()] == ["self", "predict"]


def test_its_reasoning_may_be_a_list_of_steps():
    model = ScriptedModel(chat(reasoning=["one", "two"], answer="Paris"))
    prediction = ChainOfThought("question -> answer", steps=True)(
        RunContext(model=model), question="q"
    )
    assert prediction.reasoning == ["one", "two"]


@pytest.mark.parametrize(
    "module",
    [
        ChainOfThought(
            "question -> answer",
            steps=True,
            demos=[{"question": "q", "reasoning": ["r"], "answer": "a"}],
        ),
        Parallel(ChainOfThought("question -> answer", temperature=0.5), concurrency=3),
        Retry(Predict("question -> answer", adapter="tools", repairs=0), attempts=2),
    ],
)
def test_they_go_to_data_and_back(module):
    program = module.to_program("p")
    again = build(dspex.Program.from_json(program.to_json()))
    assert type(again) is type(module)
    assert again.to_program("p").content_hash == program.content_hash


TEXT_RUN = [
    chat(next_thought="look", next_tool_name="lookup", next_tool_args={"city": "Paris"}),
    chat(next_thought="look", next_tool_name="lookup", next_tool_args={"city": "Atlantis"}),
    chat(next_thought="look", next_tool_name="lookup", next_tool_args={"town": "x"}),
    chat(next_thought="enough", next_tool_name="finish", next_tool_args={}),
    chat(reasoning="so", degrees=21),
]
NATIVE_RUN = [
    ToolCall("1", "lookup", {"city": "Paris"}),
    ToolCall("2", "lookup", {"city": "Atlantis"}),
    ToolCall("3", "lookup", {"town": "x"}),
    "I think so",
    ToolCall("4", "finish", {"degrees": "many"}),
    ToolCall("5", "finish", {"degrees": 21}),
]


@pytest.mark.parametrize(
    ("script", "abilities"), [(TEXT_RUN, ()), (NATIVE_RUN, ("tools",))], ids=["text", "native"]
)
def test_an_agent_calls_tools_reads_their_errors_and_gives_a_typed_answer(script, abilities):
    model = ScriptedModel(*script, capabilities=abilities)
    agent = ReAct("question -> degrees: int", [lookup])
    prediction = agent(RunContext(model=model), question="How warm is Paris?")
    assert (list(prediction), prediction.degrees) == (["degrees", "trajectory"], 21)
    tools = [span for span in prediction.trace.spans if span.kind == "tool"]
    assert [(span.name, span.status) for span in tools] == [
        ("lookup", "ok"),
        ("lookup", "error"),
        ("lookup", "error"),
    ]
    content = "\n".join(message.text for message in model.requests[-1].messages)
    for text in ("Paris: 21 degrees", "it sank", "unknown field"):
        assert text in content
    assert prediction.usage.calls == len(model.requests) == len(script)


def test_after_its_turns_an_agent_has_to_answer():
    text = ScriptedModel(*[TEXT_RUN[0]] * 2, chat(reasoning="so", degrees=21))
    assert (
        ReAct("question -> degrees: int", [lookup], max_turns=2)(
            RunContext(model=text), question="q"
        ).degrees
        == 21
    )
    native = ScriptedModel(*[NATIVE_RUN[0]] * 2, NATIVE_RUN[-1], capabilities=["tools"])
    agent = ReAct("question -> degrees: int", [lookup], max_turns=2)
    assert agent(RunContext(model=native), question="q").degrees == 21
    assert [request.tool_choice for request in native.requests] == ["auto", "auto", "finish"]
    never = ScriptedModel(NATIVE_RUN[0], capabilities=["tools"])
    with pytest.raises(BudgetError, match="2 turns"):
        agent(RunContext(model=never), question="q")


def test_tokens_and_money_end_a_run_before_the_next_call():
    for limit in ({"max_tokens": 20}, {"max_usd": 1.0}):
        model = ScriptedModel(NATIVE_RUN[0], capabilities=["tools"], cost_usd=0.6)
        with pytest.raises(BudgetError):
            ReAct("question -> degrees: int", [lookup], **limit)(
                RunContext(model=model), question="q"
            )
        assert 1 <= len(model.requests) <= 2


def test_an_agent_is_refused_what_its_policy_does_not_permit():
    model = ScriptedModel(NATIVE_RUN[0], NATIVE_RUN[-1], capabilities=["tools"])
    tools = ToolSet(
        [lookup], policies={"lookup": ToolPolicy(permit=lambda _name, _arguments: False)}
    )
    ReAct("question -> degrees: int", tools)(RunContext(model=model), question="q")
    assert "not permitted" in model.requests[-1].messages[-1].content


def test_a_tool_may_not_be_named_like_the_end():
    def finish() -> str:
        return ""

    with pytest.raises(DefinitionError, match="finish"):
        ReAct("q -> a", [finish])


def test_parallel_keeps_the_order_and_a_failure_is_a_row():
    def reply(request):
        text = request.messages[-1].content
        return (
            ModelUnavailableError("down")
            if "q3" in text
            else chat(answer=next(word for word in text.split() if word[1:].isdigit()))
        )

    model = ScriptedModel(reply)
    result = Parallel(Predict("question -> answer"), concurrency=2)(
        RunContext(model=model), rows=[{"question": f"q{n}"} for n in range(6)]
    )
    assert [p and p.answer for p in result.results] == ["q0", "q1", "q2", None, "q4", "q5"]
    assert [type(error) for error in result.errors].count(ModelUnavailableError) == 1
    assert result.usage.calls == 5


def test_retry_runs_again_with_another_seed_until_accepted():
    model = ScriptedModel(
        ModelUnavailableError("x"), chat(answer="no"), chat(answer="yes"), capabilities=["seed"]
    )
    retry = Retry(Predict("q -> answer"), accept=lambda prediction: prediction.answer == "yes")
    assert retry(RunContext(model=model, seed=5), q="q").answer == "yes"
    assert [request.seed for request in model.requests] == [5, 6, 7]
    with pytest.raises(DefinitionError, match="`accept` of Retry at 'self' cannot be stored"):
        retry.to_program()
    with pytest.raises(ExecutionError, match="none of 3"):
        Retry(Predict("q -> answer"), accept=lambda _: False)(
            RunContext(model=ScriptedModel(chat(answer="x"))), q="q"
        )


def test_an_agent_may_be_a_tool_of_an_agent():
    from dspex.execution.tools import Tool

    inner = ReAct("question -> degrees: int", [lookup])
    outer = ReAct("task -> report", [Tool.from_module(inner, name="meteorologist")])
    model = ScriptedModel(
        ToolCall("1", "meteorologist", {"question": "Paris?"}),
        NATIVE_RUN[0],
        NATIVE_RUN[-1],
        ToolCall("2", "finish", {"report": "21"}),
        capabilities=["tools"],
    )
    prediction = outer(RunContext(model=model), task="weather")
    assert prediction.report == "21"
    by_id = {span.span_id: span for span in prediction.trace.spans}
    inner_tool = next(span for span in prediction.trace.spans if span.name == "lookup")
    above = []
    while inner_tool.parent_id is not None:
        inner_tool = by_id[inner_tool.parent_id]
        above.append((inner_tool.kind, inner_tool.name))
    assert above == [("module", "ReAct"), ("tool", "meteorologist"), ("module", "ReAct")]


class UserModule(Module):
    signature = "question -> answer"

    def __init__(self):
        self.steps = {"first": ChainOfThought("question -> answer")}

    async def forward(self, question):
        return await self.steps["first"].acall(question=question)


def test_parts_are_found_in_containers_of_containers():
    class Deep(Module):
        def __init__(self):
            self.levels: dict[str, Any] = {"a": [Predict("q -> a"), ({"b": Predict("q -> b")},)]}
            self.levels["itself"] = self.levels

        async def forward(self, q):
            return await self.levels["a"][1][0]["b"].acall(q=q)

    paths = [path for path, _ in Deep().named_modules()]
    assert paths == ["self", "levels['a'][0]", "levels['a'][1][0]['b']"]
    prediction = Deep()(RunContext(model=ScriptedModel(chat(b="x"))), q="")
    assert prediction.trace.spans[0].path == "levels['a'][1][0]['b']"


@pytest.mark.parametrize("kind", ["async", "sync"])
def test_inputs_that_a_forward_cannot_be_called_with_are_invalid(kind):
    class Asks(Module):
        async def forward(self, question):
            raise TypeError("of its own")

    class AsksInAThread(Module):
        def forward(self, question):
            raise TypeError("of its own")

    module = {"async": Asks, "sync": AsksInAThread}[kind]()
    with pytest.raises(
        InputError, match="missing a required argument: 'question'; it takes: question"
    ):
        module(RunContext(), qestion="")
    with pytest.raises(TypeError, match="of its own"):
        module(RunContext(), question="")


def test_any_failure_of_a_row_is_its_error():
    class Breaks(Module):
        async def forward(self, n):
            return {"m": 6 // n}

    result = Parallel(Breaks())(RunContext(), rows=[{"n": 2}, {"n": 0}, {"k": 1}])
    assert result.results[0]["m"] == 3
    assert result.results[1:] == [None, None]
    assert isinstance(result.errors[1], ExecutionError)
    assert "row 1 of Breaks: ZeroDivisionError" in str(result.errors[1])
    assert isinstance(result.errors[2], InputError)


def test_parts_are_found_by_path_to_any_depth():
    module = UserModule()
    assert [path for path, _ in module.named_modules()] == [
        "self",
        "steps['first']",
        "steps['first'].predict",
    ]
    copy = module.assign({"steps['first'].predict.instructions": "Be brief."})
    assert copy.steps["first"].predict.signature.instructions == "Be brief."
