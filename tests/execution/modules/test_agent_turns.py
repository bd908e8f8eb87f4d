"""What an agent does in one turn: several calls at once, calls in text, and too long a course."""

import asyncio
from typing import Any

import pytest

from dspex import Module, Predict, ReAct, Suggest
from dspex.errors import ContextTooLongError, ExecutionError
from dspex.execution.adapters.replies import listed_texts
from dspex.execution.clients import Request, Response
from dspex.execution.context import RunContext
from dspex.execution.modules.agent_text import read_action
from dspex.language.records import ToolCall, Usage
from dspex.testing import ScriptedModel


def calls(*tool_calls: ToolCall) -> Response:
    return Response(text="", usage=Usage(calls=1), model="scripted", tool_calls=tool_calls)


def native(*replies: Any) -> ScriptedModel:
    return ScriptedModel(*replies, capabilities=["tools"])


FINISH = ToolCall("9", "finish", {"degrees": 21})
SIGNATURE = "question -> degrees: int"


def test_the_calls_of_one_turn_run_at_once_and_are_listed_in_order() -> None:
    arrivals = asyncio.Event()
    seen: list[str] = []

    async def lookup(city: str) -> str:
        """Look up the weather; each call waits for the other."""
        seen.append(city)
        if len(seen) == 2:
            arrivals.set()
        await asyncio.wait_for(arrivals.wait(), 30)
        return f"{city}: 21"

    first, second = (ToolCall(str(n), "lookup", {"city": city}) for n, city in enumerate("ab"))
    model = native(calls(first, second), FINISH)
    prediction = ReAct(SIGNATURE, [lookup])(RunContext(model=model), question="?")
    assert prediction.degrees == 21
    steps = [(step["arguments"], step["observation"]) for step in prediction.trajectory[:2]]
    assert steps == [({"city": "a"}, "a: 21"), ({"city": "b"}, "b: 21")]
    results = [message for message in model.requests[1].messages if message.role == "tool"]
    assert [message.tool_call_id for message in results] == ["0", "1"]


def test_an_answer_in_a_turn_with_other_calls_ends_the_run_after_them() -> None:
    seen: list[int] = []

    def count(n: int) -> int:
        """Count."""
        seen.append(n)
        return n

    before, after = (ToolCall(str(n), "count", {"n": n}) for n in (1, 2))
    model = native(calls(before, FINISH, after))
    assert ReAct(SIGNATURE, [count])(RunContext(model=model), question="?").degrees == 21
    assert seen == [1]


def limited(limit: int, *replies: Any) -> Any:
    """Return replies that refuse requests with more than `limit` characters."""
    script = iter(replies)

    def reply(request: Request) -> Any:
        if sum(len(message.content) for message in request.messages) > limit:
            return ContextTooLongError("the prompt is too long")
        return next(script)

    return reply


def read(page: int) -> str:
    """Read a page."""
    return f"page {page} " + "x" * 3000


@pytest.mark.parametrize("is_native", [True, False])
def test_the_oldest_results_are_left_out_of_a_course_that_is_too_long(is_native: bool) -> None:
    if is_native:
        turns: list[Any] = [ToolCall(str(n), "read", {"page": n}) for n in range(4)]
        model = native(limited(8000, *turns, FINISH))
    else:
        turns = [f"Thought: go on\nAction[read](page={n})" for n in range(4)]
        last = "[[ ## reasoning ## ]]\nso\n\n[[ ## degrees ## ]]\n21"
        model = ScriptedModel(limited(8000, *turns, "Thought: done\nAction[finish]()", last))
    prediction = ReAct(SIGNATURE, [read])(RunContext(model=model), question="?")
    assert prediction.degrees == 21
    assert len(prediction.trajectory) == 5
    shown = "\n".join(message.text for message in model.requests[-1].messages)
    assert "left out" in shown
    assert "page 3 xxx" in shown
    assert "page 0 xxx" not in shown


def test_a_question_that_is_too_long_by_itself_is_an_error() -> None:
    for model in (native(limited(10)), ScriptedModel(limited(10))):
        with pytest.raises(ContextTooLongError):
            ReAct(SIGNATURE, [read])(RunContext(model=model), question="?")


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ('Thought: why\nAction[read]({"page": 3})', ("why", "read", {"page": 3})),
        (
            "I think\nAction 2: [read](page=3, deep=True)",
            ("I think", "read", {"page": 3, "deep": True}),
        ),
        ("Action[finish]()", ("", "finish", {})),
        ("Action[read](page=__import__('os'))", None),
        ("Action[read](3)", None),
        ("no action", None),
        ("Action[read](page=" + "(" * 5000 + ")", None),
    ],
)
def test_an_action_in_text_is_read_and_nothing_is_evaluated(reply: str, expected: Any) -> None:
    action = read_action(reply)
    assert (action and tuple(action.values())) == expected


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("1. one\n2. two", ["one", "two"]),
        ("- one\n  more of it\n\n* two", ["one\nmore of it", "two"]),
        ("1) one", ["one"]),
        ("one\n2. two", []),
        ("", []),
    ],
)
def test_a_numbered_list_is_read_as_a_list_of_texts(text: str, items: list[str]) -> None:
    assert listed_texts(text) == items
    if items:
        model = ScriptedModel(f"[[ ## steps ## ]]\n{text}")
        assert Predict("q -> steps: list[str]")(RunContext(model=model), q="?").steps == items
        assert len(model.requests) == 1


class Brief(Module):
    signature = "question -> answer"

    def __init__(self, retries: int) -> None:
        self.ask = Predict("question -> answer")
        self.retries = retries

    async def forward(self, question: str) -> Any:
        answer = await self.ask.acall(question=question)
        is_brief = len(answer.answer) < 4
        Suggest(is_brief, "use fewer words", of=answer, retries=self.retries)
        return {"answer": answer.answer}


@pytest.mark.parametrize(("retries", "count"), [(0, 1), (1, 2), (2, 3), (9, 3)])
def test_a_suggestion_is_made_as_often_as_it_says_and_then_recorded(
    retries: int, count: int
) -> None:
    model = ScriptedModel("[[ ## answer ## ]]\ntoo long")
    prediction = Brief(retries)(RunContext(model=model), question="?")
    assert prediction.answer == "too long"
    assert len(model.requests) == count
    attributes = prediction.trace.spans[-1].attributes
    assert attributes["suggestions"] == ["use fewer words"]
    assert attributes.get("assertions", []) == ["use fewer words"] * (count - 1)
    if count > 1:
        assert "use fewer words" in model.requests[1].messages[-1].content


def test_a_suggestion_that_is_met_leaves_no_mark() -> None:
    model = ScriptedModel("[[ ## answer ## ]]\ntoo long", "[[ ## answer ## ]]\nok")
    prediction = Brief(1)(RunContext(model=model), question="?")
    assert prediction.answer == "ok"
    assert "suggestions" not in prediction.trace.spans[-1].attributes


def test_a_tool_that_breaks_the_run_ends_its_siblings() -> None:
    def fail(kind: str) -> str:
        """Fail."""
        raise ValueError(kind)

    both = [ToolCall(str(n), "fail", {"kind": "x"}) for n in range(2)]
    model = native(calls(*both), FINISH)
    prediction = ReAct(SIGNATURE, [fail])(RunContext(model=model), question="?")
    assert [bool(step["error"]) for step in prediction.trajectory[:2]] == [True, True]
    with pytest.raises(ExecutionError):
        ReAct(SIGNATURE, [fail], max_turns=1)(RunContext(model=native("no call")), question="?")
