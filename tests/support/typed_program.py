"""What type checkers know of programs; `test_public_types.py` checks this file with two of them.

Lines with `# wrong` are the only ones that a checker may refuse, and it must. The others also run.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, assert_type

import dspex
from dspex.evaluation import Judge, exact_match
from dspex.telemetry import StreamEvent
from dspex.variables import strategies

Team = Literal["cards", "payments", "account"]


class Triage(dspex.Signature):
    """Route a customer's message to the team that can solve it."""

    message: str = dspex.Input()
    team: Team = dspex.Output(desc="who should answer")
    urgency: int = dspex.Output(ge=0, le=3)


class Reply(dspex.Signature):
    """Write a reply."""

    message: str = dspex.Input()
    reply: str = dspex.Output()


@dataclass
class Call:
    """A call to make."""

    number: str
    minutes: int


class Desk(dspex.Module[Triage]):
    """A module with the outputs of a signature."""

    signature = Triage

    def __init__(self) -> None:
        self.triage = dspex.Predict(Triage)

    async def forward(self, message: str) -> dspex.Prediction[Triage]:
        return await self.triage.acall(message=message)


class Counter(dspex.Module[Triage]):
    """A module whose inputs are the parameters of `forward`."""

    def forward(self, message: str, times: int = 1) -> dict[str, object]:
        return {"team": "cards", "urgency": len(message) * times}


@dspex.program
def plan(message: str, longest: int = 5) -> Call:
    """Plan a call."""
    return Call(message, longest)


@dspex.program
async def plan_later(message: str) -> Call:
    """Plan a call."""
    return Call(message, 5)


@dspex.program
def count(message: str) -> int:
    """Count the words."""
    return len(message.split())


def right(example: dspex.Example, prediction: dspex.Prediction[Triage]) -> bool:
    """Whether the team is right."""
    assert_type(prediction.outputs.team, Team)
    return prediction.outputs.team == example["team"]


def brief(_: dspex.Example, prediction: dspex.Prediction) -> float:
    """A metric of any program."""
    return float(len(str(prediction["reply"])) < 100)


DATA = dspex.Dataset.from_rows(
    [
        {"message": f"Message {number} on {team}", "team": team, "urgency": number % 4}
        for team in ("cards", "account")
        for number in range(8)
    ]
)


async def outputs_have_the_declared_types() -> None:
    triage = dspex.Predict(Triage, temperature=0.2, max_tokens=100, stop="END", seed=3)
    assert_type(triage, dspex.Predict[Triage])
    prediction = await triage.acall(message="My card is lost")
    assert_type(prediction, dspex.Prediction[Triage])
    assert_type(prediction.outputs.team, Team)
    assert_type(prediction.outputs.urgency, int)
    assert_type(prediction.usage, dspex.Usage)
    if TYPE_CHECKING:
        str(prediction.outputs.teem)  # wrong
        str(prediction.outputs.urgency + "!")  # wrong


async def modules_pass_the_types_on() -> None:
    plain, careful = dspex.Predict(Triage), dspex.ChainOfThought(Triage, top_p=0.5)
    either = dspex.OneOf(plain, careful, default="ChainOfThought")
    tuned = plain.with_variables(dspex.Float(0, 1, name="self.temperature"))
    assert_type(tuned.assign({"self.temperature": 0.5}), dspex.Predict[Triage])
    for module in (careful, either, dspex.Retry(plain), dspex.ReAct(Triage, []), tuned, Desk()):
        assert_type((await module.acall(message="x")).outputs.team, Team)
    assert_type((await strategies(Triage).acall(message="x")).outputs.team, Team)


def functions_keep_their_parameters() -> None:
    assert_type(plan(message="x").outputs.minutes, int)
    assert_type(plan(message="x", longest=3).outputs.number, str)
    assert_type(plan_later(message="x").outputs.minutes, int)
    assert_type(count(message="x").outputs, Any)
    plan(dspex.RunContext(), message="x")
    if TYPE_CHECKING:
        plan("x")  # wrong
        plan(mesage="x")  # wrong
        plan(message=3)  # wrong


async def modules_keep_the_parameters_of_forward() -> None:
    assert_type(Counter()(message="x").outputs.urgency, int)
    assert_type((await Counter().acall(message="x", times=3)).outputs.team, Team)
    Counter()(dspex.RunContext(), message="x")
    async for event in Counter().stream(message="x"):
        assert_type(event, StreamEvent)
    any_module: dspex.Module[Triage] = Counter()
    assert_type(any_module(message="x").outputs.team, Team)
    if TYPE_CHECKING:
        Counter()("x")  # wrong
        Counter()(mesage="x")  # wrong
        await Counter().acall(message="x", times="three")  # wrong
        Counter().stream(message=3)  # wrong


async def other_forms_of_signatures_have_any_outputs() -> None:
    assert_type(dspex.Predict("message -> team"), dspex.Predict[Any])
    shorter = dspex.Predict(Triage.with_instructions("Route it."))
    assert_type((await shorter.acall(message="x")).outputs, Any)
    named: dspex.Predict[Triage] = dspex.Predict(Triage.with_instructions("Route it."))
    assert_type((await named.acall(message="x")).outputs.team, Team)


async def metrics_fit_their_program() -> None:
    triage = dspex.Predict(Triage)
    await dspex.aevaluate(triage, DATA, right)
    await dspex.aevaluate(triage, DATA, {"right": right, "all": exact_match})
    await dspex.aevaluate(triage, DATA, lambda _, prediction: prediction.outputs.team == "cards")
    await dspex.aevaluate(triage, DATA, {"right": right, "polite": Judge("is polite")})
    outcome = await dspex.aoptimize(
        triage, dspex.LabeledFewShot(per_class=1), train=DATA, metric=right
    )
    assert_type((await outcome.program.acall(message="x")).outputs.team, Team)
    assert_type(outcome.candidate, dspex.Predict[Triage])
    if TYPE_CHECKING:
        await dspex.aevaluate(triage, DATA, Judge("is polite", model="local/gemma3-270m"))
        await dspex.aevaluate(dspex.Predict(Reply), DATA, brief)
        await dspex.aevaluate(dspex.Predict(Reply), DATA, right)  # wrong


def names_and_types_of_arguments_are_known() -> None:
    assert_type(dspex.OneOf("a", "b", weights=(1, 2)), dspex.variables.Variable)
    dspex.Predict(Triage, temperature=dspex.Float(0, 1.5), max_tokens=dspex.OneOf(64, 128))
    if TYPE_CHECKING:
        dspex.Predict(Triage, temprature=0.2)  # wrong
        dspex.Predict(Triage, temperature="hot")  # wrong
        dspex.ChainOfThought(Triage, max_tokens="many")  # wrong
        dspex.ReAct(Triage, [], sed=3)  # wrong
        dspex.context(timout=3)  # wrong
        dspex.configure(seed="x")  # wrong
        dspex.OneOf("a", "b", wights=(1, 2))  # wrong
        dspex.OneOf(dspex.Predict(Triage), weights=(1,))  # wrong
        dspex.Float(0, 1, step=2)  # wrong
