"""What goes wrong in other frameworks: handoffs in odd replies, cycles, cancellation, crashes."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from dspex import Predict, ReAct
from dspex.agents import Handoff, Supervisor, TeamLimits, with_handoff
from dspex.errors import (
    BudgetError,
    CheckError,
    DspexError,
    ExecutionError,
    ModelUnavailableError,
    RepetitionError,
    WorkerLostError,
)
from dspex.execution.clients.cassette import Recording
from dspex.execution.context import Cancellation, RunContext
from dspex.language.records import ToolCall
from dspex.language.signatures import Signature
from dspex.testing import AgentTurn, ScriptedModel, by_role, simulated_agents, tool_calls
from tests.execution.modules.agents.places import (
    ELSEWHERE,
    PLACES,
    kill_workers,
    opened,
    placed,
    run,
)

ASK = "question -> answer"
DESK, LAW, SUMS = "You are the desk.", "You know the law.", "You know sums."
FREE = "question -> handoff: str?, answer: str?"  # any text as the name of a member


def free(role: str) -> Predict[Any]:
    return Predict(Signature(FREE, role))


def team(**options: Any) -> Handoff:
    return Handoff(ASK, {"desk": free(DESK), "law": free(LAW), "sums": free(SUMS)}, **options)


def moves(**targets: str) -> Any:
    """Return a model whose members hand over to these targets, or answer with their role."""
    roles = {"desk": DESK, "law": LAW, "sums": SUMS}

    def solve(turn: AgentTurn) -> Any:
        name = next(name for name, role in roles.items() if role in turn.text)
        target = targets.get(name)
        return {"handoff": target, "answer": None if target else name}

    return simulated_agents(solve)


@PLACES
async def test_a_handoff_reaches_a_member_anywhere(place: str) -> None:
    async with opened(place) as backends:
        context = RunContext(model=ScriptedModel(moves(desk="sums")))
        prediction = await run(placed(team(), place), backends, context, question="?")
        assert prediction.answer == "sums"
        assert prediction.trace.spans[-1].attributes["route"] == ["desk", "sums"]
        assert prediction.usage.calls == 2


@PLACES
async def test_a_handoff_to_oneself_is_refused_with_the_reason_and_then_an_error(
    place: str,
) -> None:
    async with opened(place) as backends:
        model = ScriptedModel(moves(desk="desk"))
        with pytest.raises(CheckError, match="'desk' handed over to itself; it can hand over to"):
            await run(placed(team(), place), backends, RunContext(model=model), question="?")
        assert len(model.requests) == 2
        assert "handed over to itself" in model.requests[1].messages[-1].text


@PLACES
async def test_a_handoff_to_two_members_at_once_reaches_neither(place: str) -> None:
    async with opened(place) as backends:
        model = ScriptedModel(moves(desk="law, sums"))
        with pytest.raises(CheckError, match="'law, sums', which is not a member"):
            await run(placed(team(), place), backends, RunContext(model=model), question="?")
        assert all(DESK in request.messages[0].text for request in model.requests)


@PLACES
async def test_a_cycle_of_handoffs_is_a_typed_outcome(place: str) -> None:
    async with opened(place) as backends:
        model = ScriptedModel(moves(desk="law", law="desk"))
        with pytest.raises(RepetitionError, match="nothing has changed since") as failure:
            await run(placed(team(), place), backends, RunContext(model=model), question="?")
        assert failure.value.context["member"] in {"desk", "law"}
        assert len(model.requests) == 3


@PLACES
async def test_a_cycle_whose_answers_differ_ends_at_the_limit(place: str) -> None:
    async with opened(place) as backends:
        limits = TeamLimits(turns=7)
        numbers = iter(range(100))

        def solve(turn: AgentTurn) -> Any:
            target = "law" if DESK in turn.text else "desk"
            return {"handoff": target, "answer": f"draft {next(numbers)}"}

        model = ScriptedModel(simulated_agents(solve))
        with pytest.raises(BudgetError, match="its 7 turns") as failure:
            await run(
                placed(team(limits=limits), place), backends, RunContext(model=model), question="?"
            )
        assert failure.value.context["limit"] == "turns"
        assert len(model.requests) == 7


@PLACES
async def test_cancelling_between_two_members_ends_the_run_and_asks_nobody_again(
    place: str,
) -> None:
    async with opened(place) as backends:
        cancellation = Cancellation()
        answer = moves(desk="sums")

        def reply(request: Any) -> Any:
            if SUMS in request.messages[0].text:
                cancellation.cancel()
            return answer(request)

        model = ScriptedModel(reply)
        context = RunContext(model=model).cancelled_by(cancellation)
        with pytest.raises(asyncio.CancelledError):
            await run(placed(team(), place), backends, context, question="?")
        assert len(model.requests) == 2
        again = RunContext(model=ScriptedModel(moves(desk="sums")))
        prediction = await run(placed(team(), place), backends, again, question="?")
        assert prediction.answer == "sums"  # the workers are still good


@ELSEWHERE
async def test_a_worker_that_is_killed_in_mid_handoff_ends_the_run_and_the_next_one_replays(
    place: str, tmp_path: Path
) -> None:
    async with opened(place) as backends:
        answer = moves(desk="sums")
        asked: list[str] = []

        def reply(request: Any) -> Any:
            asked.append(request.messages[0].text)
            if SUMS in asked[-1] and len(asked) == 2:
                for backend in backends.values():
                    kill_workers(backend)
            return answer(request)

        model = Recording(ScriptedModel(reply), tmp_path / "replies.jsonl")
        with pytest.raises(WorkerLostError) as failure:
            await run(placed(team(), place), backends, RunContext(model=model), question="?")
        assert failure.value.code == "worker_lost"
        model = Recording(ScriptedModel(reply), tmp_path / "replies.jsonl")
        prediction = await run(
            placed(team(), place), backends, RunContext(model=model), question="?"
        )
        assert prediction.answer == "sums"
        assert [DESK in text for text in asked].count(True) == 1
        assert len(asked) <= 3


@PLACES
async def test_after_a_crash_the_answered_calls_are_replayed(place: str, tmp_path: Path) -> None:
    async with opened(place) as backends:
        answer = moves(desk="law", law="sums")
        asked: list[str] = []

        def crashing(request: Any) -> Any:
            asked.append(request.messages[0].text)
            if SUMS in asked[-1] and len(asked) == 3:
                return ModelUnavailableError("the process is killed here")
            return answer(request)

        for number in range(2):
            model = Recording(ScriptedModel(crashing), tmp_path / "replies.jsonl")
            work = run(placed(team(), place), backends, RunContext(model=model), question="?")
            if number:
                assert (await work).answer == "sums"
            else:
                with pytest.raises(DspexError):
                    await work
        assert [DESK in text for text in asked] == [True, False, False, False]
        assert [SUMS in text for text in asked] == [False, False, True, True]


def lookup(file: str) -> str:
    """Look up a customer."""
    Path(file).touch()
    return "known"


def looking_up(*replies: Any, place: str = "native") -> tuple[ScriptedModel, Handoff]:
    """Return a team whose first member is an agent with a tool; dspy's agents read text."""
    agent = ReAct(with_handoff(ASK, "law", "sums"), [lookup])
    members = {"agent": agent, "law": Predict(Signature(ASK, LAW)), "sums": Predict(ASK)}
    capabilities: list[Any] = [] if place == "dspy" else ["tools"]
    return ScriptedModel(*replies, capabilities=capabilities), Handoff(ASK, members)


