"""Questions of a program to a person, and the memory of a run that waits for the answers."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

from dspex.error_text import shorten
from dspex.errors import InputError, WaitingForAnswerError
from dspex.language.signatures import Signature

T = TypeVar("T")
EffectKind = Literal["model", "tool", "retrieval"]
QuestionKind = Literal["question", "approval"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a program asks: `inputs` are shown, and the outputs of `signature` are the answer.

    After `ttl` seconds it expires. An "approval" is about the call of a tool.
    """

    signature: Signature
    inputs: Mapping[str, Any]
    kind: QuestionKind = "question"
    ttl: float | None = None


AnswerCallback = Callable[[Question], Mapping[str, Any] | Awaitable[Mapping[str, Any]]]
"""Returns the answer to a question: the outputs of its signature by name."""


class DurableRun(Protocol):
    """The memory of a run that may end while it waits, and starts again with the answers.

    When it starts again, nothing that has an answer is requested once more. Owned by one event
    loop. `recalls` is whether it has results of an earlier run.
    """

    @property
    def recalls(self) -> bool:
        """Return whether `recall` may have a result."""
        ...

    async def ask(self, question: Question) -> Mapping[str, Any]:
        """Return the answer to a question. Without one, the run is cancelled and waits.

        Raises:
            QuestionExpiredError: nobody answered in time.
            WaitingForAnswerError: this run cannot wait; the message has the reason.
        """
        ...

    async def recall(self, kind: EffectKind, key: Callable[[], str]) -> Any:
        """Return the JSON result of this call in an earlier run, once for each call; else None."""
        ...

    async def perform(
        self,
        kind: EffectKind,
        key: Callable[[], str],
        call: Awaitable[T],
        *,
        encode: Callable[[T], Any],
    ) -> T:
        """Return the result of `call`, and remember it as the JSON value that `encode` returns."""
        ...


def waiting_error(question: Question, reason: str = "") -> WaitingForAnswerError:
    """Return the error for a question that nobody can answer, with the ways to answer it."""
    outputs = ", ".join(f"{name!r}: ..." for name in question.signature.output_fields)
    why = reason or "nobody can answer here"
    error = WaitingForAnswerError(
        f"the program asks a person ({shorten(dict(question.inputs))}), and {why}. Answer with "
        f"`dspex.context(answer=[{{{outputs}}}])` or a function of the question, or run the "
        "program on a server (`dspex serve`), where it waits for `dspex execution answer`"
    )
    error.question = question
    return error


def unfit_answer(answer: object, error: InputError) -> str:
    """Return why an answer does not fit the outputs of its question."""
    if not isinstance(answer, Mapping):
        return f"an answer has its fields by name, and this one is {shorten(answer)}"
    parts = "; ".join(f"{field.path}: {field.message}" for field in error.fields)
    return f"the answer {shorten(dict(answer))} does not fit: {parts}"


def answers_in_order(answers: Sequence[Mapping[str, Any]]) -> AnswerCallback:
    """Return a callback that answers the first question with the first of `answers`, and so on.

    It raises `WaitingForAnswerError` for each question after them.
    """
    remaining = list(answers)

    def answer(question: Question) -> Mapping[str, Any]:
        if not remaining:
            reason = f"all {len(answers)} answers have been used" if answers else ""
            raise waiting_error(question, reason)
        return remaining.pop(0)

    return answer
