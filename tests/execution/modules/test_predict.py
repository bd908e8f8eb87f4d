import asyncio
import copy
from typing import Any, Literal

import pytest

import dspex
from dspex import Module, Output, Predict, Prediction, ReAct, Signature
from dspex.errors import (
    AdapterError,
    ConfigurationError,
    DefinitionError,
    InputError,
    ModelUnavailableError,
)
from dspex.execution.adapters import ChatAdapter
from dspex.execution.context import RunContext
from dspex.learning.evaluation.retrieval_metrics import recall_at
from dspex.telemetry import Collecting
from dspex.testing import FakeClock, ScriptedModel, simulated_agents

CHAT = "[[ ## answer ## ]]\nParis\n\n[[ ## completed ## ]]"


class Triage(Signature):
    """Route it."""

    message: str
    team: Literal["cards", "payments"] = Output()
    sure: float = Output(ge=0, le=1)


def test_a_reply_becomes_a_typed_prediction_with_usage_and_trace():
    model = ScriptedModel("[[ ## team ## ]]\ncards\n\n[[ ## sure ## ]]\n0.9")
    with dspex.context(model=model):
        prediction = Predict(Triage)(message="lost card")
    assert (prediction.team, prediction["sure"], prediction.fallback) == ("cards", 0.9, None)
    assert prediction.usage.calls == 1
    assert [(span.kind, span.parent_id) for span in prediction.trace.spans] == [
        ("model", 1),
        ("module", None),
    ]


def test_a_chat_reply_that_cannot_be_read_is_asked_for_once_more_as_json_and_said_so():
    model = ScriptedModel("It is Paris.", '{"answer": "Paris"}', capabilities=["json_mode"])
    observer = Collecting()
    prediction = Predict("question -> answer")(
        RunContext(model=model, observer=observer), question="capital?"
    )
    assert prediction.answer == "Paris"
    assert prediction.fallback is not None
    assert (prediction.fallback.source, prediction.fallback.target) == ("chat", "json")
    assert "none of the headers" in prediction.fallback.reason
    assert prediction.usage.calls == 2
    assert [request.json_mode for request in model.requests] == [False, True]
    assert [event.name for event in observer.events] == ["fallback"]


def test_a_reply_that_json_cannot_be_read_from_either_is_an_adapter_error():
    model = ScriptedModel("no", "no again")
    with pytest.raises(AdapterError, match="no again"):
        Predict("question -> answer")(RunContext(model=model), question="q")
    assert len(model.requests) == 2


def test_a_model_that_decodes_under_a_schema_is_asked_for_json_and_gets_the_schema():
    model = ScriptedModel(
        '{"answer": "x"}', capabilities=["constrained_decoding", "response_schema", "json_mode"]
    )
    Predict("question -> answer")(RunContext(model=model), question="q")
    schema = model.requests[0].response_schema
    assert schema is not None
    assert schema["required"] == ["answer"]


def test_a_model_without_abilities_is_not_asked_to_use_them():
    model = ScriptedModel('{"answer": "x"}')
    Predict("question -> answer", adapter="json", seed=3)(RunContext(model=model), question="q")
    request = model.requests[0]
    assert (request.response_schema, request.json_mode, request.seed) == (None, False, None)


def test_settings_reach_the_request_and_an_unknown_one_is_refused():
    model = ScriptedModel(CHAT, capabilities=["seed"])
    predict = Predict("question -> answer", temperature=0.7, max_tokens=5)
    predict(RunContext(model=model, seed=9), question="q")
    request = model.requests[0]
    assert (request.temperature, request.max_tokens, request.seed) == (0.7, 5, 9)
    with pytest.raises(DefinitionError, match="Did you mean 'temperature'"):
        Predict("question -> answer", temperatur=1)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("inputs", "field", "message"),
    [
        ({}, "message", "missing"),
        ({"message": "m", "mesage": "n"}, "mesage", "Did you mean 'message'"),
        ({"message": ["m"]}, "message", "str"),
    ],
)
def test_inputs_that_do_not_fit_are_named_and_nothing_is_sent(inputs, field, message):
    model = ScriptedModel(CHAT)
    with pytest.raises(InputError) as caught:
        Predict(Triage)(RunContext(model=model), **inputs)
    assert [error.field for error in caught.value.fields] == [field]
    assert message in str(caught.value)
    assert model.requests == []


def test_inputs_by_place_are_shown_by_name():
    @dspex.program
    def shout(text: str) -> str:
        return text

    class Triage(dspex.Module):
        def forward(self, ticket, queue="main"):
            return {"queue": queue}

    route: dspex.Module = Triage()
    answer = dspex.Predict("context, question -> answer")
    for wrong, call in (
        (lambda: answer("hello"), r"write program\(context='hello', question=\.\.\.\)"),
        (lambda: answer("hello", "why?"), r"write program\(context='hello', question='why\?'\)"),
        (lambda: answer("", question="why?"), r"write program\(context='', question=\.\.\.\)"),
        (
            lambda: answer(RunContext(), "hello"),
            r"write program\(context='hello', question=\.\.\.\)",
        ),
        (lambda: answer("a", "b", "c"), "it has 2 inputs, not 3"),
        (lambda: shout("hello"), r"write program\(text='hello'\)"),  # type: ignore[call-arg]
        (lambda: route({"id": 1}), r"write program\(ticket=\{'id': 1\}, queue=\.\.\.\)"),
        (lambda: asyncio.run(answer.acall("hello")), "pass the inputs of .* by name"),
    ):
        with pytest.raises(InputError, match=call):
            wrong()


