"""Outputs of type Cited: numbers become quotes that occur word for word."""

import json
from typing import Any

import pytest

from dspex.errors import AdapterError, DefinitionError
from dspex.execution.context import RunContext
from dspex.execution.modules import ChainOfThought, Predict, build
from dspex.language.programs import Program
from dspex.language.records import Passage, Trace
from dspex.language.signatures import Signature
from dspex.language.signatures.content import Cited, CitedSource, CitedStatement
from dspex.language.signatures.converter import TypeConverter
from dspex.testing import ScriptedModel

SIGNATURE = "passages: list[Passage], question -> answer: Cited"
TEXT = "Returns are simple. You can return a lamp within 30 days."
PASSAGES = [
    Passage(id="a#1", text=TEXT, document="lamps.md", version=3, start=100, end=100 + len(TEXT)),
    Passage(id="b#1", text="Sofas go back  within\na week.", metadata={"heading": "Sofas"}),
]


def reply(*sources: dict[str, Any], text: str = "Within 30 days.", adapter: str = "json") -> str:
    answer = {"statements": [{"text": text, "sources": list(sources)}]}
    if adapter == "chat":
        return f"[[ ## answer ## ]]\n{json.dumps(answer)}\n\n[[ ## completed ## ]]"
    if adapter == "xml":
        return f"<answer>{json.dumps(answer)}</answer>"
    return json.dumps({"answer": answer})


def ask(*replies: str, adapter: str = "json", **settings: Any) -> tuple[Cited, ScriptedModel]:
    model = ScriptedModel(*replies)
    predict = Predict(SIGNATURE, adapter=adapter, **settings)
    prediction = predict(RunContext(model=model), passages=PASSAGES, question="How long?")
    return prediction.answer, model


@pytest.mark.parametrize("adapter", ["chat", "json", "tools", "xml"])
def test_a_sentence_by_number_becomes_a_quote_with_its_place(adapter: str) -> None:
    cited, model = ask(reply({"passage": 1, "sentence": 2}, adapter=adapter), adapter=adapter)
    quote = "You can return a lamp within 30 days."
    assert cited == Cited(
        [
            CitedStatement(
                "Within 30 days.",
                [CitedSource(1, 2, quote, document="lamps.md", version=3, start=120, end=157)],
            )
        ]
    )
    assert str(cited) == f'Within 30 days. [1]\n[1] "{quote}" (lamps.md)'
    prompt = model.requests[0].messages[-1].content
    assert "[1] lamps.md\n1.1 Returns are simple.\n1.2 You can return" in prompt
    assert "[2] Sofas\n2.1 Sofas go back" in prompt


def test_the_schema_limits_the_numbers() -> None:
    model = ScriptedModel(reply({"passage": 1}), capabilities=frozenset({"response_schema"}))
    Predict(SIGNATURE, adapter="json")(
        RunContext(model=model), passages=PASSAGES, question="How long?"
    )
    schema = json.dumps(model.requests[0].response_schema)
    assert '"maximum": 2' in schema
    assert "document" not in schema


def test_a_passage_alone_is_quoted_whole() -> None:
    cited, _ = ask(reply({"passage": 1}))
    assert cited.sources[0].quote == TEXT


def test_a_quote_is_found_across_line_breaks_and_in_another_passage() -> None:
    cited, _ = ask(reply({"passage": 1, "quote": "back within a week"}))
    (source,) = cited.sources
    assert (source.passage, source.quote, source.start) == (2, "back  within\na week", None)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"passage": 1, "quote": "within 60 days"}, "does not occur word for word"),
        ({"passage": 2, "sentence": 2}, "passage 2 has 1 sentences"),
        ({"passage": 3}, "must be at most 2"),
    ],
)
def test_a_wrong_citation_is_asked_again_with_the_reason(
    source: dict[str, Any], message: str
) -> None:
    cited, model = ask(reply(source), reply({"passage": 1, "sentence": 2}))
    assert message in model.requests[1].messages[-1].content
    assert cited.sources[0].sentence == 2
    with pytest.raises(AdapterError, match=message.replace("(", r"\(")):
        ask(reply(source), repairs=0)


def test_without_passages_nothing_can_be_cited() -> None:
    model = ScriptedModel(reply(text="I do not know."))
    predict = Predict(SIGNATURE, adapter="json")
    prediction = predict(RunContext(model=model), passages=[], question="How long?")
    assert prediction.answer.sources == []
    assert "(none)" in model.requests[0].messages[-1].content


def test_demonstrations_show_what_a_model_writes() -> None:
    cited, _ = ask(reply({"passage": 1, "sentence": 2}))
    demo = {"passages": PASSAGES[:1], "question": "And lamps?", "answer": cited}
    _, model = ask(reply({"passage": 1}), demos=[demo])
    shown = model.requests[0].messages[2].content
    assert json.loads(shown)["answer"] == {
        "statements": [{"text": "Within 30 days.", "sources": [{"passage": 1, "sentence": 2}]}]
    }
    assert "1.2 You can return" in model.requests[0].messages[1].content


def test_an_output_that_cites_needs_passages() -> None:
    with pytest.raises(DefinitionError, match="add an input such as `passages: list"):
        Predict("question -> answer: Cited")


def test_a_stored_program_cites() -> None:
    program = ChainOfThought(SIGNATURE, adapter="json").to_program()
    module = build(Program.from_dict(program.to_dict()))
    text = json.dumps({"reasoning": "r", **json.loads(reply({"passage": 1, "sentence": 1}))})
    prediction = module(RunContext(model=ScriptedModel(text)), passages=PASSAGES, question="?")
    assert prediction.answer.sources[0].quote == "Returns are simple."


def test_passages_are_numbered_in_prompts_without_citations() -> None:
    model = ScriptedModel('{"answer": "x"}')
    predict = Predict("passages: list[Passage], question -> answer", adapter="json")
    predict(RunContext(model=model), passages=PASSAGES, question="?")
    assert f"[1] lamps.md\n{TEXT}\n\n[2] Sofas\nSofas go" in model.requests[0].messages[-1].content


def test_citations_have_a_form_in_every_notation() -> None:
    signature = Signature.of(SIGNATURE)
    schema = signature.to_json_schema()
    assert {"statements"} == set(schema["properties"]["answer"]["properties"])
    type_ = signature.fields["answer"].type
    assert TypeConverter.to_graphql(type_) == "JSON!"
    assert TypeConverter.from_python(TypeConverter.to_python(type_)) == type_
    cited, _ = ask(reply({"passage": 1, "sentence": 2}))
    dumped = signature.output_validator.dump({"answer": cited})
    assert signature.output_validator(dumped) == {"answer": cited}
    json.dumps(dumped)


def test_the_trace_has_the_citation() -> None:
    model = ScriptedModel(reply({"passage": 1, "sentence": 2}))
    context = RunContext(model=model, records_payloads=True)
    prediction = Predict(SIGNATURE, adapter="json")(context, passages=PASSAGES, question="?")
    trace = Trace.from_json(prediction.trace.to_json())
    (span,) = [span for span in trace.spans if span.kind == "model"]
    assert "1.2 You can return" in (span.inputs_ref or "")
