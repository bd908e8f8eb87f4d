"""A support desk, built with the public names alone, as an application would.

`test_support_desk.py` runs it with a scripted model, and two type checkers read it. Lines with
`# wrong` are the only ones that a checker may refuse, and it must.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, assert_type

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

import dspex
from dspex.errors import DspexError, InputError
from dspex.evaluation import Comparison, Judge, compare, slices
from dspex.modules import BestOfN
from dspex.optimizers import Outcome
from dspex.retrieval import Cited

Team = Literal["cards", "payments", "account"]
TEAMS: Sequence[Team] = ("cards", "payments", "account")


# What the programs take and answer ----------------------------------------------------------------


class Triage(dspex.Signature):
    """Route a customer's message to the team that can solve it."""

    message: str = dspex.Input()
    team: Team = dspex.Output(desc="who should answer")
    urgency: int = dspex.Output(desc="0 can wait, 3 is an emergency", ge=0, le=3)


class Reply(dspex.Signature):
    """Write a short and friendly reply. Use only the facts."""

    message: str = dspex.Input()
    facts: list[str] = dspex.Input()
    reply: str = dspex.Output(desc="at most three sentences")


class Research(dspex.Signature):
    """Find out what the desk knows of the customer's problem."""

    message: str = dspex.Input()
    facts: list[str] = dspex.Output()


class Answer(dspex.Signature):
    """What the desk answers."""

    message: str = dspex.Input()
    team: Team = dspex.Output()
    urgency: int = dspex.Output(ge=0, le=3)
    reply: str = dspex.Output()


class Explain(dspex.Signature):
    """Answer from the handbook alone."""

    question: str = dspex.Input()
    explanation: Cited = dspex.Output()


class Confirm(dspex.Signature):
    """Does the customer want the order to be cancelled?"""

    order: str = dspex.Input()
    is_certain: bool = dspex.Output()


@dataclass(frozen=True)
class Ticket:
    """A message in the queue of a team."""

    title: str
    queue: str
    minutes: int


# The tools of the agent ---------------------------------------------------------------------------

ORDERS = {"A-17": "shipped on Monday", "B-20": "waits for payment"}
ARTICLES = {
    "cards": "A new card takes five days. The app blocks a lost card at once.",
    "payments": "A transfer takes one day. A second charge is paid back within a week.",
    "account": "A code by mail resets the password. An address is changed in the app.",
}


def order_status(number: str) -> str:
    """Return the state of an order.

    Args:
        number: such as A-17
    """
    return ORDERS.get(number, "unknown order")


async def article(team: Team) -> str:
    """Return what the handbook says about a team's problems."""
    return ARTICLES[team]


def tools() -> dspex.ToolSet:
    """Return the tools, with limits."""
    slow = dspex.ToolPolicy(timeout=5.0, retries=1)
    return dspex.ToolSet([order_status, article], policies={"article": slow})


# The programs -------------------------------------------------------------------------------------


class Desk(dspex.Module[Answer]):
    """Triages a message, lets an agent look for facts, and writes a reply."""

    def __init__(self, most_turns: int = 4) -> None:
        self.triage = dspex.Predict(Triage, temperature=0.0)
        self.research = dspex.ReAct(Research, tools(), max_turns=most_turns)
        self.reply = dspex.ChainOfThought(Reply, max_tokens=300)

    async def forward(self, message: str, polite: bool = True) -> dspex.Prediction[Answer]:
        """Answer a customer's message."""
        triage = await self.triage.acall(message=message)
        assert_type(triage.outputs.team, Team)
        facts: list[str] = []
        if triage.outputs.urgency > 0:
            facts = (await self.research.acall(message=message)).outputs.facts
        draft = await self.reply.acall(message=message, facts=facts)
        dspex.Suggest(len(draft.outputs.reply) < 400, "at most three sentences", of=draft)
        text = draft.outputs.reply
        return dspex.Prediction(
            team=triage.outputs.team,
            urgency=triage.outputs.urgency,
            reply=f"Thank you for your message. {text}" if polite else text,
        )


