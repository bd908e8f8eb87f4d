"""A session: turns that fill an input of the type History."""

import pytest

import dspex
from dspex.errors import DefinitionError
from dspex.language.signatures.content import History, Turn
from dspex.testing import FakeClock, ScriptedModel


def talk(*words: str, **settings) -> dspex.Session:
    session = dspex.Session(**settings)
    for word in words:
        session = session.append({"question": word}, {"answer": word.upper()})
    return session


def test_turns_are_the_history_of_the_next_call():
    chat = dspex.Predict("question, history: History -> answer")
    model = ScriptedModel("[[ ## answer ## ]]\nyes")
    session = talk("one", "two")
    with dspex.context(model=model):
        chat(question="three", history=session.history)
    roles = [message.role for message in model.requests[0].messages]
    assert roles == ["system", "user", "assistant", "user", "assistant", "user"]
    assert "ONE" in model.requests[0].messages[2].text


def test_a_session_is_immutable_and_leaves_out_the_history_itself():
    empty = dspex.Session()
    session = empty.append({"question": "?", "history": History()}, {"answer": "!"})
    assert (empty.turns, session.turns) == ((), (({"question": "?"}, {"answer": "!"}),))


def test_compact_keeps_the_newest_turns_and_a_summary():
    session = talk("one", "two", "three").compact(keep=1, summary="They counted.")
    assert session.history.messages == [
        Turn("system", "Earlier in this conversation: They counted."),
        Turn("user", {"question": "three"}),
        Turn("assistant", {"answer": "THREE"}),
    ]
    assert session.compact(keep=9) == session
    assert session.compact(keep=0).history.messages == [session.history.messages[0]]
    with pytest.raises(DefinitionError, match="a whole number from 0, not -1"):
        session.compact(keep=-1)


async def test_an_expired_session_is_empty_and_begins_anew():
    clock = FakeClock()
    session = talk("one", ttl=60, clock=clock).compact(keep=1, summary="so far")
    await clock.advance(59)
    assert len(session.history.messages) == 3
    await clock.advance(2)
    assert session.is_expired
    assert session.history == History()
    assert session.append({"question": "new"}, {"answer": "NEW"}).turns == (
        ({"question": "new"}, {"answer": "NEW"}),
    )
    with pytest.raises(DefinitionError, match="above 0 seconds"):
        dspex.Session(ttl=0)
