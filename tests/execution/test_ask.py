"""`dspex.ask` outside of a server: a callback or a list answers, or an error has the question."""

import asyncio
from typing import assert_type

import pytest

import dspex
from dspex import Prediction
from dspex.errors import DefinitionError, InputError, WaitingForAnswerError
from dspex.execution.question import Question
from dspex.testing import ScriptedModel


class Approval(dspex.Signature):
    """Approve a payment."""

    amount: float = dspex.Input()
    approved: bool = dspex.Output()


class Payment(dspex.Module):
    signature = "amount: float -> result"

    async def forward(self, amount: float):
        answer = await dspex.ask(Approval, amount=amount)
        assert_type(answer, Prediction[Approval])
        return {"result": "paid" if answer.outputs.approved else "refused"}


class SyncPayment(dspex.Module):
    signature = "amount: float -> result"

    def forward(self, amount: float):
        answer = dspex.ask(Approval, amount=amount).result()
        return {"result": "paid" if answer.approved else "refused"}


@pytest.mark.parametrize("module", [Payment(), SyncPayment()])
def test_a_callback_answers_sync_and_async_programs(module):
    questions = []

    def approve(question: Question):
        questions.append(question)
        return {"approved": question.inputs["amount"] < 10}

    with dspex.context(answer=approve):
        assert module(amount=3).result == "paid"
        assert module(amount=30).result == "refused"
    assert [question.signature.name for question in questions] == ["Approval", "Approval"]
    assert [question.kind for question in questions] == ["question", "question"]


async def test_an_async_callback_and_answers_in_order_answer():
    async def approve(question: Question):
        return {"approved": "yes"}

    with dspex.context(answer=approve):
        assert (await Payment().acall(amount=1)).result == "paid"
    with dspex.context(answer=[{"approved": True}, {"approved": False}]):
        results = [(await Payment().acall(amount=1)).result for _ in range(2)]
        assert results == ["paid", "refused"]
        with pytest.raises(WaitingForAnswerError, match="all 2 answers have been used"):
            await Payment().acall(amount=1)


def test_without_an_answer_the_error_holds_the_question():
    with pytest.raises(WaitingForAnswerError, match=r"answer=\[\{'approved': \.\.\.\}\]") as caught:
        Payment()(amount=5)
    assert caught.value.question.inputs == {"amount": 5.0}


def test_no_retry_and_no_tool_swallows_the_error():
    def buy(amount: float) -> str:
        """Buy something."""
        return dspex.ask(Approval, amount=amount).result().approved

    with pytest.raises(WaitingForAnswerError):
        dspex.Retry(Payment(), attempts=3)(amount=5)
    model = ScriptedModel("Action[buy](amount=3)")
    agent = dspex.ReAct("question -> answer", [buy])
    with dspex.context(model=model), pytest.raises(WaitingForAnswerError):
        agent(question="?")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ([{"aproved": True}], "aproved: unknown field. Did you mean 'approved'"),
        (lambda _question: "yes", "an answer has its fields by name, and this one is 'yes'"),
        (lambda question: question.inputs["nothing"], "raised KeyError: 'nothing'"),
    ],
)
def test_no_agent_takes_a_mistake_of_the_answer_for_an_observation(answer, reason):
    def buy(amount: float) -> str:
        """Buy something."""
        return dspex.ask(Approval, amount=amount).result().approved

    agent = dspex.ReAct("question -> answer", [buy])
    model = ScriptedModel("Action[buy](amount=3)")
    with (
        dspex.context(model=model, answer=answer),
        pytest.raises(WaitingForAnswerError) as caught,
    ):
        agent(question="?")
    assert reason in caught.value.message
    assert caught.value.question.inputs == {"amount": 3.0}


@pytest.mark.parametrize("answer", [{"approved": True}, "yes", 5])
def test_an_answer_that_is_not_a_list_is_refused_at_once(answer):
    with (
        pytest.raises(DefinitionError, match="`answer` of context takes a function, a list"),
        dspex.context(answer=answer),
    ):
        pass


def test_the_question_is_a_span_of_the_trace():
    with dspex.context(answer=[{"approved": True}]):
        prediction = Payment()(amount=5)
    assert [span.kind for span in prediction.trace.spans] == ["question", "module"]


def test_wrong_inputs_answers_and_times_are_typed_errors():
    with (
        dspex.context(answer=lambda _question: {"approved": "perhaps"}),
        pytest.raises(WaitingForAnswerError, match="approved: must be bool"),
    ):
        Payment()(amount=5)
    with pytest.raises(InputError, match="amount"):
        dspex.ask(Approval, amount="much")
    with pytest.raises(DefinitionError, match="above 0, not -1"):
        dspex.ask(Approval, amount=1, ttl=-1)
    with pytest.raises(DefinitionError, match="has checks"):
        dspex.ask(Checked, question="?")


class Checked(dspex.Signature):
    """Answer shortly."""

    question: str = dspex.Input()
    text: str = dspex.Output(check=lambda text: len(text) < 3)


def test_two_programs_wait_for_answers_of_their_own():
    async def both():
        async def run(amount: float):
            with dspex.context(answer=[{"approved": amount > 1}]):
                return (await Payment().acall(amount=amount)).result

        return await asyncio.gather(run(1), run(2))

    assert asyncio.run(both()) == ["refused", "paid"]