@dspex.program
def ticket(message: str, team: str, limit: int = 30) -> Ticket:
    """Queue a message."""
    return Ticket(title=message[:40], queue=team, minutes=limit)


def short(_inputs: object, prediction: dspex.Prediction) -> float:
    """Return how short a reply is, from 0 to 1."""
    return 1 / (1 + len(prediction.reply))


def handbook() -> dspex.RAG[Explain]:
    """Return a program that answers from the handbook, with quotations."""
    collection = dspex.Collection.from_texts(ARTICLES, name="handbook", embedder="offline")
    return dspex.RAG(Explain, collection, k=dspex.Integer(1, 3, default=2), mode="lexical")


def short_replies(count: int = 2) -> BestOfN[Reply]:
    """Return a program that writes several replies and keeps the shortest."""
    return BestOfN(dspex.Predict(Reply), reward=short, n=count)


async def cancel(order: str) -> str:
    """Cancel an order, if the customer confirms it.

    Args:
        order: such as A-17
    """
    answer = (await dspex.ask(Confirm, order=order)).outputs
    assert_type(answer.is_certain, bool)
    return f"{order} is cancelled" if answer.is_certain else f"{order} stays"


FRIENDLY = Judge("is friendly and makes no promises")


# Data and metrics ---------------------------------------------------------------------------------

MESSAGES: dict[Team, Sequence[str]] = {
    "cards": ("The machine kept my card", "My card was stolen", "The chip does not work"),
    "payments": ("I was charged twice", "My transfer is late", "The refund did not arrive"),
    "account": ("I cannot log in", "Please change my address", "How do I close my account?"),
}


def messages() -> dspex.Dataset:
    """Return messages with their teams and urgency."""
    rows = [
        {"message": f"{text} ({number})", "team": team, "urgency": number}
        for team, texts in MESSAGES.items()
        for text in texts
        for number in range(3)
    ]
    return dspex.Dataset.from_rows(rows, name="messages")


def right_team(row: dspex.Example, prediction: dspex.Prediction[Triage]) -> bool:
    """Whether the message reached the right team."""
    return bool(row.team == prediction.outputs.team)


def calm(row: dspex.Example, prediction: dspex.Prediction[Triage]) -> float:
    """Return 1 for what can wait, and 0 for an emergency."""
    del row
    return 1 - prediction.outputs.urgency / 3


async def measure(triage: dspex.Predict[Triage], rows: dspex.Dataset) -> dspex.Report:
    """Score a triage program on rows."""
    return await dspex.aevaluate(triage, rows, {"right": right_team, "calm": calm}, concurrency=4)


async def improve(rows: dspex.Dataset) -> Outcome[dspex.Predict[Triage]]:
    """Choose demonstrations for the triage program."""
    train, held_out = rows.split(0.6, 0.4, seed=1, stratify="team")
    outcome = await dspex.aoptimize(
        dspex.Predict(Triage),
        dspex.LabeledFewShot(per_class=1, by="team", candidates=2),
        train=train,
        metric=right_team,
        search=dspex.Search(validation=held_out),
    )
    assert_type(outcome.program, dspex.Predict[Triage])
    return outcome


async def sources(question: str) -> list[str]:
    """Return the keys of the articles that an explanation quotes."""
    prediction = await handbook().acall(question=question)
    explanation = prediction.outputs.explanation
    assert_type(explanation, Cited)
    return [source.document or "" for source in explanation.sources]


async def typed_while_written(message: str, facts: Sequence[str]) -> tuple[str, int]:
    """Return a reply as it arrived, piece by piece, and the number of pieces."""
    pieces: list[str] = []
    async for event in dspex.Predict(Reply).stream(message=message, facts=[*facts]):
        if isinstance(event, dspex.FieldDelta) and event.field == "reply":
            pieces.append(event.text)
    return "".join(pieces), len(pieces)


def progress(new: dspex.Report, old: dspex.Report) -> dict[str, float]:
    """Return the change of the main metric, and its mean for each team in the new report."""
    comparison: Comparison = compare(new, old)
    means = {part.value: part.mean for part in slices(new, "team")}
    return {"change": comparison.difference, **means}


