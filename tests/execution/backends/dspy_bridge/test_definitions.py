"""Definitions that dspy does not support raise an error before a worker is called."""

import tempfile

import pytest

from dspex import Predict, Signature
from dspex.errors import DefinitionError
from dspex.execution.backends.dspy_bridge import DspyBackend
from dspex.execution.backends.dspy_bridge.contracts import contract_of
from dspex.execution.backends.dspy_bridge.definitions import lower
from dspex.execution.backends.dspy_bridge.functions import Functions
from dspex.language.programs import Node, Program
from dspex.surfaces.cli.values import parse_inputs


def test_a_bridge_that_is_never_entered_leaves_no_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    DspyBackend()
    assert list(tmp_path.iterdir()) == []


def test_checks_of_outputs_are_refused():
    signature = Signature("q -> a").with_field("a", check=is_short)
    with pytest.raises(
        DefinitionError, match="dspy does not support checks of outputs, and a has one"
    ):
        lower(Predict(signature).to_program("p"), Functions({}))


def is_short(text: str) -> bool:
    return len(text) < 5


@pytest.mark.parametrize("tool", [{"module": "riddler"}, {"target": "a:b", "init": {"n": 1}}])
def test_tools_that_are_modules_are_refused(tool):
    signature = Signature("q -> a")
    node = Node(id="self", kind="react", signature=signature, config={"tools": [tool]})
    with pytest.raises(DefinitionError, match="dspy's tools are not modules"):
        lower(Program(name="p", signature=signature, root=node), Functions({}))


def described(inputs, outputs, guess=""):
    contract = {
        "inputs": [
            {"role": "input", "desc": "", "schema": {}, "typed": False, **item} for item in inputs
        ],
        "outputs": [{"role": "output", "desc": "", "schema": {}, "name": name} for name in outputs],
        "guess": guess,
    }
    return {"contract": contract, "predictors": {}}


def test_an_input_without_an_annotation_takes_any_value_and_a_text_stays_one():
    text = {"name": "notes", "schema": {"type": "string"}}
    number = {"name": "k", "default": 3}
    typed = {"name": "limit", "schema": {"type": "integer"}, "typed": True, "default": "many"}
    signature, source = contract_of(
        described([text, number, typed], ["answer", "notes", "merge"]), "m:P"
    )
    assert source == "code"
    assert list(signature.output_fields) == ["answer"]
    assert signature.validate_inputs({"notes": "2024"}) == {
        "notes": "2024",
        "k": 3,
        "limit": "many",
    }
    assert signature.validate_inputs({"notes": ["a", 1], "k": "5"})["notes"] == ["a", 1]
    assert parse_inputs(["notes=2024", "k=5", "limit=x"], signature) == {
        "notes": "2024",
        "k": 5,
        "limit": "x",
    }
    assert parse_inputs(['notes=["a"]'], signature) == {"notes": ["a"]}


def test_a_contract_that_cannot_be_read_says_how_to_pass_one():
    with pytest.raises(
        DefinitionError, match=r"outputs of m:P \(line 3 returns it\).*--signature 'q -> answer'"
    ):
        contract_of(described([{"name": "q"}], [], "line 3 returns it"), "m:P")
    signature, source = contract_of(described([{"name": "q"}], ["a"], "why"), "m:P")
    assert source == "guess"
    assert not signature.output_fields["a"].is_required