def test_wrong_inputs_are_told_before_a_missing_model():
    with pytest.raises(InputError, match="message"):
        Predict(Triage)(RunContext(), mesage="m")


def test_a_failing_model_leaves_a_span_with_its_error():
    observer = Collecting()
    with pytest.raises(ModelUnavailableError):
        Predict("q -> answer")(
            RunContext(model=ScriptedModel(ModelUnavailableError("down")), observer=observer), q="q"
        )
    assert [(span.kind, span.status) for span in observer.spans] == [
        ("model", "error"),
        ("module", "error"),
    ]
    assert "down" in (observer.spans[0].error or "")


def test_render_shows_what_would_be_sent_and_sends_nothing():
    model = ScriptedModel(CHAT)
    prompt, adapter = Predict("question -> answer").render(
        {"question": "why?"}, RunContext(model=model)
    )
    assert adapter.name == "chat"
    assert "why?" in prompt.messages[-1].content
    assert model.requests == []


def test_a_user_may_subclass_render():
    class Shouting(ChatAdapter):
        def render(self, signature, demos, inputs):
            return super().render(
                signature, demos, {name: str(value).upper() for name, value in inputs.items()}
            )

    model = ScriptedModel(CHAT)
    assert (
        Predict("question -> answer", adapter=Shouting())(
            RunContext(model=model), question="why?"
        ).answer
        == "Paris"
    )
    assert "WHY?" in model.requests[0].messages[-1].content


def test_payloads_are_recorded_only_where_asked_for_and_are_capped():
    long = "[[ ## answer ## ]]\n" + "x" * 100_000
    quiet = Predict("q -> answer")(RunContext(model=ScriptedModel(long)), q="q").trace.spans[0]
    loud = Predict("q -> answer")(
        RunContext(model=ScriptedModel(long), records_payloads=True), q="q"
    ).trace.spans[0]
    assert (quiet.inputs_ref, quiet.outputs_ref) == (None, None)
    assert loud.inputs_ref is not None
    assert loud.outputs_ref is not None
    assert "[[ ## q ## ]]" in loud.inputs_ref
    assert len(loud.outputs_ref) < 66_000
    assert "cut" in loud.outputs_ref[-40:]


class Pipeline(Module):
    signature = "question -> answer"

    def __init__(self):
        self.steps = [Predict("question -> thought"), Predict("thought -> answer")]
        self.named = {"extra": Predict("a -> b")}

    async def forward(self, question):
        thought = await self.steps[0].acall(question=question)
        return await self.steps[1].acall(thought=thought.thought)


class SyncPipeline(Pipeline):
    def forward(self, question):
        return {"answer": self.steps[1](thought=self.steps[0](question=question).thought).answer}


@pytest.mark.parametrize("kind", [Pipeline, SyncPipeline])
def test_modules_nest_and_the_trace_knows_every_path(kind):
    model = ScriptedModel("[[ ## thought ## ]]\nhm", CHAT)
    with dspex.context(model=model):
        prediction = kind()(question="why?")
    assert prediction.answer == "Paris"
    assert [(span.kind, span.path) for span in prediction.trace.spans] == [
        ("model", "steps[0]"),
        ("module", "steps[0]"),
        ("model", "steps[1]"),
        ("module", "steps[1]"),
        ("module", "self"),
    ]
    assert prediction.usage.calls == 2


def test_named_modules_have_the_paths_of_lists_and_dicts():
    assert [path for path, _ in Pipeline().named_modules()] == [
        "self",
        "steps[0]",
        "steps[1]",
        "named['extra']",
    ]


def test_a_forward_that_returns_nothing_useful_says_what_to_return():
    class Odd(Module):
        async def forward(self):
            return 3

    with pytest.raises(DefinitionError, match="return a Prediction"):
        Odd()(RunContext())


def test_the_clock_of_the_context_times_the_spans():
    clock = FakeClock()

    class Slow(ScriptedModel):
        async def complete(self, request):
            await clock.advance(2.5)
            return await super().complete(request)

    prediction = Predict("q -> answer")(RunContext(model=Slow(CHAT), clock=clock), q="q")
    assert [span.seconds for span in prediction.trace.spans] == [2.5, 2.5]


async def test_a_cancelled_call_is_recorded_as_cancelled():
    observer = Collecting()

    class Waits(ScriptedModel):
        async def complete(self, request):
            started.set()
            await asyncio.Event().wait()

    started = asyncio.Event()
    task = asyncio.create_task(
        Predict("q -> a").acall(RunContext(model=Waits("x"), observer=observer), q="q")
    )
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [span.status for span in observer.spans] == ["cancelled", "cancelled"]


