"""What dspy has no word for is refused by name, before a worker is asked."""

import tempfile

import pytest

from dspex import Predict, Signature
from dspex.errors import DefinitionError
from dspex.execution.backends.dspy_bridge import DspyBackend
from dspex.execution.backends.dspy_bridge.definitions import Functions, lowered
from dspex.language.programs import Node, Program


def test_a_bridge_that_is_never_entered_leaves_no_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    DspyBackend()
    assert list(tmp_path.iterdir()) == []


def test_checks_of_outputs_are_refused():
    signature = Signature("q -> a").with_field("a", check=is_short)
    with pytest.raises(DefinitionError, match="dspy keeps no checks of outputs, and a has one"):
        lowered(Predict(signature).to_program("p"), Functions({}))


def is_short(text: str) -> bool:
    return len(text) < 5


@pytest.mark.parametrize(
    "tool", [{"module": "riddler"}, {"target": "agents:lookup", "source_hash": "", "timeout": 2.0}]
)
def test_tools_that_are_modules_or_have_a_policy_are_refused(tool):
    signature = Signature("q -> a")
    node = Node(id="self", kind="react", signature=signature, config={"tools": [tool]})
    with pytest.raises(DefinitionError, match="dspy's tools know no"):
        lowered(Program(name="p", signature=signature, root=node), Functions({}))