def finish(number: int, **outputs: Any) -> ToolCall:
    return ToolCall(str(number), "finish", outputs)


def turn(*calls: tuple[str, str]) -> str:
    """Return one reply in dspy's form that names several tools."""
    fields = [
        f"[[ ## next_tool_name ## ]]\n{name}\n\n[[ ## next_tool_args ## ]]\n{arguments}"
        for name, arguments in calls
    ]
    return "\n\n".join(["[[ ## next_thought ## ]]\nt", *fields])


ENDS = "[[ ## reasoning ## ]]\nso\n\n[[ ## handoff ## ]]\nlaw\n\n[[ ## answer ## ]]\nnull"


@PLACES
async def test_a_tool_call_before_a_handoff_in_one_reply_runs_before_the_handoff(
    place: str, tmp_path: Path
) -> None:
    file = str(tmp_path / "ada")
    both = tool_calls(ToolCall("1", "lookup", {"file": file}), finish(2, handoff="law"))
    replies: list[Any] = [both]
    if place == "dspy":  # which takes the first tool of a reply
        first = turn(("lookup", json.dumps({"file": file})), ("finish", "{}"))
        replies = [first, turn(("finish", "{}")), ENDS]
    model, handoff = looking_up(*replies, "[[ ## answer ## ]]\n42", place=place)
    async with opened(place) as backends:
        context = RunContext(model=model)
        prediction = await run(placed(handoff, place), backends, context, question="?")
    assert (prediction.answer, Path(file).exists()) == ("42", True)
    assert prediction.trace.spans[-1].attributes["route"] == ["agent", "law"]
    assert not any("lookup" in message.text for message in model.requests[-1].messages)
    tool = next(span for span in prediction.trace.spans if span.name == "lookup")
    answers = [span for span in prediction.trace.spans if span.kind == "model"]
    assert tool.end_ns <= answers[-1].start_ns


