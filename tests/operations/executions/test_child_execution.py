"""Stored programs as members: each call is an execution inside that of the team."""

import dataclasses
from typing import Any

import pytest

from dspex import Predict
from dspex.agents import Router, StoredProgram, Supervisor, TeamLimits
from dspex.bootstrap import open_services
from dspex.errors import ConfigurationError
from dspex.execution.context import RunContext
from dspex.execution.modules import build
from dspex.language.programs import Program
from dspex.operations.executions.actions import execute_program
from dspex.operations.executions.inputs import ExecuteProgram
from dspex.operations.executions.records import EXECUTION
from dspex.operations.framework.store import Query
from dspex.operations.programs.actions import create_program
from dspex.operations.programs.inputs import CreateProgram
from dspex.operations.programs.stored_programs import save_program
from dspex.settings import Settings
from dspex.testing import LoopbackServer, http_answer

ASK = "question -> answer"


def says(**fields: str) -> bytes:
    text = "\n\n".join(f"[[ ## {name} ## ]]\n{value}" for name, value in fields.items())
    return http_answer({"choices": [{"message": {"content": text}}]})


def specialist(name: str = "law") -> CreateProgram:
    return CreateProgram(name=name, signature=ASK, module="predict")


def team(**configuration: Any) -> CreateProgram:
    members = {"law": {"program": "law", "role": "Knows the law."}, "sums": "You know sums."}
    return CreateProgram(
        name="team",
        signature=ASK,
        module="router",
        configuration={"members": members, **configuration},
    )


async def test_a_stored_member_is_an_execution_inside_that_of_the_team(settings: Settings) -> None:
    replies = [says(member="law"), says(answer="legal")]
    async with LoopbackServer(*replies) as server:
        served = dataclasses.replace(settings, model=f"{server.url}/v1#m")
        async with open_services(served) as services:
            operations = services.operations
            await create_program(operations, specialist())
            await create_program(operations, team())
            request = ExecuteProgram(program="team", inputs={"question": "?"})
            execution = await execute_program(operations, request)
            assert (execution.status, execution.outputs) == ("completed", {"answer": "legal"})
            children = await operations.list(
                EXECUTION, Query(where={"parent_id": execution.id}, limit=5)
            )
            assert [child.outputs for child in children] == [{"answer": "legal"}]
            assert children[0].status == "completed"
            assert (children[0].usage or {})["calls"] == 1
            assert (execution.usage or {})["calls"] == 2  # the choice and that of the member
            spans = (execution.trace or {})["spans"]
            (span,) = (span for span in spans if span["kind"] == "program")
            assert span["attributes"]["execution_id"] == str(children[0].id)
            assert span["usage"]["calls"] == 1


async def test_what_a_stored_member_that_fails_has_used_counts_for_the_team(
    settings: Settings,
) -> None:
    calls = [{"id": "1", "function": {"name": "law", "arguments": '{"question": "?"}'}}]
    tool = http_answer({"choices": [{"message": {"content": "", "tool_calls": calls}}]})
    end = [{"id": "2", "function": {"name": "finish", "arguments": '{"answer": "alone"}'}}]
    final = http_answer({"choices": [{"message": {"content": "", "tool_calls": end}}]})
    wrong = [says(other="x"), says(other="x"), says(other="x")]
    async with LoopbackServer(tool, *wrong, final) as server:
        served = dataclasses.replace(settings, model=f"{server.url}/v1#m")
        async with open_services(served) as services:
            operations = services.operations
            await create_program(operations, specialist())
            module = Supervisor("question -> answer", {"law": StoredProgram("law", ASK)})
            await save_program(operations, module.to_program("team"))
            request = ExecuteProgram(program="team", inputs={"question": "?"})
            execution = await execute_program(operations, request)
            children = await operations.list(EXECUTION, Query(limit=5, where={"status": "failed"}))
            assert len(children) == 1
            assert (execution.usage or {})["calls"] == len(server.asked)


async def test_limits_of_the_team_hold_in_stored_members(settings: Settings) -> None:
    replies = [says(member="law"), says(answer="legal")]
    async with LoopbackServer(*replies) as server:
        served = dataclasses.replace(settings, model=f"{server.url}/v1#m")
        async with open_services(served) as services:
            operations = services.operations
            await create_program(operations, specialist())
            await create_program(operations, team(limits={"calls": 1}))
            request = ExecuteProgram(program="team", inputs={"question": "?"})
            execution = await execute_program(operations, request)
            assert (execution.error or {})["code"] == "budget"
            assert len(server.asked) == 1


async def test_programs_that_call_one_another_endlessly_are_stopped(settings: Settings) -> None:
    async with open_services(settings) as services:
        operations = services.operations
        module = Router(ASK, {"law": StoredProgram("law", ASK)}, limits=TeamLimits(depth=4))
        await save_program(operations, module.to_program("law"))
        request = ExecuteProgram(program="law", inputs={"question": "?"})
        execution = await execute_program(operations, request)
        assert (execution.error or {})["code"] == "budget"
        assert "deep" in (execution.error or {})["message"]


async def test_a_member_that_is_not_stored_is_named(settings: Settings) -> None:
    async with open_services(settings) as services:
        module = Router(ASK, {"law": StoredProgram("law", ASK)})
        await save_program(services.operations, module.to_program("team"))
        request = ExecuteProgram(program="team", inputs={"question": "?"})
        execution = await execute_program(services.operations, request)
        assert "there is no stored program 'law'" in (execution.error or {})["message"]


def test_a_stored_member_is_data_and_needs_a_store() -> None:
    program = Router(ASK, {"law": StoredProgram("law", ASK), "sums": Predict(ASK)}).to_program("t")
    module = build(Program.from_json(program.to_json()))
    assert module.to_program("t").content_hash == program.content_hash
    with pytest.raises(ConfigurationError, match="use `dspex run` or a server"):
        StoredProgram("law", ASK)(RunContext(), question="?")
