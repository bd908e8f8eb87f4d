"""Limits of teams hold in every runaway, and members inherit them."""

import asyncio
from typing import Any

import pytest

from dspex import Module, Predict, ReAct
from dspex.agents import Blackboard, Handoff, Map, Router, Sequence, Supervisor, TeamLimits
from dspex.errors import BudgetError, DeadlineError, DefinitionError, RepetitionError
from dspex.execution.backends import HybridBackend, IsolatedBackend
from dspex.execution.clients import Request, Response
from dspex.execution.context import RunContext
from dspex.language.records import ToolCall
from dspex.testing import ScriptedModel, tool_calls
from dspex.testing.backends import answering
from tests.execution.modules.agents.places import PLACES, opened, placed, run

ASK = "question -> answer"
ANSWER = "[[ ## answer ## ]]\n42"


def native(*replies: Any) -> ScriptedModel:
    return ScriptedModel(*replies, capabilities=["tools"])


def asking(member: str) -> Any:
    """Return a supervising model that asks a member again and again, each time something new."""
    numbers = iter(range(1000))

    def reply(request: Request) -> Any:
        if not request.tools:
            return ANSWER.replace("42", str(next(numbers)))
        return ToolCall("1", member, {"question": str(next(numbers))})

    return reply


def test_a_supervisor_that_never_ends_is_stopped_by_the_turns_of_its_team() -> None:
    model = native(asking("law"))
    team = Supervisor(ASK, {"law": "law"}, max_turns=1000, limits=TeamLimits(turns=5))
    with pytest.raises(BudgetError, match="its 5 turns") as failure:
        team(RunContext(model=model), question="?")
    assert failure.value.context["limit"] == "turns"
    assert sum(not request.tools for request in model.requests) == 5


def test_a_supervisor_that_repeats_a_call_is_told_once_and_then_stopped() -> None:
    again = ToolCall("1", "law", {"question": "?"})
    model = native(again, ANSWER, again, again, ToolCall("2", "finish", {"answer": "late"}))
    with pytest.raises(RepetitionError, match="'law' was called again with the same inputs"):
        Supervisor(ASK, {"law": "law"})(RunContext(model=model), question="?")
    assert len(model.requests) == 4
    assert "nothing has changed since" in model.requests[3].messages[-1].text

    model = native(again, ANSWER, again, ToolCall("2", "finish", {"forward": "law"}))
    assert Supervisor(ASK, {"law": "law"})(RunContext(model=model), question="?").answer == "42"


def test_a_tool_with_the_same_result_three_times_ends_the_run() -> None:
    def poll(name: str) -> str:
        """Look whether it is ready."""
        return f"{name} is not ready"

    agent = ReAct(ASK, [poll], max_turns=50)
    again = ToolCall("1", "poll", {"name": "a"})
    with pytest.raises(RepetitionError, match="'poll' was called 3 times"):
        Router(ASK, {"agent": agent})(RunContext(model=native(again)), question="?")
    model = native(again, again, again, again, ToolCall("2", "finish", {"answer": "no"}))
    assert agent(RunContext(model=model), question="?").answer == "no"  # alone it may poll


@PLACES
async def test_members_share_the_calls_of_the_team(place: str) -> None:
    async with opened(place) as backends:
        model = answering({"answer": "42"})
        members = {name: Predict(ASK) for name in ("a", "b", "c")}
        team = Sequence(ASK, members, limits=TeamLimits(calls=2))
        with pytest.raises(BudgetError) as failure:
            await run(placed(team, place), backends, RunContext(model=model), question="?")
        assert failure.value.context.get("limit", "calls") == "calls"
        assert len(model.requests) == 2


def test_members_share_tokens_and_dollars_of_the_team() -> None:
    for limits in (TeamLimits(tokens=2000), TeamLimits(usd=0.5)):
        model = ScriptedModel(ANSWER, cost_usd=0.2, name="openai/gpt-4o-mini")
        team = Sequence(ASK, [Predict(ASK, max_tokens=20) for _ in range(50)], limits=limits)
        with pytest.raises(BudgetError):
            team(RunContext(model=model), question="?")
        assert 0 < len(model.requests) < 50


class Endless(Module):
    signature = ASK

    async def forward(self, question: str) -> Any:
        await asyncio.Event().wait()


async def test_the_time_of_a_team_ends_its_members() -> None:
    team = Router(ASK, {"endless": Endless()}, limits=TeamLimits(seconds=0.05))
    with pytest.raises(BudgetError, match=r"its 0\.05 seconds") as failure:
        await team.acall(RunContext(), question="?")
    assert not isinstance(failure.value, DeadlineError)
    assert failure.value.context["limit"] == "seconds"


async def test_the_deadline_of_the_caller_is_not_a_limit_of_the_team() -> None:
    team = Router(ASK, {"endless": Endless()}, limits=TeamLimits(seconds=60))
    with pytest.raises(DeadlineError):
        await team.acall(RunContext().within(0.05), question="?")


