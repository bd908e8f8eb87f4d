"""`Output(check=...)`: conditions that a predictor keeps of itself."""

import sys

import pytest

import dspex
from dspex import ChainOfThought, Module, Output, Predict, ReAct, Signature, build
from dspex.errors import CheckError, ConflictError, DefinitionError, SignatureError
from dspex.execution.context import RunContext
from dspex.execution.modules import CodeRoot
from dspex.language.records import ToolCall
from dspex.telemetry import Collecting, FieldDelta
from dspex.testing import ScriptedModel


def chat(**fields) -> str:
    return "\n\n".join(f"[[ ## {name} ## ]]\n{value}" for name, value in fields.items())


def is_short(text: str) -> bool:
    return len(text) < 5


def is_polite(text: str) -> None:
    if "please" not in text:
        raise ValueError("say please")


class Brief(Signature):
    """Answer."""

    question: str
    answer: str = Output(check=(is_short, "use fewer than 5 letters"))


LONG, SHORT = chat(answer="a long answer"), chat(answer="yes")


def test_what_does_not_hold_up_is_asked_for_again_with_the_answer_and_the_message():
    model, observer = ScriptedModel(LONG, SHORT), Collecting()
    prediction = Predict(Brief)(RunContext(model=model, observer=observer), question="q")
    assert (prediction.answer, prediction.usage.calls, prediction.fallback) == ("yes", 2, None)
    before, (past, feedback) = model.requests[1].messages[:-2], model.requests[1].messages[-2:]
    assert before == model.requests[0].messages
    assert (past.role, past.content) == ("assistant", LONG)
    assert (feedback.role, "answer: use fewer than 5 letters" in feedback.content) == ("user", True)
    assert prediction.trace.spans[-1].attributes == {"asserted_again": 1}


def test_after_two_more_tries_it_is_an_error_that_says_what_does_not_hold():
    model = ScriptedModel(LONG)
    with pytest.raises(CheckError, match="answer: use fewer than 5 letters"):
        Predict(Brief)(RunContext(model=model), question="q")
    assert len(model.requests) == 3


def test_a_suggestion_is_noted_and_what_was_answered_stays():
    model, observer = ScriptedModel(LONG), Collecting()
    signature = Signature("q -> other").append(
        "answer", suggest=[is_short, (is_polite, "be polite")]
    )
    model = ScriptedModel(chat(other="x", answer="a long answer"))
    prediction = Predict(signature)(RunContext(model=model, observer=observer), q="q")
    assert prediction.answer == "a long answer"
    assert [event.message for event in observer.events] == [
        "suggestion not met: answer: it does not pass is_short",
        "suggestion not met: answer: be polite",
    ]
    assert [event.attributes for event in observer.events] == [{"path": "self"}] * 2


def test_what_a_check_raises_is_its_message_and_several_are_told_at_once():
    signature = Signature("q -> other").append("answer", check=[is_short, is_polite])
    model = ScriptedModel(chat(other="x", answer="a long answer"))
    with pytest.raises(CheckError, match="answer: it does not pass is_short; answer: say please"):
        Predict(signature)(RunContext(model=model), q="q")


def test_a_check_that_is_at_fault_itself_is_no_reason_to_ask_again():
    def broken(value):
        return value.nothing

    model = ScriptedModel(SHORT)
    with pytest.raises(
        DefinitionError, match="the check 'broken' of 'answer' raised an error: AttributeError"
    ):
        Predict(Signature("question -> answer").with_field("answer", check=broken))(
            RunContext(model=model), question=""
        )
    assert len(model.requests) == 1


def test_checks_see_values_of_the_type_of_their_field():
    signature = Signature("q -> n: int").with_field("n", check=lambda n: n % 2 == 0)
    model = ScriptedModel(chat(n="3"), chat(n="4"))
    assert Predict(signature)(RunContext(model=model), q="").n == 4


