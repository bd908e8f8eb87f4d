"""A language model as a metric: a `Judge` adds a score to the outputs, and `judged` reads it."""

from typing import Any

from dspex.execution.modules import Module, module_of
from dspex.execution.modules.judged_module import JudgedModule
from dspex.language.programs import Program
from dspex.language.records.prediction import Outputs


class Judge(JudgedModule[Outputs]):
    """Runs a program and has a model score the outputs; adds the outputs `judged` and `because`.

    Metrics are synchronous, so the judge is a step of the program: `evaluate(Judge(program, "is
    polite"), rows, judged)`. If the reply of the judge cannot be parsed, the row fails and does not
    count as zero. Its variables are those of the program, named `program.<path>`; a search does not
    change the judge. It is stored like any program.
    """

    def __init__(
        self,
        program: Module[Outputs] | Program,
        criterion: str,
        *,
        model: Any = None,
    ) -> None:
        """Take the program, the criterion, and the judging model (by default the context's)."""
        super().__init__(module_of(program), criterion, model=model)
