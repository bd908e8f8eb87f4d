"""`pytest` runs these tests, `pytest --dspex-model NAME` also the one of quality."""

from pathlib import Path

import pytest
from program import agent, find_order, price

import dspex
from dspex.surfaces.pytest_plugin import Evaluation
from dspex.testing import ScriptedModel
from dspex.tools import ToolCall

ROWS = dspex.Dataset.from_file(Path(__file__).with_name("data.csv"))


def test_tools_know_the_orders() -> None:
    assert price(find_order("lamps")) == 30
    with pytest.raises(LookupError, match="nobody ordered 'bread'"):
        find_order("bread")


def test_agent_calls_a_tool_and_answers() -> None:
    model = ScriptedModel(
        ToolCall("1", "price", {"number": "A-17"}),
        ToolCall("2", "finish", {"euros": 4}),
        capabilities=["tools"],
    )
    with dspex.context(model=model):
        assert agent(question="What does A-17 cost?").euros == 4


def test_quality(dspex_eval: Evaluation, pytestconfig: pytest.Config) -> None:
    """Raise the limit when the agent gets better."""
    if pytestconfig.getoption("--dspex-model") is None:
        pytest.skip("no --dspex-model")
    dspex_eval(agent, ROWS.where(split="test"), must=["exact_match>=0"])