def test_a_program_of_a_predict_goes_to_data_and_back():
    predict = Predict(
        Triage,
        demos=[{"message": "m", "team": "cards", "sure": 1.0}],
        temperature=0.5,
        adapter="json",
    )
    program = predict.to_program("triage")
    again: Any = dspex.build(dspex.Program.from_json(program.to_json()))
    assert again.to_program("triage").content_hash == program.content_hash
    assert (again.demos, again.settings, again.adapter.name) == (
        predict.demos,
        predict.settings,
        "json",
    )


def test_assigning_makes_a_copy_and_leaves_the_original_alone():
    predict = Predict("q -> a")
    twin = predict.assign({"self.instructions": "Be brief.", "self.demos": [{"q": "1", "a": "2"}]})
    assert (twin.signature.instructions, twin.demos) == ("Be brief.", [{"q": "1", "a": "2"}])
    assert predict.demos == []


def test_a_prediction_made_by_hand_has_an_empty_trace():
    assert Prediction(answer="x").trace.spans == ()


def test_a_model_string_needs_somebody_to_resolve_it():
    with pytest.raises(ConfigurationError, match="cannot resolve the model string"):
        Predict("q -> a", model="openai/x")(RunContext(), q="q")


@pytest.mark.parametrize(
    ("demos", "message"),
    [
        (5, "a list of examples, not 5"),
        ({"q": "x", "a": "y"}, "a list of examples, not {"),
        ([5], "examples, each with fields by name, not 5"),
        ([{"qq": "x"}], "examples with fields of the signature (q, a), not {'qq': 'x'}"),
        (
            [{"question": "x"}, {"questoin": "x", "answer": "y"}],
            "examples with fields of the signature: {'questoin': 'x', 'answer': 'y'} has "
            "'questoin', which is not one. Did you mean 'question'?",
        ),
    ],
)
def test_demonstrations_of_another_form_are_refused(demos, message):
    with pytest.raises(DefinitionError) as caught:
        Predict("question -> answer" if "question" in message else "q -> a", demos=demos)
    predict = Predict("question -> answer" if "question" in message else "q -> a")
    with pytest.raises(DefinitionError) as caught:
        predict.demos = demos
    assert message in caught.value.message
    assert predict.demos == []
    assert message in caught.value.message


def _set_first(demos, demo):
    demos[0] = demo


def _set_slice(demos, demo):
    demos[:1] = [demo]


def _add(demos, demo):
    demos += [demo]


@pytest.mark.parametrize(
    "add",
    [
        lambda demos, demo: demos.append(demo),
        lambda demos, demo: demos.extend(iter([demo])),
        lambda demos, demo: demos.insert(0, demo),
        _set_first,
        _set_slice,
        _add,
    ],
)
def test_what_is_added_to_the_demonstrations_is_checked_and_read(add):
    program = Predict("question -> count: int", demos=[{"question": "x", "count": 1}])
    with pytest.raises(DefinitionError, match=r"has 'questoin', which is not one\. Did you mean"):
        add(program.demos, {"questoin": "y", "count": 2})
    with pytest.raises(DefinitionError, match="each with fields by name, not 5"):
        add(program.demos, 5)
    assert program.demos == [{"question": "x", "count": 1}]
    add(program.demos, {"question": "y", "count": "2"})
    assert {"question": "y", "count": 2} in program.demos


def test_demonstrations_are_checked_by_the_signature_that_the_predictor_has_now():
    program = Predict("question -> answer", demos=[{"question": "x", "answer": "y"}])
    program = program.with_signature(Signature("question -> verdict"))
    with pytest.raises(DefinitionError, match="Did you mean 'verdict'"):
        program.demos.append({"question": "x", "verdit": "y"})
    program.demos.append({"question": "x", "verdict": "y"})


def test_demonstrations_are_copied_with_their_checks():
    program = Predict("question -> answer", demos=[{"question": "x", "answer": "y"}])
    for twin in (program.assign({}).demos, copy.copy(program.demos), copy.deepcopy(program.demos)):
        twin.append({"question": "z"})
        with pytest.raises(DefinitionError, match="Did you mean 'answer'"):
            twin.append({"question": "z", "anser": "y"})
    assert program.demos == [{"question": "x", "answer": "y"}]


@pytest.mark.parametrize(
    ("create", "message"),
    [
        (lambda: Predict("q -> a", repairs=-1), "repairs must be a whole number from 0, not -1"),
        (lambda: ReAct("q -> a", [], max_turns=0), "max_turns must be a whole number from 1"),
        (lambda: ReAct("q -> a", [], max_usd=-1), "`max_usd` of ReAct is a number above 0, not -1"),
        (lambda: ReAct("q -> a", 5), "tools are a list of functions and tools, not 5"),
        (lambda: simulated_agents(dict, failures=2), "`failures` is the probability .* not 2"),
        (lambda: recall_at(0), "at least 1, not 0"),
    ],
)
def test_numbers_out_of_range_are_refused_where_they_are_declared(create, message):
    with pytest.raises(DefinitionError, match=message):
        create()