def nested(number: int, **options: Any) -> Module:
    module: Module = Predict(ASK)
    for _ in range(number):
        module = Router(ASK, {"inner": module}, limits=TeamLimits(**options))
    return module


def test_teams_inside_teams_have_a_limit() -> None:
    context = RunContext(model=ScriptedModel(ANSWER))
    assert nested(3, depth=3)(context, question="?").answer == "42"
    with pytest.raises(BudgetError, match="more than 2 deep") as failure:
        nested(3, depth=2)(context, question="?")
    assert failure.value.context["limit"] == "depth"


def test_the_turns_of_an_inner_team_count_for_the_outer_one() -> None:
    inner = Sequence(ASK, {name: Predict(ASK) for name in "abcd"})
    outer = Sequence(ASK, {"first": inner, "second": inner}, limits=TeamLimits(turns=6))
    model = ScriptedModel(ANSWER)
    with pytest.raises(BudgetError, match="its 6 turns"):
        outer(RunContext(model=model), question="?")
    assert len(model.requests) == 4  # 1 + 4 turns; of the second half, only the call of the team


@pytest.mark.bridge
async def test_a_team_in_a_worker_inherits_turns_and_depth() -> None:
    inner = Sequence(ASK, {name: Predict(ASK) for name in "abcd"}).on("isolated")
    async with IsolatedBackend() as backend:
        for limits in (TeamLimits(turns=3), TeamLimits(depth=1)):
            outer = Router(ASK, {"inner": inner}, limits=limits)
            hybrid = HybridBackend({"isolated": backend})
            handle = await hybrid.create_program(outer.to_program("p"))
            model = answering({"answer": "42"})
            with pytest.raises(BudgetError, match=r"without an answer|deep"):
                await hybrid.execute_program(handle, {"question": "?"}, RunContext(model=model))
            assert len(model.requests) <= 2


@pytest.mark.bridge
async def test_the_turns_of_teams_in_workers_count_for_the_team_here() -> None:
    inner = Sequence(ASK, {name: Predict(ASK) for name in "abcd"})
    outer = Sequence(ASK, {"first": inner, "second": inner}, limits=TeamLimits(turns=6))
    async with opened("isolated") as backends:
        model = answering({"answer": "42"})
        with pytest.raises(BudgetError, match="its 6 turns") as failure:
            await run(placed(outer, "isolated"), backends, RunContext(model=model), question="?")
        assert failure.value.context["limit"] == "turns"
        assert len(model.requests) == 4  # 1 + 4 turns; of the second half, only the call of a team


def test_members_at_once_keep_to_the_turns() -> None:
    team = Map(
        "items: list[str] -> answer: list[str]",
        Predict("item -> answer"),
        over="items",
        limits=TeamLimits(turns=3),
    )
    model = ScriptedModel(ANSWER)
    with pytest.raises(BudgetError, match="its 3 turns"):
        team(RunContext(model=model), items=list("abcdef"))
    assert len(model.requests) <= 3


def test_members_that_change_the_board_forever_are_stopped() -> None:
    class Grow(Module):
        signature = "text: str -> longer: str"

        async def forward(self, text: str) -> dict[str, str]:
            return {"longer": text + "x"}

    class Back(Module):
        signature = "longer: str -> text: str"

        async def forward(self, longer: str) -> dict[str, str]:
            return {"text": longer}

    team = Blackboard(
        "text: str -> longer: str", {"grow": Grow(), "back": Back()}, limits=TeamLimits(turns=20)
    )
    with pytest.raises(BudgetError, match="its 20 turns"):
        team(RunContext(), text="")


def test_one_reply_with_many_calls_of_members_keeps_to_the_turns() -> None:
    many = tool_calls(*(ToolCall(str(n), "law", {"question": str(n)}) for n in range(20)))

    def reply(request: Request) -> Response | str:
        return many if request.tools else ANSWER

    model = native(reply)
    team = Supervisor(ASK, {"law": "law"}, limits=TeamLimits(turns=4))
    with pytest.raises(BudgetError):
        team(RunContext(model=model), question="?")
    assert sum(not request.tools for request in model.requests) <= 4


def test_limits_are_checked_and_stored() -> None:
    with pytest.raises(DefinitionError, match="'turns' of a team must be a whole number above 0"):
        TeamLimits(turns=0)
    with pytest.raises(DefinitionError, match="a team has no limit 'turn'"):
        TeamLimits.from_dict({"turn": 3})
    limits = TeamLimits(turns=None, usd=0.5)
    assert TeamLimits.from_dict(limits.to_dict()) == limits
    team = Handoff(ASK, {"law": "law"}, limits=limits)
    assert team.to_program("t").root.config["limits"] == {"depth": 5, "usd": 0.5}


@pytest.mark.parametrize("limits", [5, {"turns": 3}, "turns"])
def test_limits_of_another_type_are_refused_when_a_team_is_declared(limits: Any) -> None:
    with pytest.raises(DefinitionError, match=r"takes a TeamLimits, such as"):
        Router("question -> answer", {"a": "You answer."}, limits=limits)
