"""Tools that a person approves, in a script."""

import pytest

import dspex
from dspex.errors import ToolError, WaitingForAnswerError
from dspex.execution.modules.tool_data import code_of_tools, tool_config, tool_of
from dspex.testing import ScriptedModel

PAID: list[float] = []


def pay(amount: float) -> str:
    """Pay an amount."""
    PAID.append(amount)
    return "paid"


def is_large(_tool: str, arguments: dict[str, float]) -> bool:
    return arguments["amount"] > 10


def agent(**policy):
    PAID.clear()
    tool = dspex.Tool.from_function(pay, policy=dspex.ToolPolicy(**policy))
    return dspex.ReAct("order -> result", [tool])


def model():
    return ScriptedModel(
        "Action[pay](amount=5)",
        "Action[pay](amount=50)",
        "Action[finish]()",
        "[[ ## reasoning ## ]]\nso\n\n[[ ## result ## ]]\ndone",
    )


@pytest.mark.parametrize(("approval", "count"), [(True, 2), (is_large, 1)])
def test_a_person_approves_each_call_or_those_that_a_function_names(approval, count):
    module = agent(approval=approval)
    with dspex.context(model=model(), answer=[{"approved": True}] * count):
        assert module(order="7").result == "done"
    assert PAID == [5, 50]


def test_a_rejected_call_does_not_happen_and_the_reason_is_observed():
    module = agent(approval=is_large)
    with dspex.context(model=model(), answer=[{"approved": False, "reason": "no budget"}]):
        prediction = module(order="7")
    assert PAID == [5]
    steps = prediction.trajectory
    assert steps[1]["error"] == "pay: a person rejected this call: no budget"


def test_nobody_to_ask_is_an_error_that_ends_the_run():
    module = agent(approval=True)
    with dspex.context(model=model()), pytest.raises(WaitingForAnswerError) as caught:
        module(order="7")
    assert caught.value.question.kind == "approval"
    assert PAID == []


async def test_a_tool_outside_of_a_module_is_not_called_without_approval():
    tool = dspex.Tool.from_function(pay, policy=dspex.ToolPolicy(approval=True))
    PAID.clear()
    with pytest.raises(ToolError, match="a person has to approve this call"):
        await tool.run({"amount": 1})

    async def approve(tool, arguments):
        assert (tool.name, arguments) == ("pay", {"amount": 1.0})

    assert await tool.run({"amount": 1}, approve=approve) == "paid"
    assert PAID == [1]


@pytest.mark.parametrize("approval", [True, is_large])
def test_policies_are_stored_with_the_tool(approval):
    policy = dspex.ToolPolicy(approval=approval, approval_ttl=60, retries=1)
    tool = dspex.Tool.from_function(pay, policy=policy)
    module = dspex.ReAct("order -> result", [tool])
    root = module.to_program().root
    assert len([*code_of_tools(root)]) == (1 if approval is True else 2)
    config = tool_config(tool)
    assert config["approval_ttl"] == 60
    if approval is True:
        from pathlib import Path

        from dspex.execution.modules import CodeRoot

        code = CodeRoot(Path(__file__).parents[3])
        assert tool_of(config, {}, code).policy == policy
