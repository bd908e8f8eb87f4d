"""`dspex.ask`: ask a person, and continue with the answer."""

import inspect
from collections.abc import Coroutine, Generator, Mapping
from typing import Any, Generic

from typing_extensions import TypeVar

from dspex.error_text import shorten
from dspex.errors import DefinitionError, DspexError, InputError
from dspex.execution.context import RunContext, current
from dspex.execution.frame import payload
from dspex.execution.question import AnswerCallback, Question, unfit_answer, waiting_error
from dspex.language.records import Prediction
from dspex.language.signatures import Signature
from dspex.sync import run

SignatureT = TypeVar("SignatureT", bound=Signature, default=Any, covariant=True)


class PendingAnswer(Generic[SignatureT]):
    """An answer to come: `await` it, or call `result()` in a synchronous `forward` or tool."""

    def __init__(self, answer: Coroutine[Any, Any, Prediction[SignatureT]]) -> None:
        """Take the coroutine that asks."""
        self._answer = answer

    def __await__(self) -> Generator[Any, None, Prediction[SignatureT]]:
        return self._answer.__await__()

    def result(self) -> Prediction[SignatureT]:
        """Return the answer: the synchronous form of `await`."""
        return run(self._answer)


def ask(
    signature: "type[SignatureT] | Signature | str",
    /,
    *,
    ttl: float | None = None,
    **inputs: Any,
) -> PendingAnswer[SignatureT]:
    """Ask a person: `inputs` are shown, and the outputs of `signature` are the answer.

    Write `answer = await dspex.ask("question -> approved: bool", question="...")`, or in
    synchronous code `dspex.ask(...).result()`.

    On a server, the execution waits, for days if necessary: it ends in this process, and once there
    is an answer, any server or worker runs the program again from its beginning. Model replies,
    tool results and earlier answers then come from its journal, so the program must not depend on
    anything else that changes, such as the time. Elsewhere, `dspex.context(answer=...)` answers.

    Args:
        signature: the inputs that are shown, and the outputs that the answer has.
        ttl: the seconds after which the question expires; without it, it never does.
        inputs: the inputs by name.

    Raises:
        DefinitionError: `ttl` is not positive, or the signature is wrong or has checks of outputs.
        InputError: the inputs do not fit the signature.
        QuestionExpiredError: nobody answered in time.
        WaitingForAnswerError: nobody can answer here, or the answer does not fit the signature.
    """
    shape = Signature.of(signature)
    if ttl is not None and (isinstance(ttl, bool) or not ttl > 0):
        raise DefinitionError(f"`ttl` of ask is a number of seconds above 0, not {shorten(ttl)}")
    if shape.output_checks:
        raise DefinitionError(
            f"{shape.name} has checks of its outputs, which are code: an answer is checked where "
            "it arrives, so check it after `ask`"
        )
    values = shape.validate_inputs(inputs)
    return PendingAnswer(_prediction(Question(signature=shape, inputs=values, ttl=ttl)))


async def _prediction(question: Question) -> Prediction[Any]:
    return Prediction(await answer_to(question))


async def answer_to(question: Question) -> dict[str, Any]:
    """Ask a question in the current context, in a span of its own; return the typed outputs.

    Raises:
        QuestionExpiredError: nobody answered in time.
        WaitingForAnswerError: nobody can answer here, or the answer does not fit.
    """
    context = current()
    span = context.begin("question", question.kind)
    if context.records_payloads:
        span.inputs = payload(question.inputs)
    try:
        outputs = answer_outputs(question, await answer_in(context, question))
    except BaseException as error:
        span.end(error=error)
        raise
    span.end(outputs=payload(outputs) if context.records_payloads else None)
    return outputs


async def answer_in(context: RunContext, question: Question) -> Mapping[str, Any]:
    """Return the answer to a question in a context, not yet validated.

    Raises:
        QuestionExpiredError: nobody answered in time.
        WaitingForAnswerError: nobody can answer here.
    """
    if context.answer is not None:
        return await _call_back(context.answer, question)
    if context.frame.durable is not None:
        return await context.frame.durable.ask(question)
    raise waiting_error(question)


async def _call_back(callback: AnswerCallback, question: Question) -> Mapping[str, Any]:
    """Return the callback's answer; its errors end the run instead of becoming observations."""
    try:
        answer = callback(question)
        return await answer if inspect.isawaitable(answer) else answer
    except DspexError:
        raise
    except Exception as error:
        reason = f"the function that answers raised {type(error).__name__}: {error}"
        raise waiting_error(question, reason) from error


def answer_outputs(question: Question, answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return the typed outputs of an answer.

    Raises:
        WaitingForAnswerError: the answer does not fit.
    """
    try:
        outputs: dict[str, Any] = question.signature.validate_outputs(answer)
    except InputError as error:
        raise waiting_error(question, unfit_answer(answer, error)) from error
    return outputs
