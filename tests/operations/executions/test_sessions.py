"""Stored conversations: what executions in them get, and the turns that they add."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from dspex.bootstrap import Services, open_services
from dspex.errors import ConflictError, InvalidError, NotFoundError
from dspex.execution.context import RunContext
from dspex.operations.domain import DOMAIN
from dspex.operations.executions.actions import execute_program
from dspex.operations.executions.executor import Executor
from dspex.operations.executions.inputs import ExecuteProgram
from dspex.operations.executions.records import ExecutionRecord
from dspex.operations.executions.session_actions import (
    AppendSession,
    CompactSession,
    CreateSession,
    SessionOf,
    append_session,
    compact_session,
    create_session,
    delete_session,
)
from dspex.operations.executions.session_records import SessionRecord
from dspex.operations.framework.access import Actor
from dspex.operations.framework.store import Query, Update
from dspex.operations.programs.actions import create_program
from dspex.operations.programs.inputs import CreateProgram
from dspex.settings import Settings
from dspex.testing import ScriptedModel

SESSION, TURN = DOMAIN["session"], DOMAIN["session_turn"]


@pytest.fixture
def settings(on_each_database: Settings) -> Settings:
    return on_each_database


class Chat:
    """A server with a program that takes a conversation."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.operations = services.operations
        self.model = ScriptedModel("[[ ## answer ## ]]\nfirst", "[[ ## answer ## ]]\nsecond")

        async def provide(_workspace: str, context: RunContext) -> RunContext:
            return msgspec.structs.replace(context, model=self.model)

        services.operations.services[Executor].context_provider = provide

    async def ask(
        self, session: SessionRecord, question: str, name: str = "chat", **values: Any
    ) -> ExecutionRecord:
        inputs = {"question": question}
        request = ExecuteProgram(program=name, inputs=inputs, session_id=session.id, **values)
        return await self.operations.perform(execute_program, request)

    async def session(self, **values: Any) -> SessionRecord:
        return await self.operations.perform(create_session, CreateSession(**values))

    async def turns(self, session: SessionRecord) -> list[Any]:
        query = Query(where={"session_id": session.id}, oldest_first=True)
        return [(row.inputs, row.outputs) for row in await self.operations.list(TURN, query)]


@asynccontextmanager
async def chat(settings: Settings) -> AsyncIterator[Chat]:
    async with open_services(settings) as services:
        for name, signature in (
            ("chat", "question, history: History -> answer"),
            ("plain", "question -> answer"),
        ):
            await create_program(services.operations, CreateProgram(name=name, signature=signature))
        yield Chat(services)


async def test_an_execution_gets_the_conversation_and_adds_a_turn(settings: Settings) -> None:
    async with chat(settings) as at:
        session = await at.session()
        await at.ask(session, "one?")
        execution = await at.ask(session, "two?", idempotency_key="k")
        assert execution.session_id == session.id
        assert [turn["role"] for turn in execution.inputs["history"]["messages"]] == [
            "user",
            "assistant",
        ]
        assert "first" in str(at.model.requests[1].messages)
        assert await at.turns(session) == [
            ({"question": "one?"}, {"answer": "first"}),
            ({"question": "two?"}, {"answer": "second"}),
        ]
        row = await at.operations.row(SESSION, session.id)
        assert (row.turn_count, row.expires_at) == (2, None)
        again = await at.ask(session, "two?", idempotency_key="k")
        assert again.id == execution.id
        assert len(await at.turns(session)) == 2


async def test_compact_and_append_change_what_the_next_execution_gets(settings: Settings) -> None:
    async with chat(settings) as at:
        session = await at.session()
        for number in range(3):
            request = AppendSession(
                session_id=session.id,
                inputs={"question": f"{number}?"},
                outputs={"answer": f"{number}!"},
            )
            await at.operations.perform(append_session, request)
        row = await at.operations.perform(
            compact_session, CompactSession(session_id=session.id, keep=1, summary="They count.")
        )
        assert (row.turn_count, row.summary) == (1, "They count.")
        assert await at.turns(session) == [({"question": "2?"}, {"answer": "2!"})]
        execution = await at.ask(session, "next?")
        assert execution.inputs["history"]["messages"][0] == {
            "role": "system",
            "content": "Earlier in this conversation: They count.",
        }
        with pytest.raises(InvalidError, match="keep"):
            await at.operations.perform(
                compact_session, CompactSession(session_id=session.id, keep=-1)
            )


async def test_an_expired_session_is_refused_and_then_deleted(settings: Settings) -> None:
    async with chat(settings) as at:
        session = await at.session(ttl=60)
        await at.ask(session, "one?")
        row = await at.operations.row(SESSION, session.id)
        assert row.expires_at is not None
        late = row.expires_at - timedelta(seconds=120)
        await at.operations.dependencies.store.write(
            Update(resource=SESSION, id=session.id, values={"expires_at": late})
        )
        with pytest.raises(ConflictError, match="expired at"):
            await at.ask(session, "two?")
        await at.services.retention.tick()
        with pytest.raises(NotFoundError):
            await at.operations.row(SESSION, session.id)
        assert await at.turns(session) == []


async def test_a_session_is_of_one_workspace_and_of_programs_with_a_history(
    settings: Settings,
) -> None:
    async with chat(settings) as at:
        session = await at.session()
        with pytest.raises(InvalidError, match="no input of the type History"):
            await at.ask(session, "one?", name="plain")
        other = at.operations.as_actor(Actor(name="eve", workspace="other"))
        with pytest.raises(NotFoundError):
            await other.perform(delete_session, SessionOf(session_id=session.id))
        await at.ask(session, "one?")
        await at.operations.perform(delete_session, SessionOf(session_id=session.id))
        assert await at.turns(session) == []
        with pytest.raises(InvalidError, match="ttl"):
            await at.session(ttl=0)
