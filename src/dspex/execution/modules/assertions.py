"""Conditions on predictions: `Assert` retries the predictor, `Suggest` only reports."""

from dspex.errors import CheckError
from dspex.execution.context import current
from dspex.execution.modules.model_call import note_suggestion
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


def Suggest(condition: object, message: str, *, of: Prediction) -> bool:  # noqa: N802
    """Report as an event of the run if `condition` is false for the prediction `of`, and continue.

    Returns:
        Whether the condition is true.
    """
    if condition:
        return True
    note_suggestion(current(), message, path=of.trace.spans[-1].path if of.trace.spans else "")
    return False
