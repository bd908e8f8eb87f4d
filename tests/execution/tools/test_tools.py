import asyncio
import threading
from typing import Any

import pytest

from dspex import Module, Predict
from dspex.errors import DefinitionError, SignatureError, ToolError
from dspex.execution.clients import ToolSpec
from dspex.execution.context import RunContext, use_context
from dspex.execution.tools import Tool, ToolPolicy, ToolSet
from dspex.testing import FakeClock, ScriptedModel


def add(a: int, b: int = 1) -> int:
    """Add two numbers."""
    return a + b


async def shout(text: str) -> str:
    """Make it loud."""
    return text.upper()


def test_a_typed_function_is_a_tool_with_a_schema():
    spec = Tool.from_function(add).spec()
    assert isinstance(spec, ToolSpec)
    assert (spec.name, spec.description) == ("add", "Add two numbers.")
    assert spec.parameters["required"] == ["a"]
    assert spec.parameters["properties"]["a"]["type"] == "integer"


def test_sync_and_async_functions_are_called_with_validated_arguments(go):
    tools = ToolSet([add, shout])

    async def main():
        return await tools.run("add", {"a": "41"}), await tools.run("shout", {"text": "hi"})

    assert go(main()) == (42, "HI")


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("add", {"a": "many"}, "a: must be int"),
        ("add", {"c": 1}, "unknown"),
        ("ad", {}, "Did you mean 'add'"),
    ],
)
def test_invalid_calls_are_tool_errors_with_a_reason(go, name, arguments, message):
    with pytest.raises(ToolError, match=message):
        go(ToolSet([add]).run(name, arguments))


def test_an_exception_of_a_tool_becomes_a_tool_error_with_its_cause(go):
    def broken() -> str:
        raise LookupError("nothing there")

    with pytest.raises(ToolError, match="LookupError: nothing there") as caught:
        go(Tool.from_function(broken).run({}))
    assert isinstance(caught.value.__cause__, LookupError)


def test_a_timeout_ends_an_attempt(go):
    stopped = threading.Event()

    async def hangs() -> str:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()
        return ""

    with pytest.raises(ToolError, match=r"within 0\.01 s"):
        go(Tool.from_function(hangs, policy=ToolPolicy(timeout=0.01)).run({}))
    assert stopped.is_set()


def test_failures_are_retried_as_often_as_the_policy_allows(go):
    calls = []

    def flaky() -> str:
        calls.append(1)
        if len(calls) < 3:
            raise OSError("again")
        return "done"

    clock = FakeClock(jumps=True)
    tool = Tool(
        name="flaky", description="", signature=Tool.from_function(flaky).signature, call=flaky,
        policy=ToolPolicy(retries=2), clock=clock,
    )  # fmt: skip
    assert go(tool.run({})) == "done"
    assert len(clock.slept) == 2


@pytest.mark.parametrize("is_async", [False, True])
def test_permission_is_asked_for_each_call(go, is_async):
    questions = []

    def permit(name, arguments):
        questions.append((name, arguments))
        return arguments["a"] < 10

    async def permit_later(name, arguments):
        return permit(name, arguments)

    tools = ToolSet(
        [add], policies={"add": ToolPolicy(permit=permit_later if is_async else permit)}
    )
    assert go(tools.run("add", {"a": 1})) == 2
    with pytest.raises(ToolError, match="not permitted"):
        go(tools.run("add", {"a": 10}))
    assert questions == [("add", {"a": 1, "b": 1}), ("add", {"a": 10, "b": 1})]


def test_a_module_is_a_tool_and_its_usage_and_trace_nest(go):
    class Outer(Module):
        def __init__(self, tool):
            self.tool = tool

        async def forward(self):
            return {"answer": await self.tool.run({"question": "why?"})}

    tool = Tool.from_module(Predict("question -> answer"), name="ask")
    model = ScriptedModel("[[ ## answer ## ]]\nbecause")
    prediction = go(Outer(tool).acall(RunContext(model=model)))
    assert prediction.answer == "because"
    assert prediction.usage.calls == 1
    assert [span.kind for span in prediction.trace.spans] == ["model", "module", "module"]


def test_mistakes_in_a_tool_set_raise_at_once():
    with pytest.raises(DefinitionError, match="two tools are named 'add'"):
        ToolSet([add, add])
    with pytest.raises(DefinitionError, match="Did you mean 'add'"):
        ToolSet([add], policies={"ad": ToolPolicy()})

    def untyped(a):
        return a

    with pytest.raises(SignatureError, match="has no type"):
        ToolSet([untyped])


def test_cancelling_a_tool_is_not_a_tool_error(go):
    async def main():
        started = asyncio.Event()

        async def hangs() -> str:
            started.set()
            await asyncio.Event().wait()
            return ""

        with use_context(RunContext()):
            task = asyncio.create_task(
                Tool.from_function(hangs, policy=ToolPolicy(retries=3)).run({})
            )
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    go(main())


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ({"approval": "needs_person"}, "`approval` of ToolPolicy takes True, False or a function"),
        ({"approval": None}, "`approval` of ToolPolicy takes"),
        ({"approval_ttl": 0}, "`approval_ttl` of ToolPolicy takes a number of seconds above 0"),
        ({"timeout": 0}, "`timeout` of ToolPolicy takes a number of seconds above 0, not 0"),
        ({"timeout": "5"}, "`timeout` of ToolPolicy takes a number of seconds above 0, not '5'"),
        ({"retries": -1}, "`retries` of ToolPolicy takes a whole number from 0, not -1"),
        ({"permit": True}, "`permit` of ToolPolicy takes a function"),
    ],
)
def test_a_wrong_policy_is_refused_when_it_is_declared(policy: Any, message: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        ToolPolicy(**policy)
    assert message in caught.value.message
