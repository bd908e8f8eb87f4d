"""A language model as a metric: `Judge` is a step of the program, `judged` reads its score."""

from typing import Any

from dspex.execution.modules import Module, module_of
from dspex.execution.modules.judged_module import JudgedModule
from dspex.language.programs import Program
from dspex.language.records import Prediction


class Judge(JudgedModule):
    """Runs a program and lets a model score what came out; the score is the output `judged`, the reason `because`.

    Metrics are synchronous, so the judging is a step of the program: `evaluate(Judge(program, "is polite"), rows,
    judged)`. A judge whose reply cannot be read makes a failed row, not a zero. Its variables are those of the program,
    named `program.<path>`; the judge itself stays as it is in a search. It is stored like any program.
    """

    def __init__(
        self,
        program: Module | Program,
        criterion: str,
        *,
        model: Any = None,  # noqa: ANN401  # as in Predict
    ) -> None:
        """Take the program, what to judge it by, and the judging model; the context's by default."""
        super().__init__(module_of(program), criterion, model=model)


def judged(example: object, prediction: Prediction) -> float:
    """Return the score that a `Judge` gave."""
    del example
    return float(prediction["judged"])  # type: ignore[arg-type]