@PLACES
async def test_a_tool_call_after_a_handoff_in_one_reply_does_not_run(
    place: str, tmp_path: Path
) -> None:
    file = str(tmp_path / "ada")
    both = tool_calls(finish(1, handoff="law"), ToolCall("2", "lookup", {"file": file}))
    replies: list[Any] = [both]
    if place == "dspy":
        replies = [turn(("finish", "{}"), ("lookup", json.dumps({"file": file}))), ENDS]
    model, handoff = looking_up(*replies, "[[ ## answer ## ]]\n42", place=place)
    async with opened(place) as backends:
        context = RunContext(model=model)
        prediction = await run(placed(handoff, place), backends, context, question="?")
    assert (prediction.answer, Path(file).exists()) == ("42", False)


@PLACES
async def test_two_handoffs_in_one_reply_never_run_two_members(place: str) -> None:
    both = tool_calls(finish(1, handoff="law"), finish(2, handoff="sums"))
    replies: list[Any] = [both, finish(3, handoff="law")]
    if place == "dspy":  # whose adapter reads the first value of a field
        replies = [turn(("finish", "{}")), f"{ENDS}\n\n[[ ## handoff ## ]]\nsums"]
    model, handoff = looking_up(*replies, "[[ ## answer ## ]]\n42", place=place)
    async with opened(place) as backends:
        context = RunContext(model=model)
        prediction = await run(placed(handoff, place), backends, context, question="?")
    assert prediction.answer == "42"
    assert prediction.trace.spans[-1].attributes["route"] == ["agent", "law"]
    assert len(model.requests) == 3
    if place == "dspy":
        return
    results = [message for message in model.requests[1].messages if message.role == "tool"]
    assert [message.tool_call_id for message in results] == ["1", "2"]  # none is left unanswered
    assert all("call `finish` once" in message.text for message in results)


def test_a_handoff_to_a_stranger_is_mended_by_the_predictor() -> None:
    handoff = Handoff(ASK, {"desk": DESK, "law": LAW})
    replies = ["[[ ## handoff ## ]]\npolice", "[[ ## handoff ## ]]\nlaw", "[[ ## answer ## ]]\n42"]
    model = ScriptedModel(*replies)
    assert handoff(RunContext(model=model), question="?").answer == "42"
    assert "Some values do not fit" in model.requests[1].messages[-1].text


def test_members_called_at_once_by_a_supervisor_all_answer() -> None:
    calls = tool_calls(
        ToolCall("1", "law", {"question": "a"}), ToolCall("2", "sums", {"question": "b"})
    )
    script = by_role(
        {
            LAW: "[[ ## answer ## ]]\nlegal",
            SUMS: "[[ ## answer ## ]]\n42",
            ASK.partition(" ")[0]: [calls, finish(3, forward="sums")],
        }
    )
    model = ScriptedModel(script, capabilities=["tools"])
    roles = {"law": Predict(Signature(ASK, LAW)), "sums": Predict(Signature(ASK, SUMS))}
    prediction = Supervisor(ASK, roles)(RunContext(model=model), question="?")
    assert prediction.answer == "42"
    assert sorted(prediction.trace.spans[-1].attributes["route"]) == ["law", "sums"]


def test_a_member_that_fails_is_an_observation_of_its_supervisor() -> None:
    replies = [
        ToolCall("1", "law", {"question": "?"}),
        ModelUnavailableError("gone"),
        finish(2, answer="on my own"),
    ]
    model = ScriptedModel(*replies, capabilities=["tools"])
    prediction = Supervisor(ASK, {"law": LAW})(RunContext(model=model), question="?")
    assert prediction.answer == "on my own"
    assert "law failed: gone" in prediction.trajectory[0]["error"]


async def test_a_member_that_fails_ends_a_handoff_with_its_own_error() -> None:
    model = ScriptedModel("[[ ## handoff ## ]]\nlaw", ModelUnavailableError("gone"))
    with pytest.raises(ExecutionError, match="gone"):
        await team().acall(RunContext(model=model), question="?")
