"""An execution that asks a person waits in the database, and goes on with the answer."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest

from dspex.bootstrap import Services, dspy_bridge, open_services
from dspex.errors import ConflictError, ForbiddenError, InvalidError
from dspex.execution.context import RunContext
from dspex.execution.modules import CodeRoot
from dspex.operations.domain import DOMAIN
from dspex.operations.events.event_log import Feed
from dspex.operations.executions.actions import (
    answer_execution,
    cancel_execution,
    execute_program,
)
from dspex.operations.executions.executor import Executor
from dspex.operations.executions.inputs import AnswerExecution, ExecuteProgram, ExecutionOf
from dspex.operations.executions.records import ExecutionRecord, QuestionRecord
from dspex.operations.framework.access import Actor
from dspex.operations.framework.store import Query, Update
from dspex.operations.programs.stored_programs import save_program
from dspex.settings import Settings
from dspex.testing import ScriptedModel

EXECUTION, QUESTION, ENTRY = (DOMAIN[name] for name in ("execution", "question", "execution_entry"))
CODE = '''
from pathlib import Path

import dspex


def note(value):
    with Path(__file__).with_name("calls.txt").open("a") as file:
        file.write(f"{value} ")


class Refund(dspex.Module):
    signature = "order -> result"

    def __init__(self, ttl=None):
        self.ttl = ttl
        self.draft = dspex.Predict("order -> amount")
        self.close = dspex.Predict("amount, note -> result")

    async def forward(self, order):
        draft = await self.draft.acall(order=order)
        answer = await dspex.ask(
            "amount -> approved: bool, note: str", ttl=self.ttl, amount=draft.amount
        )
        if not answer.approved:
            return {"result": f"refused: {answer.note}"}
        return await self.close.acall(amount=draft.amount, note=answer.note)


class Sync(dspex.Module):
    signature = "order -> result"

    def forward(self, order):
        first = dspex.ask("order -> amount: int", order=order).result()
        second = dspex.ask("amount: int -> sure: bool", amount=first.amount).result()
        return {"result": f"{first.amount} {second.sure}"}


def pay(amount: float) -> str:
    """Pay an amount."""
    note(amount)
    return f"paid {amount:g}"


def look(name: str) -> str:
    """Look something up."""
    note(name)
    return f"{name} is known"


def is_large(tool, arguments):
    return arguments["amount"] >= 10


def agent(**policy):
    tool = dspex.Tool.from_function(pay, policy=dspex.ToolPolicy(**policy))
    return dspex.ReAct("order -> result", [tool, look])


def Agent():
    return agent(approval=True)


def Careful():
    return agent(approval=is_large, approval_ttl=60)


def order(amount: float) -> bool:
    """Order something, if a person is sure."""
    note("begin")
    answer = dspex.ask("amount: float -> sure: bool", amount=amount).result()
    note("end")
    return answer.sure


def Buyer():
    return dspex.ReAct("order -> result", [order])


class Clock(dspex.Module):
    """Asks something else in each run."""

    signature = "order -> result"

    def __init__(self, ttl=None):
        self.ttl = ttl

    async def forward(self, order):
        note("run")
        run = len(Path(__file__).with_name("calls.txt").read_text().split())
        while True:
            try:
                answer = await dspex.ask("run: int -> text", run=run, ttl=self.ttl)
            except dspex.errors.QuestionExpiredError:
                run += 100
            else:
                return {"result": answer.text}


class Both(dspex.Module):
    """Asks in two branches at once, while a third one works."""

    signature = "order -> result"

    def __init__(self):
        self.draft = dspex.Predict("order -> amount")

    async def forward(self, order):
        import asyncio

        async def branch(name):
            answer = await dspex.ask("who -> text", who=name)
            return answer.text

        texts = await asyncio.gather(
            branch("ann"), branch("bob"), self.draft.acall(order=order)
        )
        return {"result": f"{texts[0]} {texts[1]} {texts[2].amount}"}
'''


@pytest.fixture(params=["native", pytest.param("isolated", marks=pytest.mark.bridge)])
def where(request: pytest.FixtureRequest) -> str:
    """The backend of the program that asks."""
    return str(request.param)


def calls(code: CodeRoot) -> str:
    """Return what the tools were called with."""
    return (code.folder / "calls.txt").read_text().strip()


@pytest.fixture
def settings(on_each_database: Settings) -> Settings:
    return on_each_database


@pytest.fixture
def code(tmp_path: Path) -> Iterator[CodeRoot]:
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "asking.py").write_text(CODE)
    yield CodeRoot(folder)
    sys.modules.pop("asking", None)


def reply(**fields: str) -> str:
    return "\n".join(f"[[ ## {name} ## ]]\n{value}" for name, value in fields.items())


class Process:
    """One process over the database: a server, or the end of one."""

    def __init__(self, services: Services, code: CodeRoot, model: ScriptedModel) -> None:
        self.services = services
        self.operations = services.operations
        self.executor = services.operations.services[Executor]
        self.model = model
        self._code = code

        async def provide(_workspace: str, context: RunContext) -> RunContext:
            return msgspec.structs.replace(context, model=model)

        self.executor.context_provider = provide

    async def execute(self, name: str, *arguments: Any, **values: Any) -> ExecutionRecord:
        module = self._code.load(f"asking:{name}")(*arguments)
        program = await save_program(self.operations, module.to_program(name))
        request = ExecuteProgram(**{"program_id": program.id, "inputs": {"order": "7"}, **values})
        return await execute_program(self.operations, request)

    async def answer(self, execution: ExecutionRecord, /, **fields: Any) -> ExecutionRecord:
        request = AnswerExecution(execution_id=execution.id, answer=fields)
        return await self.operations.perform(answer_execution, request)

    async def questions(self, **where: Any) -> list[QuestionRecord]:
        return list(await self.operations.list(QUESTION, Query(where=where)))

    async def row(self, key: UUID) -> ExecutionRecord:
        return await self.operations.row(EXECUTION, key)

    async def until(self, key: UUID, *statuses: str, questions: int = 0) -> ExecutionRecord:
        """Wait until an execution is in one of these states and has asked so many questions."""
        feed = self.operations.services[Feed]
        async with asyncio.timeout(60):
            async with contextlib.aclosing(
                feed.follow(self.operations.workspace, "execution")
            ) as events:
                row = await self.row(key)
                if row.status in statuses and row.question_count >= questions:
                    return row
                async for entry in events:
                    if entry.event.subject_id == key:
                        row = await self.row(key)
                        if row.status in statuses and row.question_count >= questions:
                            return row
        raise AssertionError


@contextlib.asynccontextmanager
async def process(
    settings: Settings, code: CodeRoot, *replies: str, serves: bool = True
) -> AsyncIterator[Process]:
    async with open_services(settings, code=code, serves=serves) as services:
        yield Process(services, code, ScriptedModel(*replies or ("nothing",)))


async def test_an_answer_continues_an_execution_in_another_process(
    settings: Settings, code: CodeRoot, where: str
) -> None:
    async with process(settings, code, reply(amount="12")) as first:
        execution = await first.execute("Refund", backend=where)
        assert (execution.status, execution.outputs) == ("waiting", None)
        assert len(first.executor.runs) == 0
        [question] = await first.questions(status="open")
        assert (question.inputs, question.execution_id) == ({"amount": "12"}, execution.id)
        trace = (await first.row(execution.id)).trace or {}
        assert [span["kind"] for span in trace["spans"]].count("model") == 1
    async with process(settings, code, reply(result="paid")) as second:
        pending = await second.answer(execution, approved=True, note="fine")
        assert pending.status in {"pending", "running", "completed"}
        row = await second.until(execution.id, "completed", "failed")
        assert (row.status, row.outputs, row.error) == ("completed", {"result": "paid"}, None)
        assert len(second.model.requests) == 1
        assert row.usage is not None
        assert row.usage["calls"] == 2
        [question] = await second.questions()
        assert (question.status, question.answered_by) == ("answered", "local")
        assert question.answer == {"approved": True, "note": "fine"}
    async with process(settings, code, serves=False) as third:
        assert await third.operations.dependencies.store.count(ENTRY, {}) == 0


async def test_synchronous_code_asks_twice(settings: Settings, code: CodeRoot, where: str) -> None:
    async with process(settings, code) as server:
        execution = await server.execute("Sync", backend=where)
        await server.answer(execution, amount="3")
        await server.until(execution.id, "waiting", questions=2)
        await server.answer(execution, sure="false")
        row = await server.until(execution.id, "completed", "failed")
        assert row.outputs == {"result": "3 False"}


async def test_questions_of_parallel_branches_are_in_the_inbox_together(
    settings: Settings, code: CodeRoot, where: str
) -> None:
    async with process(settings, code, reply(amount="5")) as server:
        execution = await server.execute("Both", backend=where)
        questions = {question.inputs["who"]: question for question in await server.questions()}
        assert questions.keys() == {"ann", "bob"}
        with pytest.raises(InvalidError, match="id of one of the open questions"):
            await server.answer(execution, text="hi")
        for name, question in questions.items():
            request = AnswerExecution(
                execution_id=execution.id, answer={"text": f"I am {name}"}, question_id=question.id
            )
            await server.operations.perform(answer_execution, request)
        row = await server.until(execution.id, "completed", "failed")
        assert row.outputs == {"result": "I am ann I am bob 5"}
        assert len(server.model.requests) == 1


async def test_a_program_that_asks_something_else_in_each_run_ends_with_the_reason(
    settings: Settings, code: CodeRoot, where: str
) -> None:
    async with process(settings, code) as server:
        execution = await server.execute("Clock", backend=where)
        for number in range(3):
            await server.until(execution.id, "waiting", questions=number + 1)
            await server.answer(execution, text=str(number))
        row = await server.until(execution.id, "failed", "completed")
        assert row.error is not None
        assert row.error["code"] == "divergence"
        message = row.error["message"]
        assert "the program asks {'run': 4}" in message
        assert "it has not asked again 3 questions, such as {'run': 3} (answered)" in message
    async with process(settings, code, serves=False) as later:
        statuses = [question.status for question in await later.questions()]
        assert sorted(statuses) == ["answered", "answered", "answered", "cancelled"]


async def test_an_answer_is_checked_and_given_once(settings: Settings, code: CodeRoot) -> None:
    async with process(settings, code, reply(amount="12"), serves=False) as server:
        execution = await server.execute("Refund")
        with pytest.raises(InvalidError, match=r"^the answer does not fit:") as caught:
            await server.answer(execution, approved="perhaps")
        assert {field.path for field in caught.value.fields} == {"approved", "note"}
        [question] = await server.questions()
        request = AnswerExecution(
            execution_id=execution.id,
            answer={"approved": True, "note": ""},
            question_id=question.id,
        )
        reader = server.operations.as_actor(Actor(name="eve", scopes=frozenset({"read"})))
        with pytest.raises(ForbiddenError):
            await reader.perform(answer_execution, request)
        for _ in range(2):
            row = await server.operations.perform(answer_execution, request)
            assert row.status == "pending"
        with pytest.raises(ConflictError, match="answered already"):
            await server.operations.perform(
                answer_execution, replace(request, answer={"approved": False, "note": ""})
            )


async def test_of_equal_answers_at_once_none_is_a_conflict(
    settings: Settings, code: CodeRoot
) -> None:
    async with process(settings, code, reply(amount="12"), serves=False) as server:
        execution = await server.execute("Refund")
        [question] = await server.questions()
        answer = {"approved": True, "note": ""}
        requests = [
            AnswerExecution(
                execution_id=execution.id, answer={**answer, **change}, question_id=question.id
            )
            for change in ({}, {}, {"note": "no"}, {})
        ]
        results = await asyncio.gather(
            *(server.operations.perform(answer_execution, request) for request in requests),
            return_exceptions=True,
        )
        assert [isinstance(result, ConflictError) for result in results] == [
            False,
            False,
            True,
            False,
        ]


async def test_a_question_expires(settings: Settings, code: CodeRoot, where: str) -> None:
    async with process(settings, code, reply(amount="12"), serves=False) as server:
        execution = await server.execute("Refund", 30, backend=where)
        [question] = await server.questions()
        assert question.expires_at is not None
        assert (question.expires_at - question.created_at).total_seconds() == 30
        early = question.created_at
        await server.operations.dependencies.store.write(
            Update(resource=QUESTION, id=question.id, values={"expires_at": early})
        )
        with pytest.raises(ConflictError, match="expired"):
            await server.answer(execution, approved=True, note="")
    async with process(settings, code) as server:
        row = await server.until(execution.id, "failed", "completed")
        assert row.error is not None
        assert row.error["code"] == "question_expired"
        assert [question.status for question in await server.questions()] == ["expired"]


async def test_a_waiting_execution_is_cancelled_with_its_questions(
    settings: Settings, code: CodeRoot, where: str
) -> None:
    async with process(settings, code, reply(amount="12")) as server:
        execution = await server.execute("Refund", backend=where)
        row = await cancel_execution(server.operations, ExecutionOf(execution_id=execution.id))
        assert row.status == "cancelled"
        assert [question.status for question in await server.questions()] == ["cancelled"]
        with pytest.raises(ConflictError):
            await server.answer(execution, approved=True, note="")


def act(tool: str, arguments: str, thought: str = "next") -> str:
    return reply(next_thought=thought, next_tool_name=tool, next_tool_args=arguments)


async def test_an_agent_waits_for_the_approval_of_a_tool(
    settings: Settings, code: CodeRoot, where: str
) -> None:
    replies = (act("look", '{"name": "ann"}'), act("pay", '{"amount": 12}'))
    async with process(settings, code, *replies) as first:
        execution = await first.execute("Agent", backend=where)
        assert execution.status == "waiting"
        assert calls(code) == "ann"
        [question] = await first.questions()
        assert question.kind == "approval"
        assert question.inputs == {"tool": "pay", "arguments": {"amount": 12.0}}
        executor = Actor(name="app", scopes=frozenset({"read", "execute"}))
        request = AnswerExecution(execution_id=execution.id, answer={"approved": True})
        with pytest.raises(ForbiddenError, match="answering an approval needs the scope 'write'"):
            await first.operations.as_actor(executor).perform(answer_execution, request)
    replies = (act("finish", "{}"), reply(reasoning="so", result="done"))
    async with process(settings, code, *replies) as second:
        await second.answer(execution, approved=True)
        row = await second.until(execution.id, "completed", "failed")
        assert (row.error, (row.outputs or {})["result"]) == (None, "done")
        assert calls(code) == "ann 12.0"
        steps = (row.outputs or {})["trajectory"]
        assert [step["observation"] for step in steps[:2]] == ["ann is known", "paid 12"]
        assert len(second.model.requests) == 2


async def test_a_rejection_is_what_the_agent_observes(
    settings: Settings, code: CodeRoot, where: str
) -> None:
    replies = (
        act("pay", '{"amount": 3}'),
        act("pay", '{"amount": 30}'),
        act("finish", "{}"),
        reply(reasoning="so", result="refused"),
    )
    async with process(settings, code, *replies) as server:
        execution = await server.execute("Careful", backend=where)
        [question] = await server.questions()
        assert question.inputs["arguments"] == {"amount": 30.0}
        assert question.expires_at is not None
        await server.answer(execution, approved=False, reason="too much")
        row = await server.until(execution.id, "completed", "failed")
        steps = (row.outputs or {})["trajectory"]
        assert [step["observation"] for step in steps[:2]] == [
            "paid 3",
            "error: pay: a person rejected this call: too much",
        ]
        assert calls(code) == "3.0"
        assert "a person rejected this call: too much" in str(server.model.requests[2].messages)


DSPY_CODE = """
import dspex
import dspy


