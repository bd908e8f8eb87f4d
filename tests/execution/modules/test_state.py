import json
from typing import Literal

import pytest
from pydantic import BaseModel

import dspex
from dspex import Module, Predict
from dspex.errors import DefinitionError
from dspex.execution.clients import OpenAIModel
from dspex.execution.modules import ChainOfThought, load
from dspex.execution.modules.dspy_state import from_dspy_state, to_dspy_state

DSPY_LM = {
    "_dspy_lm_class": "dspy.clients.lm.LM",
    "model": "openai/gpt-4o-mini",
    "model_type": "chat",
    "cache": True,
    "num_retries": 3,
    "temperature": 0.3,
    "max_tokens": None,
    "launch_kwargs": {},
}


def dspy_part(*fields: tuple[str, str], instructions: str, demos=(), lm=None) -> dict:
    return {
        "traces": [],
        "train": [],
        "demos": list(demos),
        "signature": {
            "instructions": instructions,
            "fields": [{"prefix": prefix, "description": desc} for prefix, desc in fields],
        },
        "lm": lm,
    }


DSPY = {
    "cot.predict": dspy_part(
        ("Question:", "what is asked"), ("Reasoning:", "${reasoning}"), ("Answer:", "${answer}"),
        instructions="Be brief.", lm=DSPY_LM,
    ),
    "preds[0]": dspy_part(
        ("A Thing:", "${a_thing}"), ("Bee!", "${b}"), instructions="Given.",
        demos=[{"a_thing": "1", "b": "2", "augmented": True}],
    ),
    "d['k']": dspy_part(("X:", "${x}"), ("Y:", "${y}"), instructions="Go."),
    "metadata": {"dependency_versions": {"python": "3.11", "dspy": "3.4.1"}},
}  # fmt: skip


class Same(Module):
    def __init__(self):
        self.cot = ChainOfThought("question -> answer")
        self.preds = [Predict("a_thing -> b")]
        self.d = {"k": Predict("x -> y")}


def test_a_state_of_dspy_comes_in_and_goes_out_without_a_loss():
    module = Same()
    from_dspy_state(module, DSPY)
    assert module.cot.predict.signature.instructions == "Be brief."
    assert module.cot.predict.signature.fields["question"].desc == "what is asked"
    assert module.cot.predict.signature.fields["reasoning"].desc == ""
    assert (module.cot.predict.model, module.cot.predict.settings) == (
        "openai/gpt-4o-mini",
        {"temperature": 0.3},
    )
    assert module.preds[0].demos == [{"a_thing": "1", "b": "2", "augmented": True}]
    again = to_dspy_state(module)
    assert {k: v for k, v in again.items() if k != "metadata"} == {
        k: v for k, v in DSPY.items() if k != "metadata"
    }


def test_the_state_of_a_lone_predict_is_flat_both_ways():
    flat = {**DSPY["d['k']"], "metadata": DSPY["metadata"]}
    predict = Predict("x -> y")
    from_dspy_state(predict, flat)
    assert predict.signature.instructions == "Go."
    assert to_dspy_state(predict).items() >= DSPY["d['k']"].items()
    again = Predict("x -> y")
    from_dspy_state(again, {"self": DSPY["d['k']"]})  # as earlier versions of dspex wrote it
    assert to_dspy_state(again) == to_dspy_state(predict)


