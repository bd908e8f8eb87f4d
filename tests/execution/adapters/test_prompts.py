"""The prompts of one program, byte for byte: a change of them is seen.

And is the same on every machine and run.

After a deliberate change, run with WRITE_PROMPTS=1 and read the difference.
"""

import os
from pathlib import Path
from typing import Literal

import msgspec
import pytest
from pydantic import BaseModel

import dspex
from dspex import Output, Predict, ReAct, Signature
from dspex.execution.context import RunContext
from dspex.language.records import ToolCall
from dspex.testing import ScriptedModel

FOLDER = Path(__file__).parent / "prompts"


class Person(BaseModel):
    name: str
    age: int | None = None


class Card(Signature):
    """Read the card."""

    card: str
    hints: list[str] = dspex.Input(default=[])
    people: dict[str, Person] = Output(desc="by role")
    mood: Literal["glad", "sad"] = Output()
    score: float = Output(ge=0, le=1)
    note: str | None = Output(alias="remark")


DEMOS = [
    {
        "card": "one",
        "hints": ["a"],
        "people": {"host": {"name": "Ada", "age": 36}},
        "mood": "glad",
        "score": 0.5,
        "note": "x",
    },
    {"card": "two", "mood": "sad"},
]


def lookup(city: str, days: int = 1) -> str:
    """Look up the weather of a city."""
    return f"{city}: 21 degrees in {days}"


def predicted(adapter: str) -> ScriptedModel:
    model = ScriptedModel(
        '{"people": {}, "mood": "sad", "score": 0}', capabilities=["tools", "response_schema"]
    )
    if adapter == "chat":
        model = ScriptedModel(
            "[[ ## people ## ]]\n{}\n[[ ## mood ## ]]\nsad\n[[ ## score ## ]]\n2",
            "[[ ## people ## ]]\n{}\n[[ ## mood ## ]]\nsad\n[[ ## score ## ]]\n1",
        )
    Predict(Card, demos=DEMOS, adapter=adapter)(
        RunContext(model=model), card='Ada "L"\nü', hints=["p", "q"]
    )
    return model


def agent() -> ScriptedModel:
    calls = ToolCall("1", "lookup", {"city": "Paris"}), ToolCall("2", "finish", {"degrees": 21})
    model = ScriptedModel(*calls, capabilities=["tools"])
    program = ReAct("question -> degrees: int", [lookup])
    program.extract.predict.demos = [{"question": "Oslo?", "reasoning": "cold", "degrees": 3}]
    program(RunContext(model=model), question="Paris?")
    return model


@pytest.mark.parametrize("name", ["chat", "json", "tools", "xml", "agent"])
def test_prompts_are_unchanged(name):
    model = agent() if name == "agent" else predicted(name)
    result = msgspec.json.format(msgspec.json.encode(model.requests), indent=1) + b"\n"
    file = FOLDER / f"{name}.json"
    if os.environ.get("WRITE_PROMPTS"):
        file.write_bytes(result)
    assert result == file.read_bytes()