class Desk(dspy.Module):
    def __init__(self):
        super().__init__()
        self.draft = dspy.Predict("order -> amount")
        self.close = dspy.Predict("amount, note -> result")

    def forward(self, order: str):
        draft = self.draft(order=order)
        answer = dspex.ask("amount -> approved: bool, note", amount=draft.amount).result()
        if not answer.approved:
            return dspy.Prediction(result=f"refused: {answer.note}")
        return self.close(amount=draft.amount, note=answer.note)
"""


@pytest.mark.full
async def test_a_dspy_program_waits_and_goes_on_in_another_worker(
    settings: Settings, code: CodeRoot
) -> None:
    pytest.importorskip("dspy")
    (code.folder / "desk.py").write_text(DSPY_CODE)
    async with process(settings, code, reply(amount="12")) as first:
        bridge = await dspy_bridge(first.services.backends)
        program = await save_program(
            first.operations, await bridge.import_program("desk:Desk"), backend="dspy"
        )
        request = ExecuteProgram(program_id=program.id, inputs={"order": "7"})
        execution = await execute_program(first.operations, request)
        assert (execution.status, len(first.model.requests)) == ("waiting", 1)
    async with process(settings, code, reply(result="paid")) as second:
        await second.answer(execution, approved=True, note="fine")
        row = await second.until(execution.id, "completed", "failed")
        assert (row.error, row.outputs) == (None, {"result": "paid"})
        assert len(second.model.requests) == 1


@pytest.mark.full
async def test_the_approval_of_a_tool_of_an_agent_on_dspy_waits(
    settings: Settings, code: CodeRoot
) -> None:
    pytest.importorskip("dspy")
    replies = (act("look", '{"name": "ann"}'), act("pay", '{"amount": 12}'))
    async with process(settings, code, *replies) as first:
        execution = await first.execute("Agent", backend="dspy")
        assert (execution.status, calls(code)) == ("waiting", "ann")
        [question] = await first.questions()
        assert (question.kind, question.inputs["tool"]) == ("approval", "pay")
    replies = (act("finish", "{}"), reply(reasoning="so", result="done"))
    async with process(settings, code, *replies) as second:
        await second.answer(execution, approved=True)
        row = await second.until(execution.id, "completed", "failed")
        assert (row.error, (row.outputs or {})["result"]) == (None, "done")
        assert calls(code) == "ann 12.0"
        assert len(second.model.requests) == 2


async def test_a_question_inside_a_tool_of_a_worker_waits_without_the_tool(
    settings: Settings, code: CodeRoot, where: str
) -> None:
    async with process(settings, code, act("order", '{"amount": 12}')) as first:
        execution = await first.execute("Buyer", backend=where)
        assert (execution.status, calls(code)) == ("waiting", "begin")
    replies = (act("finish", "{}"), reply(reasoning="so", result="done"))
    async with process(settings, code, *replies) as second:
        await second.answer(execution, sure=True)
        row = await second.until(execution.id, "completed", "failed")
        assert (row.error, (row.outputs or {})["result"]) == (None, "done")
        assert calls(code) == "begin begin end"
        assert (row.outputs or {})["trajectory"][0]["observation"].lower() == "true"