@pytest.mark.parametrize(
    ("broken", "problem"),
    [
        ({"signature": {"instructions": "new"}}, r"signature.fields is a list, not None"),
        ({"signature": None}, "signature is an object"),
        ({"signature": {"instructions": 3, "fields": []}}, "instructions is a text, not 3"),
        ({"demos": [1]}, r"demos\[0\] is an object, not 1"),
        ({"demos": "none"}, "demos is a list"),
        ({"lm": {"temperature": 1}}, "lm.model is a text, not None"),
        ({"lm": {"model": "m", "temperature": "hot"}}, "lm.temperature takes"),
        ({"lm": "m"}, "lm is an object"),
        (None, "is an object, not None"),
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(broken, problem):
    module = Same()
    before = to_dspy_state(module)
    part = None if broken is None else {**DSPY["d['k']"], **broken}
    with pytest.raises(DefinitionError, match=problem):
        from_dspy_state(module, {**DSPY, "d['k']": part})
    assert to_dspy_state(module) == before


def test_dspy_itself_takes_and_gives_the_states():
    dspy = pytest.importorskip("dspy")
    for theirs, module in (
        (dspy.Predict("x -> y"), Predict("x -> y")),
        (dspy.ChainOfThought("x -> y"), ChainOfThought("x -> y")),
    ):
        predictors = dict(theirs.named_predictors())
        path = next(iter(predictors))
        predictors[path].demos = [dspy.Example(x="1", y="2")]
        predictors[path].signature = predictors[path].signature.with_instructions("Think.")
        state = theirs.dump_state()
        from_dspy_state(module, state)
        fresh = type(theirs)("x -> y")
        fresh.load_state(
            {name: part for name, part in to_dspy_state(module).items() if name != "metadata"}
        )
        assert fresh.dump_state() == state


def test_a_key_never_goes_out():
    names = (
        "api_key",
        "extra_headers",
        "aws_secret_access_key",
        "azure_ad_token",
        "vertex_credentials",
    )
    lm = {**DSPY_LM, **dict.fromkeys(names, "sk-secret")}
    predict = Predict("x -> y")
    from_dspy_state(predict, {"self": dspy_part(("X:", ""), ("Y:", ""), instructions="i", lm=lm)})
    assert "sk-secret" not in json.dumps(to_dspy_state(predict))


def test_a_state_of_another_program_is_refused():
    with pytest.raises(DefinitionError, match="this module has self"):
        from_dspy_state(Predict("x -> y"), DSPY)
    with pytest.raises(DefinitionError, match="3 fields, but 2"):
        from_dspy_state(Predict("x -> y, z"), {"self": DSPY["d['k']"]})


class Person(BaseModel):
    name: str


class Who(dspex.Signature):
    """Find them."""

    text: str
    person: Person = dspex.Output(desc="who")
    kind: Literal["a", "b"] = dspex.Output()


def test_save_and_load_keep_everything_that_was_learned(tmp_path):
    path = tmp_path / "x.json"
    predict = Predict(
        Who,
        demos=[{"text": "t", "person": {"name": "Ada"}, "kind": "a"}],
        temperature=0.4,
        repairs=0,
    )
    predict.signature = predict.signature.with_instructions("Find them all.")
    predict.save(path)
    data = json.loads(path.read_text())
    assert (data["format"], data["dspex"]) == (1, dspex.__version__)
    fresh = Predict(Who)
    fresh.load(path)
    assert fresh.to_program().content_hash == predict.to_program().content_hash
    assert fresh.signature.validate_outputs({"person": {"name": "Ada"}, "kind": "a"})[
        "person"
    ] == Person(name="Ada")
    whole = load(path)
    assert whole.to_program().content_hash == predict.to_program().content_hash


def test_a_module_that_no_import_finds_is_saved_as_state_alone(tmp_path):
    class Local(Same):
        pass

    module = Local()
    module.cot.predict.demos = [{"question": "q", "reasoning": "r", "answer": "a"}]
    module.save(tmp_path / "x.json")
    fresh = Local()
    fresh.load(tmp_path / "x.json")
    assert fresh.cot.predict.demos == module.cot.predict.demos
    with pytest.raises(DefinitionError, match="create the module"):
        load(tmp_path / "x.json")


def test_no_secret_is_saved_and_a_model_object_stays(tmp_path):
    model = OpenAIModel("m", api_key="sk-secret", name="openai/m")
    Predict("x -> y", model=model).save(tmp_path / "x.json")
    assert "sk-secret" not in (tmp_path / "x.json").read_text()
    fresh = Predict("x -> y", model=model)
    fresh.load(tmp_path / "x.json")
    assert fresh.model is model


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot read"),
        ("[]", "holds neither a program nor a state"),
        (json.dumps({"metadata": {}}), "from_dspy_state"),
        (json.dumps({"format": 9, "parts": {}, "program": None}), "update dspex"),
        (
            json.dumps({"format": 1, "parts": {"cot.predict": {}}, "program": None}),
            "lacks: cot.predict",
        ),
    ],
)
def test_a_wrong_file_says_what_is_wrong(tmp_path, text, message):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(DefinitionError, match=message):
        Predict("x -> y").load(tmp_path / "x.json")