def test_a_repair_and_a_check_are_counted_apart():
    signature = Signature("q -> n: int").with_field("n", check=(lambda n: n > 3, "more"))
    model = ScriptedModel(chat(n="many"), chat(n="1"), chat(n="2"), chat(n="4"))
    prediction = Predict(signature)(RunContext(model=model), q="")
    assert prediction.n == 4
    assert prediction.trace.spans[-1].attributes == {"repairs": 1, "asserted_again": 2}


def test_a_chain_of_thought_keeps_them():
    model = ScriptedModel(
        chat(reasoning="r", answer="a long answer"), chat(reasoning="r", answer="yes")
    )
    assert ChainOfThought(Brief)(RunContext(model=model), question="q").answer == "yes"
    assert len(model.requests) == 2


def lookup(city: str) -> str:
    """Look it up."""
    return city


TEXT = [chat(next_thought="t", next_tool_name="finish", next_tool_args="{}")]
REASONED = [chat(reasoning="r", answer="a long answer"), chat(reasoning="r", answer="yes")]
CALLS = [
    ToolCall("1", "finish", {"answer": "a long answer"}),
    ToolCall("2", "finish", {"answer": "yes"}),
]


@pytest.mark.parametrize(
    ("script", "abilities"), [([*TEXT, *REASONED], ()), (CALLS, ("tools",))], ids=["text", "native"]
)
def test_an_agent_keeps_them(script, abilities):
    model = ScriptedModel(*script, capabilities=abilities)
    assert ReAct(Brief, [lookup])(RunContext(model=model), question="q").answer == "yes"
    assert "use fewer than 5 letters" in model.requests[-1].messages[-1].content
    never = ScriptedModel(*script[:-1], capabilities=abilities)
    with pytest.raises(CheckError, match="fewer than 5"):
        ReAct(Brief, [lookup])(RunContext(model=never), question="q")
    assert len(never.requests) == (4 if TEXT[0] in script else 3)


def test_a_suggestion_to_a_native_agent_is_noted_under_its_path():
    observer = Collecting()
    signature = Brief.with_field("answer", check=None, suggest=is_short)
    model = ScriptedModel(CALLS[0], capabilities=["tools"])
    assert ReAct(signature, [lookup])(
        RunContext(model=model, observer=observer), question="q"
    ).answer.startswith("a")
    assert [event.attributes for event in observer.events] == [{"path": "self"}]


def test_copies_and_variants_of_a_signature_keep_their_checks():
    class More(Brief):
        """Answer more."""

        note: str = Output()

    variants = [
        More,
        Brief.with_instructions("Be quick."),
        Brief.with_field("answer", desc="one word"),
        Brief.append("note").prepend("reasoning").remove("note"),
        Brief.extend("x -> y"),
        Brief.merge("question -> answer, z"),
        Predict(Brief).assign({"self.instructions": "Do."}).signature,
    ]
    for variant in variants:
        assert [name for name, _ in Signature.of(variant).output_checks] == ["answer"]
    assert Brief.with_field("answer", check=None).output_checks == ()
    assert Brief.output_checks[0][1].function is is_short


async def test_each_try_streams_anew():
    model = ScriptedModel(LONG, SHORT, capabilities=["streaming"], piece=99)
    stream = Predict(Brief).stream(RunContext(model=model), question="q")
    assert (
        [(event.text, event.attempt) async for event in stream if isinstance(event, FieldDelta)]
    ) == [("a long answer", 1), ("yes", 2)]


def test_an_assert_of_the_module_around_it_has_tries_of_its_own():
    class Careful(Module):
        def __init__(self):
            self.ask = Predict(Brief)

        async def forward(self, question):
            result = await self.ask.acall(question=question)
            dspex.Assert(result.answer == "no", "say no", of=result)
            return result

    model = ScriptedModel(LONG, SHORT, LONG, chat(answer="no"))
    assert Careful()(RunContext(model=model), question="q").answer == "no"
    assert len(model.requests) == 4


