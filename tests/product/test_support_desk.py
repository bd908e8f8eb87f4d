"""A whole product on the public names: it runs, and type checkers refuse exactly its mistakes."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

import dspex
from dspex.execution.context import RunContext, update_default
from dspex.models import Request
from dspex.testing import ScriptedModel
from tests.product import support_desk as product
from tests.test_public_types import (
    errors_of_basedpyright,
    errors_of_mypy,
    needs_basedpyright,
    wrong_lines,
)

FILE = Path(str(product.__file__))
WORDS = {"card": "cards", "chip": "cards", "charged": "payments", "transfer": "payments"}
LOOK = {"next_thought": "?", "next_tool_name": "article", "next_tool_args": {"team": "cards"}}
CLAIM = {"text": "Five days.", "sources": [{"passage": 1, "sentence": 1}]}
END = {"next_thought": "!", "next_tool_name": "finish", "next_tool_args": {}}


def reply(request: Request) -> str:
    """Answer as a sensible model would."""
    prompt = str(request.messages)
    question = str(request.messages[-1])
    team = next((team for word, team in WORDS.items() if word in question), "account")
    fields = {"team": team, "urgency": 1, "reasoning": "", "reply": "We send a new one."}
    fields |= {"reason": "", "score": 0.75, "facts": ["five days"]}
    fields |= END if "five days" in prompt else LOOK
    return json.dumps({name: value for name, value in fields.items() if f"`{name}`" in prompt})


@pytest.fixture(autouse=True)
def _model() -> Iterator[None]:
    with dspex.context(model=ScriptedModel(reply), adapter="json"):
        yield


def test_the_desk_answers_with_what_its_agent_found() -> None:
    prediction = product.Desk()(message="The machine kept my card")
    assert prediction.outputs.team == "cards"
    assert prediction.outputs.reply == "Thank you for your message. We send a new one."
    assert "article" in {span.name for span in prediction.trace.spans if span.kind == "tool"}


def test_it_is_stored_and_built_again() -> None:
    program = product.stored_copy(product.Desk(most_turns=3))
    assert list(program.signature.input_fields) == ["message", "polite"]
    assert list(program.signature.output_fields) == ["team", "urgency", "reply"]


async def test_it_is_measured_and_judged() -> None:
    rows = product.messages()
    report = await product.measure(dspex.Predict(product.Triage), rows)
    assert report.failed == 0
    assert report.mean_of("calm") == pytest.approx(2 / 3)
    assert 0.5 < report.mean_of("right") < 1
    assert await product.friendliness(product.Desk(), rows[:3]) == 0.75


async def test_it_is_improved() -> None:
    outcome = await product.improve(product.messages())
    assert outcome.conclusion
    assert (await outcome.program.acall(message="My card")).outputs.team == "cards"


@pytest.fixture
def _fresh_default() -> Iterator[None]:
    """What a test configures for the process holds for no other test."""
    yield
    update_default(lambda _: RunContext())


@pytest.mark.usefixtures("_fresh_default")
def test_its_web_application_answers_and_records(tmp_path: Path) -> None:
    model = ScriptedModel(reply)
    dspex.configure(model=model, adapter="json")
    with TestClient(product.application(product.Desk(), tmp_path / "s")) as client:
        answer = client.post("/answer", json={"message": "My card was stolen"})
        assert (answer.status_code, answer.json()["team"]) == (200, "cards")
        assert client.get("/queue?message=Hello").json() == {"title": "Hello", "minutes": 30}
    assert product.history(tmp_path / "s") == ["Hello", "My card was stolen"]


async def test_it_explains_with_sources() -> None:
    quoting = {"reasoning": "", "explanation": {"statements": [CLAIM]}}
    with dspex.context(model=ScriptedModel(json.dumps(quoting))):
        assert await product.sources("How long does a new card take?") == ["cards"]


async def test_it_streams_a_reply_and_keeps_the_shortest_one() -> None:
    text, pieces = await product.typed_while_written("My card", ["five days"])
    assert (text, pieces > 0) == ("We send a new one.", True)
    prediction = await product.short_replies().acall(message="My card", facts=[])
    assert prediction.outputs.reply == text


async def test_it_asks_the_customer() -> None:
    for is_certain, outcome in ((True, "A-17 is cancelled"), (False, "A-17 stays")):
        with dspex.context(answer=[{"is_certain": is_certain}]):
            assert await product.cancel("A-17") == outcome


async def test_two_reports_are_compared() -> None:
    rows = product.messages()
    report = await product.measure(dspex.Predict(product.Triage), rows)
    figures = product.progress(report, report)
    assert figures.keys() == {"change", *product.TEAMS}
    assert figures["change"] == 0


@pytest.mark.full
def test_mypy_refuses_its_mistakes_alone() -> None:
    assert errors_of_mypy(FILE) == {(FILE.name, number) for number in wrong_lines(FILE)}


@pytest.mark.full
@needs_basedpyright
def test_basedpyright_refuses_its_mistakes_alone(tmp_path: Path) -> None:
    assert errors_of_basedpyright(FILE, tmp_path) == wrong_lines(FILE)
