"""A language model as a metric."""

from collections.abc import Mapping
from typing import Any

from dspex.execution.modules import Module, Predict, Slot, module_of
from dspex.language.programs import Program
from dspex.language.records import Prediction
from dspex.language.signatures import Signature

_JUDGE = Signature(
    "criterion, task, inputs, outputs -> reason, score: probability",
    "Judge the outputs of a program by the criterion. First give a short reason, then a score from 0 (not at all) to 1 "
    "(entirely).",
)


class _Judging(Predict):
    """Asks the judging model. Nothing of it varies: a search would talk the judge round instead of doing better."""

    def slots(self) -> Mapping[str, Slot]:
        """Return nothing."""
        return {}

    def takes(self, slot: str) -> bool:
        """Return that no variable is bound here."""
        del slot
        return False


class Judge(Module):
    """Runs a program and lets a model score what came out; the score is the output `judged`, the reason `because`.

    Metrics are synchronous, so the judging is a step of the program: `evaluate(Judge(program, "is polite"), rows,
    judged)`. A judge whose reply cannot be read makes a failed row, not a zero. Its variables are those of the program,
    named `program.<path>`; the judge itself stays as it is in a search.
    """

    def __init__(
        self,
        program: Module | Program,
        criterion: str,
        *,
        model: Any = None,  # noqa: ANN401  # as in Predict
    ) -> None:
        """Take the program, what to judge it by, and the judging model; the context's by default."""
        self.program = module_of(program)
        self.criterion = criterion
        self.judge = _Judging(_JUDGE, model=model)

    def contract(self) -> Signature:
        """Return the program's signature."""
        return self.program.contract()

    async def forward(self, **inputs: Any) -> Mapping[str, Any]:  # noqa: ANN401
        """Run the program, then the judge."""
        outputs = (await self.program.acall(**inputs)).to_dict()
        said = await self.judge.acall(
            criterion=self.criterion,
            task=self.contract().instructions,
            inputs=str(inputs),
            outputs=str(outputs),
        )
        return {**outputs, "judged": said.score, "because": said.reason}


def judged(example: object, prediction: Prediction) -> float:
    """Return the score that a `Judge` gave."""
    del example
    return float(prediction["judged"])  # type: ignore[arg-type]
