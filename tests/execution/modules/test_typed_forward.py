"""The inputs of a module: from the typed parameters of `forward`, and as editors see them."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

import dspex
from dspex.errors import DefinitionError, InputError, SignatureError
from dspex.execution.modules import CodeRoot
from dspex.testing import ScriptedModel


class Triage(dspex.Signature):
    """Route a message."""

    message: str = dspex.Input()
    team: Literal["cards", "account"] = dspex.Output()


@dataclass
class Call:
    """A call to make."""

    number: str
    minutes: int = 5


class Desk(dspex.Module):
    """Answer customers."""

    def __init__(self) -> None:
        self.triage = dspex.Predict(Triage)

    async def forward(self, message: str, urgent: bool = False) -> dspex.Prediction[Triage]:
        """Route a message, urgent ones first.

        Args:
            message: what the customer wrote
        """
        return await self.triage.acall(message=f"URGENT: {message}" if urgent else message)


class Planner(dspex.Module[Call]):
    """Plan calls."""

    def forward(self, message: str) -> Mapping[str, Any]:
        return {"number": message, "minutes": 3}


def test_typed_parameters_are_the_inputs_and_the_result_names_the_outputs() -> None:
    signature = Desk().contract()
    assert (signature.name, signature.instructions) == (
        "Desk",
        "Route a message, urgent ones first.",
    )
    assert str(signature).startswith(
        'Desk(message: str "what the customer wrote", urgent: bool = false'
        " -> team: Literal['cards', 'account'])"
    )


def test_the_outputs_may_be_named_by_the_base_class() -> None:
    signature = Planner().contract()
    assert signature.instructions == "Plan calls."
    assert list(signature.output_fields) == ["number", "minutes"]
    assert Planner()(message="5").outputs.number == "5"


def test_such_a_module_is_stored_built_and_run() -> None:
    model = ScriptedModel("[[ ## team ## ]]\ncards")
    stored = dspex.Program.from_json(Desk().to_program().to_json())
    with dspex.context(model=model):
        assert (
            dspex.build(stored, code=CodeRoot(Path()))(message="My card", urgent=True).team
            == "cards"
        )
    assert "URGENT: My card" in str(model.requests[0].messages)


def test_what_is_missing_is_said() -> None:
    class Untyped(dspex.Module):
        async def forward(self, message):
            return {}

    class Half(dspex.Module[Triage]):
        async def forward(self, message: str, urgent=False) -> dspex.Prediction:
            return dspex.Prediction()

    class NoOutputs(dspex.Module):
        async def forward(self, message: str) -> dspex.Prediction:
            return dspex.Prediction()

    with pytest.raises(DefinitionError, match=r"Untyped has no signature; .* or write types"):
        Untyped().contract()
    with pytest.raises(SignatureError, match="parameter 'urgent' has no annotation"):
        Half().contract()
    with pytest.raises(DefinitionError, match="NoOutputs does not say which outputs it has"):
        NoOutputs().contract()
    assert "inputs" in inspect.signature(Untyped()).parameters


def test_inspect_and_completion_see_the_inputs() -> None:
    call = inspect.signature(dspex.Predict("message, limit: int = 3 -> team"))
    assert str(call).startswith("(*, message: 'str', limit: 'int' = 3) -> ")
    assert list(inspect.signature(Desk()).parameters) == ["message", "urgent"]
    assert "signature" in inspect.signature(dspex.Predict).parameters


def test_a_program_keeps_the_signature_of_its_function() -> None:
    def plan(message: str, longest: int = 5) -> str:
        """Plan a call."""
        return message * longest

    program = dspex.program(plan)
    assert inspect.signature(program) == inspect.signature(plan)
    assert (program.__name__, program.__doc__) == ("plan", "Plan a call.")


def test_errors_and_spans_name_the_function_of_a_program():
    @dspex.program
    def shout(text: str, times: int = 2) -> str:
        return text.upper() * times

    assert repr(shout) == "<program shout text, times -> result>"
    assert [span.name for span in shout(text="a").trace.spans] == ["shout"]
    with pytest.raises(InputError, match="pass the inputs of shout by name"):
        shout("b")  # type: ignore[call-arg]
