"""Agents over the API: they use tools that the operator has registered, and no others."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from dspex.bootstrap import open_services
from dspex.errors import DspexError, InvalidError
from dspex.execution.modules import CodeRoot
from dspex.operations.domain import DOMAIN
from dspex.operations.executions.actions import execute_program
from dspex.operations.executions.inputs import ExecuteProgram
from dspex.operations.framework.store import Query
from dspex.operations.programs.actions import create_program
from dspex.operations.programs.inputs import CreateProgram
from dspex.settings import Settings
from dspex.testing import LoopbackServer, http_answer

CODE = '''
"""Tools of a support team."""

import dspex


def lookup(city: str) -> str:
    """Look up the weather of a city."""
    return f"{city}: 21 degrees"


def is_large(tool: str, arguments: dict) -> bool:
    return arguments["amount"] > 10


def pay(amount: float) -> str:
    """Pay an amount."""
    return f"paid {amount:g}"


policy = dspex.ToolPolicy(approval=is_large, approval_ttl=3600)
refund = dspex.Tool.from_function(pay, description="Pay money back.", policy=policy)
asking = dspex.Tool.from_function(pay, policy=dspex.ToolPolicy(approval=lambda tool, call: True))
'''


@pytest.fixture
def code(tmp_path: Path) -> Any:
    (tmp_path / "support_tools.py").write_text(CODE)
    yield CodeRoot(tmp_path)
    sys.modules.pop("support_tools", None)
    if str(tmp_path) in sys.path:
        sys.path.remove(str(tmp_path))


def call(name: str, arguments: dict[str, Any]) -> bytes:
    """Return the answer of a model server that calls one tool."""
    function = {"name": name, "arguments": json.dumps(arguments)}
    calls = [{"id": "1", "type": "function", "function": function}]
    return http_answer({"choices": [{"message": {"content": None, "tool_calls": calls}}]})


def agent(tools: object, **configuration: Any) -> CreateProgram:
    return CreateProgram(
        name="agent",
        signature="question -> degrees: int",
        module="react",
        configuration={"tools": tools, **configuration},
    )


async def test_an_agent_of_registered_tools_is_created_and_runs(
    settings: Settings, code: CodeRoot
) -> None:
    registered = dataclasses.replace(settings, tools={"weather": "support_tools:lookup"})
    turns = [call("weather", {"city": "Paris"}), call("finish", {"degrees": 21})]
    async with (
        LoopbackServer(*turns) as server,
        open_services(registered, code=code) as services,
    ):
        operations = services.operations
        model = f"{server.url}/v1#m"
        program = await create_program(operations, agent(["weather"], max_turns=2, model=model))
        assert program.configuration["max_turns"] == 2
        [tool] = program.configuration["tools"]
        assert (tool["name"], tool["target"]) == ("weather", "support_tools:lookup")
        execution = await execute_program(
            operations, ExecuteProgram(program="agent", inputs={"question": "?"})
        )
        assert execution.status == "completed", execution.error
        assert execution.outputs is not None
        assert execution.outputs["degrees"] == 21
        assert b"Paris: 21 degrees" in server.asked[1].body


async def test_supervisors_and_members_use_registered_tools(
    settings: Settings, code: CodeRoot
) -> None:
    registered = dataclasses.replace(settings, tools={"weather": "support_tools:lookup"})
    turns = [
        call("weather", {"city": "Paris"}),
        call("expert", {"question": "?"}),
        call("weather", {"city": "Rome"}),
        call("finish", {"degrees": 7}),
        call("finish", {"forward": "expert"}),
    ]
    async with (
        LoopbackServer(*turns) as server,
        open_services(registered, code=code) as services,
    ):
        model = f"{server.url}/v1#m"
        expert = {"role": "You know.", "tools": ["weather"], "max_turns": 2, "model": model}
        team = agent(["weather"], members={"expert": expert}, model=model)
        await create_program(services.operations, dataclasses.replace(team, module="supervisor"))
        execution = await execute_program(
            services.operations, ExecuteProgram(program="agent", inputs={"question": "?"})
        )
        assert (execution.outputs or {}).get("degrees") == 7, execution.error
        assert b"Paris: 21 degrees" in server.asked[1].body
        assert b"Rome: 21 degrees" in server.asked[3].body
        bad = {"expert": {"role": "You know.", "tools": ["wether"]}}
        with pytest.raises(InvalidError, match="Did you mean 'weather'") as raised:
            await create_program(
                services.operations,
                dataclasses.replace(agent(["weather"], members=bad), name="b", module="supervisor"),
            )
        [problem] = raised.value.fields
        assert problem.path == "configuration.members.expert.tools[0]"


async def test_a_registered_tool_keeps_its_policy_and_a_person_approves_its_calls(
    settings: Settings, code: CodeRoot
) -> None:
    registered = dataclasses.replace(settings, tools={"repay": "support_tools:refund"})
    turns = [call("repay", {"amount": 5}), call("repay", {"amount": 80})]
    async with (
        LoopbackServer(*turns) as server,
        open_services(registered, code=code) as services,
    ):
        operations = services.operations
        program = await create_program(operations, agent(["repay"], model=f"{server.url}/v1#m"))
        [tool] = program.configuration["tools"]
        assert (tool["name"], tool["description"]) == ("repay", "Pay money back.")
        assert tool["target"] == "support_tools:pay"
        assert (tool["approval"]["target"], tool["approval_ttl"]) == (
            "support_tools:is_large",
            3600,
        )
        execution = await execute_program(
            operations, ExecuteProgram(program="agent", inputs={"question": "?"})
        )
        assert execution.status == "waiting", execution.error
        [question] = await operations.list(DOMAIN["question"], Query())
        assert (question.kind, question.expires_at is None) == ("approval", False)
        assert question.inputs == {"tool": "repay", "arguments": {"amount": 80.0}}
        assert b"paid 5" in server.asked[1].body


async def test_a_registered_tool_whose_policy_cannot_be_stored_is_refused(
    settings: Settings, code: CodeRoot
) -> None:
    registered = dataclasses.replace(settings, tools={"repay": "support_tools:asking"})
    async with open_services(registered, code=code) as services:
        with pytest.raises(DspexError, match="the approval of the tool 'repay'"):
            await create_program(services.operations, agent(["repay"]))


async def test_agents_in_a_handoff_hand_over(settings: Settings, code: CodeRoot) -> None:
    registered = dataclasses.replace(settings, tools={"weather": "support_tools:lookup"})
    turns = [
        call("weather", {"city": "Paris"}),
        call("finish", {"handoff": "expert"}),
        call("finish", {"degrees": 7}),
    ]
    async with (
        LoopbackServer(*turns) as server,
        open_services(registered, code=code) as services,
    ):
        model = f"{server.url}/v1#m"
        members = {
            "desk": {"role": "You are the desk.", "tools": ["weather"], "model": model},
            "expert": {"role": "You know.", "tools": ["weather"], "model": model},
        }
        team = dataclasses.replace(
            agent(None), module="handoff", configuration={"members": members}
        )
        await create_program(services.operations, team)
        execution = await execute_program(
            services.operations, ExecuteProgram(program="agent", inputs={"question": "?"})
        )
        assert (execution.outputs or {}).get("degrees") == 7, execution.error
        assert b"You know." in server.asked[0].body  # the desk reads what its colleague is for


@pytest.mark.parametrize(
    ("tools", "path", "message"),
    [
        (["wether"], "configuration.tools[0]", "Did you mean 'weather'"),
        (["os:system"], "configuration.tools[0]", "there is no tool 'os:system'"),
        ([], "configuration.tools", "registered are: weather"),
        (None, "configuration.tools", "registered are: weather"),
        ([3], "configuration.tools[0]", "there is no tool 3"),
    ],
)
async def test_other_tools_are_refused_with_the_names_of_the_registered_ones(
    settings: Settings, code: CodeRoot, tools: object, path: str, message: str
) -> None:
    registered = dataclasses.replace(settings, tools={"weather": "support_tools:lookup"})
    async with open_services(registered, code=code) as services:
        with pytest.raises(InvalidError, match=message) as raised:
            await create_program(services.operations, agent(tools))
        assert [error.path for error in raised.value.fields] == [path]


async def test_without_registered_tools_the_error_says_how_to_register_one(
    settings: Settings,
) -> None:
    async with open_services(settings) as services:
        with pytest.raises(InvalidError, match=r"\[tools\] in dspex.toml"):
            await create_program(services.operations, agent(["weather"]))