@pytest.mark.parametrize(
    "value",
    ["is_short", (is_short, 3), ("x", "y"), 3],
    ids=["text", "no message", "no function", "number"],
)
def test_what_is_no_check_is_refused_where_it_is_declared(value):
    with pytest.raises(SignatureError, match="a check is a plain function"):
        Output(check=value)


def test_a_check_of_an_input_or_an_async_one_is_refused():
    async def later(_):
        return True

    with pytest.raises(SignatureError, match="only outputs can have checks"):
        Signature("q -> a").with_field("q", check=is_short)
    with pytest.raises(SignatureError, match="plain function"):
        Output(check=later)


MODULE = '''
from dspex import Output, Signature


def is_short(text):
    return len(text) < {limit}


class Brief(Signature):
    """Answer."""

    question: str
    answer: str = Output(check=(is_short, "be brief"), suggest=is_short)
'''


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A module `briefs` in a code root."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "briefs", raising=False)
    (tmp_path / "briefs.py").write_text(MODULE.format(limit=5))
    yield tmp_path
    sys.modules.pop("briefs", None)


def test_as_data_a_check_goes_by_its_import_path_and_is_loaded_from_the_code_root(folder):
    code = CodeRoot(folder)
    declared = Signature.of(code.load("briefs:Brief"))
    (field,) = [field for field in declared.to_dict()["fields"] if field["name"] == "answer"]
    assert field["checks"] == [
        {"target": "briefs:is_short", "message": "be brief"},
        {"target": "briefs:is_short", "required": False},
    ]
    stored = Signature.from_dict(declared.to_dict())
    assert (stored, stored.content_hash) == (declared, declared.content_hash)
    with pytest.raises(DefinitionError, match="'briefs:is_short' of 'answer' is code"):
        Predict(stored)
    for module in (Predict(declared), ChainOfThought(declared), ReAct(declared, [])):
        program = dspex.Program.from_json(module.to_program("p").to_json())
        again = build(program, code=code)
        assert again.to_program("p").content_hash == program.content_hash
        with pytest.raises(DefinitionError, match="code is not loaded here"):
            build(program)
    again = build(Predict(declared).to_program("p"), code=code)
    assert again(RunContext(model=ScriptedModel(LONG, SHORT)), question="q").answer == "yes"


def test_a_check_whose_source_has_changed_is_a_conflict(folder):
    program = Predict(CodeRoot(folder).load("briefs:Brief")).to_program("p")
    stored = dspex.Program.from_json(program.to_json())
    (folder / "briefs.py").write_text(MODULE.format(limit=500))
    sys.modules.pop("briefs")  # another process loads what is there now
    with pytest.raises(ConflictError, match="has changed"):
        build(stored, code=CodeRoot(folder))


def test_a_lambda_cannot_be_stored_although_it_has_a_module() -> None:
    retry = dspex.Retry(Predict("q -> a"), accept=lambda prediction: True)
    with pytest.raises(DefinitionError, match="it is a lambda; define a function"):
        retry.to_program()


def test_a_check_that_import_cannot_find_cannot_be_stored_but_its_state_can(tmp_path):
    def local(text):
        return len(text) < 5

    predict = Predict(
        Brief.with_field("answer", check=local), demos=[{"question": "q", "answer": "a"}]
    )
    with pytest.raises(DefinitionError, match=r"local cannot be found by import"):
        predict.to_program()
    with pytest.raises(
        DefinitionError,
        match=r"the check of 'answer' cannot be stored: .* is not a function with a source",
    ):
        Predict(Brief.with_field("answer", check=str.istitle)).to_program()
    predict.save(tmp_path / "state.json")
    fresh = Predict(Brief.with_field("answer", check=local))
    fresh.load(tmp_path / "state.json")
    assert fresh.demos == predict.demos
    assert fresh.signature.output_checks[0][1].function is local
