"""Conditions on what predictors answer: `Assert` asks again, `Suggest` notes it and goes on."""

from dspex.errors import CheckError
from dspex.execution.context import current
from dspex.execution.modules.model_call import note_suggestion
from dspex.language.records import Prediction


class UnmetError(CheckError):
    """An `Assert` that did not hold; the running module catches it and asks again."""

    def __init__(self, message: str, of: Prediction) -> None:
        super().__init__(message)
        self.of = of


def Assert(condition: object, message: str, *, of: Prediction) -> None:  # noqa: N802  # reads as a statement
    """Demand `condition` of the prediction `of`, inside the `forward` of a module.

    Where it does not hold, whoever made `of` is asked again, shown its answer and `message`, and the rest of `forward`
    runs anew; earlier calls are not made again but answered from memory. This happens at most twice in one run of a
    `forward`. So `forward` must do the same things in the same order each time it is given the same answers.

    Raises:
        CheckError: it still does not enforce_checks, or no call in this `forward` made `of`.
    """
    if not condition:
        raise UnmetError(message, of)


def Suggest(condition: object, message: str, *, of: Prediction) -> bool:  # noqa: N802
    """Note that `condition` does not hold of the prediction `of`, as an event of the run, and go on.

    Returns whether it holds.
    """
    if condition:
        return True
    context = current()
    trace_id = None if context.run is None else context.run.trace_id
    note_suggestion(context, message, path=of.trace.spans[-1].path if of.trace.spans else "", trace_id=trace_id)
    return False
