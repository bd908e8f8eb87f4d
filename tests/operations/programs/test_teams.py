"""Teams over the API: created from text, executed, and refused with the place of the mistake."""

import dataclasses
import json
from typing import Any

import pytest

from dspex.bootstrap import open_services
from dspex.errors import InvalidError
from dspex.operations.executions.actions import execute_program
from dspex.operations.executions.inputs import ExecuteProgram
from dspex.operations.programs.actions import create_program
from dspex.operations.programs.inputs import CreateProgram
from dspex.settings import Settings
from dspex.testing import LoopbackServer, http_answer

ROLES = {"law": "You know the law.", "sums": "You know sums."}


def says(**fields: str) -> bytes:
    text = "\n\n".join(f"[[ ## {name} ## ]]\n{value}" for name, value in fields.items())
    return http_answer({"choices": [{"message": {"content": text}}]})


def calls(name: str, **arguments: str) -> bytes:
    function = {"name": name, "arguments": json.dumps(arguments)}
    tool_calls = [{"id": "1", "type": "function", "function": function}]
    return http_answer({"choices": [{"message": {"content": None, "tool_calls": tool_calls}}]})


def team(module: str, **configuration: Any) -> CreateProgram:
    return CreateProgram(
        name="team", signature="question -> answer", module=module, configuration=configuration
    )


@pytest.mark.parametrize(
    ("module", "members", "replies"),
    [
        ("router", ROLES, [says(member="sums"), says(answer="42")]),
        ("handoff", ROLES, [says(handoff="sums"), says(answer="42")]),
        (
            "handoff",
            {
                "desk": {"role": "You are the desk.", "strategy": "chain_of_thought"},
                "sums": {"role": "You know sums.", "signature": "question -> answer"},
            },
            [says(reasoning="so", handoff="sums"), says(answer="42")],
        ),
        ("map", ROLES, [says(answer="42"), says(answer="42")]),
        (
            "sequence",
            {"a": {"signature": "question -> draft"}, "b": {"signature": "draft -> answer"}},
            [says(draft="4"), says(answer="42")],
        ),
        (
            "blackboard",
            {"a": {"signature": "question -> draft"}, "b": {"signature": "draft -> answer"}},
            [says(draft="4"), says(answer="42")],
        ),
        (
            "supervisor",
            ROLES,
            [
                calls("sums", question="?"),
                says(answer="42"),
                calls("finish", forward="sums"),
            ],
        ),
    ],
)
async def test_a_team_is_created_and_runs(
    settings: Settings, module: str, members: dict[str, Any], replies: list[bytes]
) -> None:
    async with LoopbackServer(*replies) as server:
        served = dataclasses.replace(settings, model=f"{server.url}/v1#m")
        async with open_services(served) as services:
            await create_program(services.operations, team(module, members=members))
            request = ExecuteProgram(program="team", inputs={"question": "?"})
            execution = await execute_program(services.operations, request)
            assert execution.status == "completed", execution.error
            assert (execution.outputs or {})["answer"] == "42"


async def test_mistakes_are_refused_with_their_place(settings: Settings) -> None:
    async with open_services(settings) as services:
        for configuration, message in [
            ({}, "the setting `members` is an object"),
            ({"members": {"a": 3}}, "the member 'a' must be text or an object"),
            ({"members": {"a": {"rol": "x"}}}, "the member 'a' takes no 'rol'"),
            ({"members": ROLES, "limits": {"turn": 3}}, "a team has no limit 'turn'"),
            ({"members": ROLES, "attempts": 0}, "attempts must be a whole number from 1"),
            ({"members": ROLES, "until": "done"}, "a router takes no 'until'"),
            ({"members": {"a": {"strategy": "react"}}}, "the member 'a': .* needs `tools`"),
            ({"members": {"a": {"max_turns": 3}}}, "the member 'a': 'max_turns' is a setting of"),
            (
                {"members": {"a": {"model": "openia/gpt"}}},
                r"configuration\.members\.a\.model: unknown model .* Did you mean 'openai'",
            ),
        ]:
            with pytest.raises(InvalidError, match=message):
                await create_program(services.operations, team("router", **configuration))
