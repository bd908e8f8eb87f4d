"""Conditions on predictions: `Assert` retries the predictor, `Suggest` only reports."""

from dspex.errors import CheckError
from dspex.execution.context import current
from dspex.execution.modules.model_call import MAX_RETRIES, note_suggestion
from dspex.language.records import Prediction


class UnmetError(CheckError):
    """A failed `Assert`; the running module catches it and retries."""

    def __init__(self, message: str, of: Prediction) -> None:
        super().__init__(message)
        self.of = of


def Assert(condition: object, message: str, *, of: Prediction) -> None:  # noqa: N802  # a statement
    """Require `condition` of the prediction `of`, inside the `forward` of a module.

    If it is false, `forward` runs again: earlier calls return their recorded answers, and the
    module that made `of` is called again with its answer and `message`. This happens at most twice
    in one run of `forward`, so `forward` must make the same calls in the same order for the same
    answers.

    Raises:
        CheckError: the condition is still false, or no call in this `forward` made `of`.
    """
    if not condition:
        raise UnmetError(message, of)


def Suggest(  # noqa: N802  # a statement
    condition: object, message: str, *, of: Prediction, retries: int = 0
) -> bool:
    """Suggest `condition` to the prediction `of`, inside the `forward` of a module.

    If it is false, `forward` runs again as after a failed `Assert`, at most `retries` times, and at
    most twice in all. Then it is recorded as an event of the run and in its trace, and `forward`
    continues.

    Returns:
        Whether the condition is true.
    """
    if condition:
        return True
    context = current()
    memo = context.frame.memo
    if memo is not None:
        if len(memo.reasons) < MAX_RETRIES and memo.can_refuse(of, message, most=retries):
            raise UnmetError(message, of)
        memo.unmet.append(message)
    note_suggestion(context, message, path=of.trace.spans[-1].path if of.trace.spans else "")
    return False