async def friendliness(desk: Desk, rows: dspex.Dataset) -> float:
    """Return the mean score of the judge."""
    return (await dspex.aevaluate(desk, rows, {"friendly": FRIENDLY})).mean


# The web application ------------------------------------------------------------------------------


def application(desk: Desk, folder: Path) -> Starlette:
    """Return the desk as a web application that records what it answers in a folder."""

    async def answer(request: Request) -> Response:
        body: dict[str, str] = await request.json()
        try:
            prediction = await desk.acall(message=body.get("message", ""), polite=True)
        except InputError as error:
            return JSONResponse({"error": error.message}, status_code=422)
        except DspexError as error:
            return JSONResponse({"error": error.message}, status_code=502)
        outputs = prediction.outputs
        assert_type(outputs.reply, str)
        return JSONResponse(
            {
                "team": outputs.team,
                "reply": outputs.reply,
                "tokens": prediction.usage.input_tokens + prediction.usage.output_tokens,
            }
        )

    async def queue(request: Request) -> Response:
        entry = (await ticket.acall(message=request.query_params["message"], team="cards")).outputs
        assert_type(entry.minutes, int)
        return JSONResponse({"title": entry.title, "minutes": entry.minutes})

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncGenerator[None]:
        async with dspex.open(folder):
            yield

    routes = [Route("/answer", answer, methods=["POST"]), Route("/queue", queue)]
    return Starlette(routes=routes, lifespan=lifespan)


def history(folder: Path) -> list[str]:
    """Return what customers asked so far, the newest first."""
    with dspex.open(folder) as store:
        return [str(row.inputs["message"]) for row in store.executions(limit=100)]


def stored_copy(desk: Desk) -> dspex.Program:
    """Return the desk as data, as it is stored."""
    return dspex.Program.from_json(desk.to_program("desk").to_json())


# What a checker refuses ---------------------------------------------------------------------------


async def mistakes(desk: Desk, rows: dspex.Dataset) -> None:
    """Nobody calls this."""
    if not TYPE_CHECKING:
        return
    triage = dspex.Predict(Triage)
    answer = await desk.acall(message="Hello")
    str(answer.outputs.taem)  # wrong
    str(answer.outputs.reply + 1)  # wrong
    urgent: str = answer.outputs.urgency  # wrong
    str(urgent)
    await desk.acall("Hello")  # wrong
    await desk.acall(mesage="Hello")  # wrong
    await desk.acall(message="Hello", polite="very")  # wrong
    await desk.acall()  # wrong
    desk(message=["Hello"])  # wrong
    Desk(most_turns="four")  # wrong
    ticket(message="Hello")  # wrong
    ticket(message="Hello", team="cards", limit="ten")  # wrong
    str(ticket(message="Hello", team="cards").outputs.hours)  # wrong
    dspex.Predict(Triage, temprature=0.0)  # wrong
    dspex.ChainOfThought(Reply, max_tokens="many")  # wrong
    dspex.ReAct(Research, [order_status], max_turn=3)  # wrong
    await dspex.aevaluate(dspex.Predict(Reply), rows, right_team)  # wrong
    await dspex.aevaluate(triage, rows, right_team, concurency=4)  # wrong
    await dspex.aoptimize(triage, "LabeledFewShot", train=rows, metric=right_team)  # wrong
    dspex.LabeledFewShot(per_klass=1)  # wrong
    dspex.Joint(trials="many")  # wrong
    dspex.Search(test=[{"message": "Hello"}])  # wrong
    str((await handbook().acall(question="Hello")).outputs.answer)  # wrong
    BestOfN(dspex.Predict(Reply), reward=short, m=2)  # wrong
    str((await dspex.ask(Confirm, order="A-17")).outputs.is_sure)  # wrong
    with dspex.context(timeout="soon"):  # wrong
        pass
    progress(rows, rows)  # wrong
    dspex.configure(modell="openai/gpt-4o-mini")  # wrong
    dspex.configure(store=3)  # wrong
    rows.split(0.6, 0.4, sede=1)  # wrong
    for row in rows:
        row.team = "cards"  # wrong
